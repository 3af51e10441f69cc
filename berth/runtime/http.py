"""The door to httpx: one request, and one whole reply within one deadline, or a reply that goes on.

Owns the connection pools and the trust in servers' certificates. Promises that every failure says whether
the request can have reached the server: `NotSent` or `OutcomeUnknown`. Does not retry, follow redirects,
read proxies from the environment or decompress: what the server sends is what the caller gets, up to a
limit.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import httpx
import trio

from berth.runtime.http_stream import (
    HttpFault,
    Lines,
    NotSent,
    OutcomeUnknown,
    Pieces,
    Reply,
    explain,
    origin,
    whole,
)

__all__ = [
    "CaFileInvalid",
    "Channel",
    "HttpClient",
    "HttpFault",
    "Lines",
    "NotSent",
    "OutcomeUnknown",
    "Pieces",
    "Reply",
    "trusting",
    "trusting_anybody",
]

MAX_CONNECTIONS = 100
MAX_PATIENT_CONNECTIONS = 1000
# Shorter than any server's idle limit should be, so that it is we who close.
KEEP_ALIVE_SECONDS = 30.0
# Cancelled from outside, a handshake leaves its socket to the garbage collector; this limit closes it.
CONNECT_SHARE = 0.9
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024

T = TypeVar("T")


class CaFileInvalid(Exception):
    """The CA file cannot be used; the text names it and says what to do."""


class Channel(Protocol):
    """A way to servers that is opened with `async with`; see `HttpClient`."""

    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

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
    ) -> Reply: ...

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
    ) -> Lines | Reply: ...


class HttpClient:
    """Open it with `async with`. Trusts the system's certificate authorities, and those of `ca_file` besides.

    `tls` is a context to use instead, with its own trust and perhaps a certificate of the client's;
    `server_name` is whom the server's certificate must name, where that is not the host of the URL. Raises
    CaFileInvalid when the file cannot be used.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        ca_file: Path | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        trusted = tls or trusting(ca_file)
        self._server_name = server_name

        def pool(connections: int) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                verify=trusted,
                limits=httpx.Limits(max_connections=connections, keepalive_expiry=KEEP_ALIVE_SECONDS),
                headers={"user-agent": user_agent, "accept-encoding": "identity"},
                trust_env=False,
                follow_redirects=False,
            )

        # What waits for minutes must not take the connection of what is answered at once.
        self._prompt = pool(MAX_CONNECTIONS)
        self._patient = pool(MAX_PATIENT_CONNECTIONS)

    async def __aenter__(self) -> Self:
        await self._prompt.__aenter__()
        await self._patient.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._patient.__aexit__(kind, error, trace)
        await self._prompt.__aexit__(kind, error, trace)

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
        """The server's reply, whatever its status. Raises NotSent or OutcomeUnknown.

        `wait_seconds` is how much of the time the server has been asked to take before it answers.
        """
        client = self._patient if wait_seconds else self._prompt
        connect_seconds = (timeout_seconds - wait_seconds) * CONNECT_SHARE
        request = _Request(method, url, headers, body, timeout_seconds, connect_seconds, self._server_name)
        return await _exchange(client, request, partial(whole, max_body_bytes=max_body_bytes))

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
        """The lines of a reply with status 200 and this media type; of any other the whole.

        The time is for the reply to begin; then there is a line every `line_seconds`. Raises as `request`.
        """

        async def begun(response: httpx.Response) -> Lines | Reply:
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if (response.status_code, kind) == (200, media_type):
                return Lines(response, line_seconds, max_line_bytes)
            return await whole(response, MAX_BODY_BYTES)

        return await _exchange(self._patient, self._lasting(method, url, headers, timeout_seconds), begun)

    async def pieces(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
        idle_seconds: float,
    ) -> Pieces | Reply:
        """A reply with status 200 as it comes; of any other the whole.

        The time is for the reply to begin; then something comes every `idle_seconds`. Raises as `request`.
        """

        async def begun(response: httpx.Response) -> Pieces | Reply:
            if response.status_code == 200:
                return Pieces(response, idle_seconds)
            return await whole(response, MAX_BODY_BYTES)

        return await _exchange(self._patient, self._lasting(method, url, headers, timeout_seconds), begun)

    def _lasting(
        self, method: str, url: str, headers: Mapping[str, str] | None, timeout_seconds: float
    ) -> "_Request":
        connect_seconds = timeout_seconds * CONNECT_SHARE
        return _Request(method, url, headers, None, timeout_seconds, connect_seconds, self._server_name)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str] | None
    body: bytes | None
    timeout_seconds: float
    connect_seconds: float
    server_name: str | None


async def _exchange(
    client: httpx.AsyncClient, request: _Request, take: Callable[[httpx.Response], Awaitable[T]]
) -> T:
    """What `take` makes of the response, within the deadline. Raises NotSent or OutcomeUnknown."""
    url, name, sent = request.url, request.server_name, False

    async def trace(event: str, _: Mapping[str, Any]) -> None:
        nonlocal sent
        sent = sent or event == "http11.send_request_headers.started"

    try:
        built = client.build_request(
            request.method,
            url,
            headers=request.headers,
            content=request.body,
            timeout=httpx.Timeout(None, connect=request.connect_seconds),
            extensions={"trace": trace} | ({"sni_hostname": name} if name else {}),
        )
        with trio.fail_after(request.timeout_seconds):
            return await take(await client.send(built, stream=True))
    except (trio.TooSlowError, httpx.TimeoutException) as fault:
        silence = _fault(sent, f"{origin(url)} did not answer within {request.timeout_seconds:.3g} s")
        silence.silent = True
        raise silence from fault
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as fault:  # a name's encoding
        raise NotSent(f"{url} is no http:// or https:// address") from fault
    except httpx.TransportError as fault:
        raise _fault(sent, explain(url, fault, sent=sent)) from fault


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """What a client trusts: the system's authorities, and those in `ca_file`. Raises CaFileInvalid."""
    context = ssl.create_default_context()
    if ca_file is None:
        return context
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError as fault:
        raise CaFileInvalid(f"{ca_file}: no CA certificate in PEM format in it") from fault
    except OSError as fault:
        raise CaFileInvalid(f"{ca_file}: the CA file cannot be read: {fault.strerror}") from fault
    return context


def trusting_anybody() -> ssl.SSLContext:
    """Trust for whom it was asked for in so many words: whoever is on the way can be the server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _fault(sent: bool, text: str) -> HttpFault:
    return OutcomeUnknown(text) if sent else NotSent(text)
