"""Applications and addresses that several tests of the server share."""

import ssl

import trio
import trustme

from berth.runtime.asgi import Receive, Scope, Send
from berth.runtime.serve import Server
from tests.runtime.bodies import BodyFault, read_body
from tests.runtime.conftest import Dial

GET = b"GET / HTTP/1.1\r\nHost: berth\r\n\r\n"
# What must happen at a limit is given this much longer, on a busy machine.
SLACK_SECONDS = 5.0


async def answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body it was sent, or the name of the fault."""
    try:
        body = await read_body(scope, receive, limit_bytes=1000, deadline_seconds=60)
    except BodyFault as fault:
        await answer(send, 413, type(fault).__name__.encode())
    else:
        await answer(send, 200, body or scope["path"].encode())


async def dribble(stream: trio.SocketStream, *, within_seconds: float) -> None:
    """Sends a byte at a time until the server has closed the connection."""
    with trio.fail_after(within_seconds):
        try:
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.05)
        except trio.BrokenResourceError:
            pass


class Held:
    """An application that answers when it is let go."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.let_go = trio.Event()
        self.left = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.set()
        try:
            await self.let_go.wait()
            await answer(send, 200, b"done")
        finally:
            self.left.set()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.configure_trust(context)
    return context


async def connect_tls(
    dial: Dial, server: Server, context: ssl.SSLContext
) -> trio.SSLStream[trio.SocketStream]:
    stream = trio.SSLStream(await dial(server), context, server_hostname="localhost", https_compatible=True)
    await stream.do_handshake()
    return stream
