"""Reading a request's body, for the applications that the server's tests serve."""

import trio

from berth.runtime.asgi import Receive, Scope


class BodyFault(Exception):
    """There is no whole body."""


class BodyTooLarge(BodyFault):
    """The body is, or says it is, over the limit; what is left of it has not been read."""


class BodyTooSlow(BodyFault):
    """The body was not whole at the deadline."""


class Disconnected(BodyFault):
    """The client is gone; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, *, limit_bytes: int, deadline_seconds: float) -> bytes:
    """The request's whole body. A declared length over the limit is BodyTooLarge before anything is read.

    Raises BodyTooLarge, BodyTooSlow or Disconnected.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limit_bytes:
            raise BodyTooLarge(f"more than {limit_bytes} bytes")
    with trio.move_on_after(deadline_seconds):
        return await _collect(receive, limit_bytes)
    raise BodyTooSlow(f"not whole after {deadline_seconds:g} s")


async def _collect(receive: Receive, limit_bytes: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected("the client went away in the middle of its request")
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise BodyTooLarge(f"more than {limit_bytes} bytes")
        if not message.get("more_body", False):
            return bytes(body)
