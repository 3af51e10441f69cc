"""A server of one's own: HTTPS on a free port, whose every reply is scripted, down to the bytes."""

import json
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import trio

Step = Callable[[trio.SSLStream[trio.SocketStream]], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """What the server received. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    raw_body: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw_body)


@dataclass
class Scripted:
    """Takes one step of the script for each request; a request beyond the script gets a bare 500."""

    url: str
    script: deque[Step] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)

    def will(self, *steps: Step) -> None:
        self.script.extend(steps)

    async def handle(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            received = b""
            while True:
                while b"\r\n\r\n" not in received:
                    more = await stream.receive_some()
                    if not more:
                        return
                    received += more
                head, _, received = received.partition(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                length = int(headers.get("content-length", "0"))
                while len(received) < length:
                    received += await stream.receive_some()
                method, target, _ = first.split(" ")
                self.requests.append(Request(method, target, headers, received[:length]))
                received = received[length:]
                await (self.script.popleft() if self.script else answer(500))(stream)


async def serve_scripted(
    context: ssl.SSLContext, *, task_status: trio.TaskStatus[Scripted] = trio.TASK_STATUS_IGNORED
) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    server = Scripted(f"https://127.0.0.1:{port}")
    await trio.serve_listeners(
        server.handle,
        [trio.SSLListener(listener, context, https_compatible=True)],
        task_status=_as(task_status, server),
    )


def _as(task_status: trio.TaskStatus[Scripted], server: Scripted) -> Any:
    class Started:
        def started(self, _: object = None) -> None:
            task_status.started(server)

    return Started()


def answer(status: int, body: Any = b"", **headers: str) -> Step:
    """A whole reply; what is not bytes is sent as JSON. `retry_after="1"` is the header `retry-after: 1`."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    fields = {"content_type": kind, "content_length": str(len(raw)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    phrase = HTTPStatus(status).phrase
    return partial(_send, data=f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n".encode() + raw)


def problem(status: int, code: str, text: str = "no", **headers: str) -> Step:
    return answer(status, {"error": text, "code": code}, **headers)


async def _send(stream: trio.SSLStream[trio.SocketStream], data: bytes) -> None:
    await stream.send_all(data)


async def hang_up(stream: trio.SSLStream[trio.SocketStream]) -> None:
    """The connection breaks with the request received and no reply sent."""
    await trio.aclose_forcefully(stream)


async def hang_up_within_reply(stream: trio.SSLStream[trio.SocketStream]) -> None:
    await stream.send_all(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"acquired": tr')
    await trio.aclose_forcefully(stream)


@dataclass
class Stall:
    """Sends what it has, then nothing more. `begun` tells when."""

    sent: bytes = b""
    begun: trio.Event = field(default_factory=trio.Event)

    async def __call__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.send_all(self.sent)
        self.begun.set()
        await trio.sleep_forever()


def granted(holder: str = "team/me", token: int = 7, **more: Any) -> Step:
    return answer(200, grant(holder, token, **more))


def grant(holder: str = "team/me", token: int = 7, **more: Any) -> dict[str, Any]:
    return {
        "acquired": True,
        "holder": holder,
        "fencingToken": token,
        "expiresAt": "2030-01-01T00:00:30Z",
        "acquiredAt": "2030-01-01T00:00:00Z",
        **more,
    }
