"""The door to httpx: one request, and one whole reply within one deadline, or a reply line by line.

Owns the connection pools and the trust in servers' certificates. Promises that every failure says whether
the request can have reached the server: `NotSent` or `OutcomeUnknown`. Does not retry, follow redirects,
read proxies from the environment or decompress: what the server sends is what the caller gets, up to a
limit.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import trio

MAX_CONNECTIONS = 100
MAX_PATIENT_CONNECTIONS = 1000
# Shorter than any server's idle limit should be, so that it is we who close.
KEEP_ALIVE_SECONDS = 30.0
# Cancelled from outside, a handshake leaves its socket to the garbage collector; this limit closes it.
CONNECT_SHARE = 0.9
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024
# OpenSSL's verdicts that another file of authorities can change.
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}
_NOT_TLS = {"HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER"}


T = TypeVar("T")


class HttpFault(Exception):
    """No whole reply came. The text is for people. `silent`: the time ran out."""

    silent = False


class NotSent(HttpFault):
    """Nothing of the request reached the server."""


class OutcomeUnknown(HttpFault):
    """The request may have reached the server, and may have taken effect."""


class CaFileInvalid(Exception):
    """The CA file cannot be used; the text names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Lines:
    """A reply that goes on, line by line. Iterate it in one task, and close it in the end."""

    def __init__(self, response: httpx.Response, line_seconds: float, max_line_bytes: int) -> None:
        self._response = response
        self._chunks = response.aiter_raw()
        self._line_seconds = line_seconds
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next line, without its end. Raises OutcomeUnknown when it is late or long, or never came."""
        url = str(self._response.url)
        await trio.lowlevel.checkpoint()
        try:
            with trio.fail_after(self._line_seconds):
                while (end := self._rest.find(b"\n")) < 0 and len(self._rest) <= self._max_line_bytes:
                    self._rest += await anext(self._chunks)
        except trio.TooSlowError as fault:
            silence = OutcomeUnknown(f"{_origin(url)} sent nothing for {self._line_seconds:.3g} s")
            silence.silent = True
            raise silence from fault
        except StopAsyncIteration:
            if self._rest:
                raise OutcomeUnknown(f"{_origin(url)} ended its reply within a line") from None
            raise
        except httpx.TransportError as fault:
            raise OutcomeUnknown(_explain(url, fault, sent=True)) from fault
        if not 0 <= end <= self._max_line_bytes:
            raise OutcomeUnknown(f"{_origin(url)} sent a line of more than {self._max_line_bytes} bytes")
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    async def aclose(self) -> None:
        await _close(self._response, self._chunks)


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

    Raises CaFileInvalid when that file cannot be used.
    """

    def __init__(self, *, user_agent: str, ca_file: Path | None = None) -> None:
        trusted = trusting(ca_file)

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
        request = _Request(method, url, headers, body, timeout_seconds, connect_seconds)
        return await _exchange(client, request, partial(_whole, max_body_bytes=max_body_bytes))

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
            return await _whole(response, MAX_BODY_BYTES)

        request = _Request(method, url, headers, None, timeout_seconds, timeout_seconds * CONNECT_SHARE)
        return await _exchange(self._patient, request, begun)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str] | None
    body: bytes | None
    timeout_seconds: float
    connect_seconds: float


async def _exchange(
    client: httpx.AsyncClient, request: _Request, take: Callable[[httpx.Response], Awaitable[T]]
) -> T:
    """What `take` makes of the response, within the deadline. Raises NotSent or OutcomeUnknown."""
    url, sent = request.url, False

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
            extensions={"trace": trace},
        )
        with trio.fail_after(request.timeout_seconds):
            return await take(await client.send(built, stream=True))
    except (trio.TooSlowError, httpx.TimeoutException) as fault:
        silence = _fault(sent, f"{_origin(url)} did not answer within {request.timeout_seconds:.3g} s")
        silence.silent = True
        raise silence from fault
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as fault:  # a name's encoding
        raise NotSent(f"{url} is no http:// or https:// address") from fault
    except httpx.TransportError as fault:
        raise _fault(sent, _explain(url, fault, sent=sent)) from fault


async def _whole(response: httpx.Response, max_body_bytes: int) -> Reply:
    body = bytearray()
    chunks = response.aiter_raw()
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > max_body_bytes:
                origin = _origin(str(response.url))
                raise OutcomeUnknown(f"{origin} sent a body of more than {max_body_bytes} bytes")
    finally:
        await _close(response, chunks)
    return Reply(response.status_code, dict(response.headers), bytes(body))


async def _close(response: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
    """Left where they are, httpx's nested generators are never closed; closed underneath, they end."""
    await response.aclose()
    try:
        async for _ in chunks:
            pass
    except (httpx.TransportError, httpx.StreamError):
        pass


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


def _fault(sent: bool, text: str) -> HttpFault:
    return OutcomeUnknown(text) if sent else NotSent(text)


def _explain(url: str, fault: httpx.TransportError, *, sent: bool) -> str:
    cause = _innermost(fault)
    if isinstance(cause, ssl.SSLCertVerificationError):
        unknown = cause.verify_code in _UNKNOWN_AUTHORITY
        verdict = "is not trusted" if unknown else "cannot be accepted"
        return f"the certificate of {_origin(url)} {verdict}: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
        return (
            f"{_origin(url)} does not speak TLS; check the port (what serves without TLS is asked by http://)"
        )
    reason = (cause.strerror if isinstance(cause, OSError) else "") or str(cause) or type(fault).__name__
    reason = reason.removesuffix(".")
    if isinstance(fault, httpx.RemoteProtocolError | httpx.ReadError) and url.startswith("http:"):
        reason += "; if it speaks TLS, it is asked by https://"
    if sent:
        return f"the connection to {_origin(url)} broke before the whole reply was here: {reason}"
    return f"cannot connect to {_origin(url)}: {reason}"


def _innermost(fault: BaseException) -> BaseException:
    """What was wrong at first: httpx wraps httpcore's wrapping of Trio's, one for each address tried."""
    while inner := (fault.exceptions[0] if isinstance(fault, BaseExceptionGroup) else _cause(fault)):
        fault = inner
    return fault


def _cause(fault: BaseException) -> BaseException | None:
    return fault.__cause__ or fault.__context__


def _origin(url: str) -> str:
    """Scheme, host and port: what people need, without a path, a query or credentials."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
