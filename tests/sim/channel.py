"""Channel: a process's way into the network, as the client wants it (`berth.runtime.http.Channel`)."""

from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trio

from berth.runtime.http import MAX_BODY_BYTES, MAX_LINE_BYTES, Lines, OutcomeUnknown, Reply
from tests.sim.engine import Process
from tests.sim.network import Exchange, Network, Request
from tests.sim.streams import Stream


class SimChannel:
    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_seconds: float,
        wait_seconds: float = 0.0,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> Reply:
        server, request = _addressed(method, url, headers, body)
        return await self._network.exchange(self._process, server, request, timeout_seconds, Exchange())

    async def lines(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
        media_type: str,
        line_seconds: float,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> Lines | Reply:
        server, request = _addressed(method, url, headers, None)
        exchange = Exchange()
        reply = await self._network.exchange(self._process, server, request, timeout_seconds, exchange)
        if exchange.stream is None:
            return reply
        return SimLines(self._network, exchange, exchange.stream, line_seconds)


class SimLines(Lines):
    """A reply line by line, with nothing of httpx below it."""

    def __init__(self, network: Network, exchange: Exchange, stream: Stream, line_seconds: float) -> None:
        self._network = network
        self._exchange = exchange
        self._stream = stream
        self._line_seconds = line_seconds
        self._here: deque[bytes] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._here:
            with trio.move_on_after(self._line_seconds) as patience:
                chunk = await self._stream.next()
                if chunk is None and self._stream.over:
                    raise OutcomeUnknown(self._stream.over)
                if chunk is None:
                    raise StopAsyncIteration
                self._here.extend(chunk.splitlines())
            if patience.cancelled_caught:
                raise OutcomeUnknown("nothing was sent for a long time")
        return self._here.popleft()

    async def aclose(self) -> None:
        self._network.hang_up(self._exchange)


def _addressed(
    method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None
) -> tuple[str, Request]:
    """The server that a URL names, and what is sent to it."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return parts.netloc, Request(method, target, headers or {}, body or b"")
