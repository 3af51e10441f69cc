"""ASGI without a framework: reading a body under limits, and the metrics port's application.

Promises that a body costs at most its limit in memory and its deadline in time. Knows no server.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio

from berth.runtime import metrics

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


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


def metrics_app(registry: metrics.Metrics) -> AsgiApp:
    """`GET /metrics` renders the registry, `GET /healthz` is `ok` while this process can answer at all."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        status, content_type, body = _page(registry, scope["method"], scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _page(registry: metrics.Metrics, method: str, path: str) -> tuple[int, str, bytes]:
    plain = "text/plain; charset=utf-8"
    if method not in {"GET", "HEAD"} or path not in {"/metrics", "/healthz"}:
        return 404, plain, b"not found; try GET /metrics\n"
    if path == "/healthz":
        return 200, plain, b"ok\n"
    return 200, metrics.CONTENT_TYPE, registry.render()
