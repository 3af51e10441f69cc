"""A few connections to a server, kept, for many short requests at once.

Owns whose turn it is, and which connections are kept. Promises that who came first is served first, that the
cost of a request does not grow with those that wait, and that every failure says whether the request can have
reached the server. Does not retry, follow redirects or read proxies from the environment.

httpx, by which all else is asked, looks through its whole queue whenever a connection is free: of a thousand
requests at once some wait until their time is over.
"""

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trio

from berth.runtime.http import KEEP_ALIVE_SECONDS, MAX_BODY_BYTES, NotSent, Reply
from berth.runtime.http1 import Http1Connection, connected, request_bytes
from berth.runtime.http_stream import origin

CONNECTIONS_MAX = 64


class HttpPool:
    """Open it with `async with`. Of one server only: `tls` has the trust in it, and who we are.

    `server_name` is whom its certificate must name, where that is not the host of the URL.
    """

    def __init__(self, *, user_agent: str, tls: ssl.SSLContext, server_name: str | None = None) -> None:
        self._headers = {"user-agent": user_agent}
        self._tls = tls
        self._server_name = server_name
        self._turns = trio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[tuple[float, Http1Connection]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._idle:
            self._idle.pop()[1].close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_seconds: float,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> Reply:
        """The server's reply, whatever its status. Raises NotSent or OutcomeUnknown."""
        deadline = trio.current_time() + timeout_seconds
        server, request = _encoded(method, url, {**self._headers, **(headers or {})}, body)
        with trio.move_on_at(deadline) as waiting:
            await self._turns.acquire()
        if waiting.cancelled_caught:
            raise _late(server, timeout_seconds)
        try:
            connection = self._kept() or await self._opened(server, deadline, timeout_seconds)
            try:
                return await connection.exchange(
                    request, timeout_seconds=deadline - trio.current_time(), max_body_bytes=max_body_bytes
                )
            finally:
                if connection.usable:
                    self._idle.append((trio.current_time(), connection))
                else:
                    connection.close()
        finally:
            self._turns.release()

    async def _opened(self, server: str, deadline: float, timeout_seconds: float) -> Http1Connection:
        left_seconds = deadline - trio.current_time()
        if left_seconds <= 0:
            raise _late(server, timeout_seconds)
        return await connected(server, self._tls, timeout_seconds=left_seconds, server_name=self._server_name)

    def _kept(self) -> Http1Connection | None:
        """The connection that was used last, if the server has not ended it, nor is about to."""
        while self._idle:
            idle_since, connection = self._idle.pop()
            if trio.current_time() - idle_since < KEEP_ALIVE_SECONDS and connection.silent:
                return connection
            connection.close()
        return None


def _encoded(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[str, bytes]:
    """The server, and all that is sent to it. Raises NotSent."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise NotSent(f"{origin(url)} is no http:// or https:// address")
        server, target = origin(url), url.partition(parts.netloc)[2].partition("#")[0] or "/"
        return server, request_bytes(method, server, target, headers=headers, body=body)
    except ValueError as fault:  # an encoding's error is one, too
        raise NotSent("the address, or a header, is not for HTTP to carry") from fault


def _late(server: str, timeout_seconds: float) -> NotSent:
    fault = NotSent(f"no connection to {origin(server)} was free within {timeout_seconds:.3g} s")
    fault.silent = True
    return fault
