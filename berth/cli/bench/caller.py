"""Caller: one try of a call, timed, over a bounded number of connections that are kept open.

Owns the connections and the two instants of each call. `sent_us` is read before the first byte leaves and
`received_us` when the whole reply is here; making a connection and waiting for a free one are in neither.
Promises no second try: what fails is told. Does not know what a reply means.
"""

import ssl
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

import msgspec
import trio

from berth.cli.bench.tally import Tally
from berth.client.keys import ApiKey
from berth.runtime.clock import Clock
from berth.runtime.http import KEEP_ALIVE_SECONDS, HttpFault, NotSent, Reply
from berth.runtime.http1 import Http1Connection, connected, request_bytes
from berth.version import VERSION
from berth.wire.routes import Operation

REQUEST_SECONDS = 10.0


class Told(NamedTuple):
    """What one try came to: a reply, or the code of what went wrong."""

    sent_us: int
    received_us: int
    reply: Reply | None
    code: str = ""


class Server(NamedTuple):
    """Where it is and how it is spoken to."""

    url: str
    trust: ssl.SSLContext
    key: ApiKey | None


class Caller:
    """Opened with `async with`. `tally` is the one that counts now; it may be replaced."""

    def __init__(self, server: Server, concurrency: int, clock: Clock) -> None:
        self.tally = Tally()
        self._server = server
        self._clock = clock
        self._free = trio.Semaphore(concurrency)
        self._idle: list[tuple[float, Http1Connection]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, connection in self._idle:
            connection.close()

    async def ask(self, operation: Operation, body: object = None, **segments: str) -> Told:
        """One call, when its turn comes."""
        request = self.request(operation, body, **segments)
        asked_us = self._clock.boot_us()
        async with self._free:
            started_us = self._clock.boot_us()
            self.tally.requests += 1
            self.tally.queued.add(started_us - asked_us)
            try:
                connection = self._kept() or await self.connection()
            except NotSent:
                return Told(started_us, self._clock.boot_us(), None, "unreachable")
            sent_us = self._clock.boot_us()
            try:
                reply = await connection.exchange(request, timeout_seconds=REQUEST_SECONDS)
            except HttpFault as fault:
                return Told(sent_us, self._clock.boot_us(), None, code_of_fault(fault))
            finally:
                if connection.usable:
                    self._idle.append((trio.current_time(), connection))
                else:
                    connection.close()
            return Told(sent_us, self._clock.boot_us(), reply)

    def request(
        self, operation: Operation, body: object = None, *, query: str = "", **segments: str
    ) -> bytes:
        target = operation.path.format(**{name: quote(text, safe="") for name, text in segments.items()})
        headers = {"user-agent": f"berth-bench/{VERSION}"}
        if self._server.key is not None:
            headers["authorization"] = f"Bearer {self._server.key.current().reveal()}"
        encoded = None if body is None else msgspec.json.encode(body)
        return request_bytes(
            operation.method, self._server.url, target + query, headers=headers, body=encoded
        )

    async def connection(self) -> Http1Connection:
        """A new one. Raises NotSent."""
        return await connected(self._server.url, self._server.trust, timeout_seconds=REQUEST_SECONDS)

    def _kept(self) -> Http1Connection | None:
        """The connection that was used last, if the server cannot have tired of it."""
        with suppress(IndexError):
            idle_since, connection = self._idle.pop()
            if trio.current_time() - idle_since < KEEP_ALIVE_SECONDS:
                return connection
            for _, stale in [*self._idle, (idle_since, connection)]:
                stale.close()
            self._idle.clear()
        return None


def code_of_fault(fault: HttpFault) -> str:
    return "timeout" if fault.silent else "connection_broken"


class _ErrorBody(msgspec.Struct):
    code: str = ""


def code_of(reply: Reply) -> str:
    """The code of a reply that is an error, or its status where it has none."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        code = msgspec.json.decode(reply.body, type=_ErrorBody).code
        if code:
            return code
    return f"http_{reply.status}"
