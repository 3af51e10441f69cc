"""One connection to an HTTP/1.1 server, kept open: for who asks a lot, and cannot spend httpx's time on it.

Owns one socket, its TLS, and as much of HTTP as the lease API and kube-apiservers speak: replies with a
Content-Length, in chunks or without a body, and chunked lines of a stream. Promises that a reply is whole and
answers the request that was sent, or a fault that says whether the request can have reached the server; after
a fault the connection is closed. Requests go one after the other. Knows no pool, no retries, no redirects.
"""

import select
import ssl
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trio

from berth.runtime.http import NotSent, OutcomeUnknown, Reply
from berth.runtime.http_stream import explain, origin

HEAD_MAX_BYTES = 64 * 1024
RECEIVE_BYTES = 64 * 1024
BODY_MAX_BYTES = 64 * 1024 * 1024

Stream = trio.SSLStream[trio.SocketStream] | trio.SocketStream


def request_bytes(
    method: str, url: str, target: str, *, headers: Mapping[str, str], body: bytes | None = None
) -> bytes:
    """A whole request for `target` below the base URL `url`. Raises ValueError for what cannot be in one."""
    parts = urlsplit(url)
    given = {"host": parts.netloc, **headers}
    if body is not None:
        given.setdefault("content-type", "application/json")
        given["content-length"] = str(len(body))
    lines = [f"{method} {parts.path}{target} HTTP/1.1", *(f"{name}: {of}" for name, of in given.items())]
    head = "\r\n".join([*lines, "", ""]).encode("ascii")
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
        raise ValueError("a line break in a request's head")
    return head + (body or b"")


class Http1Connection:
    """Made by `connected`. Close it with `close`, or use it as an `async with`."""

    def __init__(self, stream: Stream, origin: str) -> None:
        self._stream = stream
        self._transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._origin = origin
        self._buffer = bytearray()
        self._chunked = False
        self._lines: deque[bytes] = deque()
        self._begun = b""
        self.usable = True
        """Another request may be sent on it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """At once, without a word to the server."""
        self.usable = False
        self._transport.socket.close()

    @property
    def silent(self) -> bool:
        """Whether nothing has come since the last reply: what comes unasked is the connection's end."""
        poll = select.poll()
        poll.register(self._transport.socket.fileno(), select.POLLIN)
        return not self._buffer and not poll.poll(0)

    async def exchange(
        self, request: bytes, *, timeout_seconds: float, max_body_bytes: int = BODY_MAX_BYTES
    ) -> Reply:
        """The reply to one request. Raises OutcomeUnknown."""
        self.usable = False  # until the reply is whole
        with trio.move_on_after(timeout_seconds):
            await self._send(request)
            status, headers = await self._head()
            body = await self._body(status, headers, max_body_bytes)
            self.usable = headers.get("connection", "").lower() != "close"
            return Reply(status, headers, body)
        raise self._silent(timeout_seconds)

    async def open_stream(self, request: bytes, *, timeout_seconds: float) -> Reply:
        """The reply, its body empty when `line` is to read that. Raises OutcomeUnknown."""
        self.usable = False
        with trio.move_on_after(timeout_seconds):
            await self._send(request)
            status, headers = await self._head()
            self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
            body = b"" if self._chunked else await self._body(status, headers, BODY_MAX_BYTES)
            return Reply(status, headers, body)
        raise self._silent(timeout_seconds)

    async def line(self, *, timeout_seconds: float) -> bytes | None:
        """The next line of the stream; None at its end. Raises OutcomeUnknown, also when it is silent."""
        with trio.move_on_after(timeout_seconds):
            while not self._lines and self._chunked:
                await self._read_chunk()
            return self._lines.popleft() if self._lines else None
        raise self._silent(timeout_seconds)

    async def _read_chunk(self) -> None:
        chunk = await self._chunk(BODY_MAX_BYTES)
        if not chunk:
            self._chunked = False
        *lines, self._begun = (self._begun + chunk).split(b"\n")
        self._lines.extend(lines)

    async def _chunk(self, max_bytes: int) -> bytes:
        """The next one; the last is empty."""
        written = await self._through(b"\r\n")
        try:
            size = int(written, 16)
        except ValueError as fault:
            raise self._broken("sent a chunk of unknown length") from fault
        if not 0 <= size <= max_bytes:
            raise self._broken(f"sent a body of more than {max_bytes} bytes")
        return (await self._exactly(size + 2))[:-2]

    async def _body(self, status: int, headers: Mapping[str, str], max_bytes: int) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            length = self._length(status, headers)
            if length > max_bytes:
                raise self._broken(f"sent a body of more than {max_bytes} bytes")
            return await self._exactly(length)
        body = bytearray()
        while chunk := await self._chunk(max_bytes - len(body)):
            body += chunk
        return bytes(body)

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
            raise self._broken("broke while a request was sent") from fault

    async def _head(self) -> tuple[int, dict[str, str]]:
        head = (await self._through(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        if not first.startswith("HTTP/1.1 ") or not first[9:12].isdigit():
            raise self._broken("does not speak HTTP/1.1")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(first[9:12]), headers

    def _length(self, status: int, headers: Mapping[str, str]) -> int:
        if status == 204:
            return 0
        length = headers.get("content-length", "")
        if not length.isdigit():
            raise self._broken("sent a reply of unknown length")
        return int(length)

    async def _through(self, end: bytes) -> bytes:
        """What comes before the next `end`, both taken."""
        start = 0
        while (at := self._buffer.find(end, start)) < 0:
            if len(self._buffer) > HEAD_MAX_BYTES:
                raise self._broken("sent a head without an end")
            start = max(0, len(self._buffer) - len(end))
            await self._receive()
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._receive()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _receive(self) -> None:
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
            raise self._broken("broke before the whole reply was here") from fault
        if not data:
            raise self._broken("ended before the whole reply was here")
        self._buffer += data

    def _silent(self, timeout_seconds: float) -> OutcomeUnknown:
        fault = self._broken(f"was silent for {timeout_seconds:.3g} s")
        fault.silent = True
        return fault

    def _broken(self, what: str) -> OutcomeUnknown:
        self.close()
        return OutcomeUnknown(f"the connection to {self._origin} {what}")


async def connected(
    url: str, trust: ssl.SSLContext, *, timeout_seconds: float, server_name: str | None = None
) -> Http1Connection:
    """A connection to the server that `url` (http or https) names. Raises NotSent."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    called = origin(url)
    stream: trio.SocketStream | None = None
    made = False
    try:
        with trio.move_on_after(timeout_seconds):
            stream = await trio.open_tcp_stream(host, parts.port or (80 if parts.scheme == "http" else 443))
            if parts.scheme == "http":
                made = True
                return Http1Connection(stream, called)
            secured = trio.SSLStream(
                stream, trust, server_hostname=server_name or host, https_compatible=True
            )
            await secured.do_handshake()
            made = True
            return Http1Connection(secured, called)
        fault = NotSent(f"cannot connect to {called}: no answer within {timeout_seconds:.3g} s")
        fault.silent = True
        raise fault
    except (OSError, trio.BrokenResourceError) as fault:
        raise NotSent(explain(url, fault, sent=False)) from fault
    finally:
        if stream is not None and not made:
            stream.socket.close()
