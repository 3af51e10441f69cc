"""What comes back over httpx: a whole reply, or one that goes on, piece by piece or line by line; and how
it fails.

Owns the faults, and the reading of a response to its end. Promises that nothing is read beyond a limit, that
silence ends at a deadline, and that a reply which is closed frees its connection. Opens none: see `http`.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import httpx
import trio

# OpenSSL's verdicts that another file of authorities can change.
_UNKNOWN_AUTHORITY = {18, 19, 20, 21}
_NOT_TLS = {"HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER"}


class HttpFault(Exception):
    """No whole reply came. The text is for people. `silent`: the time ran out."""

    silent = False


class NotSent(HttpFault):
    """Nothing of the request reached the server."""


class OutcomeUnknown(HttpFault):
    """The request may have reached the server, and may have taken effect."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Pieces:
    """A reply that goes on, as it comes. Iterate it in one task, and close it in the end."""

    def __init__(self, response: httpx.Response, idle_seconds: float) -> None:
        self._url = str(response.url)
        self._response = response
        self._chunks = response.aiter_raw()
        self._idle_seconds = idle_seconds

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes. Raises OutcomeUnknown when they are late, or the connection broke."""
        return await self._within(self._idle_seconds)

    async def _within(self, seconds: float) -> bytes:
        await trio.lowlevel.checkpoint()
        try:
            with trio.fail_after(seconds):
                return await anext(self._chunks)
        except trio.TooSlowError as fault:
            silence = OutcomeUnknown(f"{origin(self._url)} sent nothing for {self._idle_seconds:.3g} s")
            silence.silent = True
            raise silence from fault
        except httpx.TransportError as fault:
            raise OutcomeUnknown(explain(self._url, fault, sent=True)) from fault

    async def aclose(self) -> None:
        await close(self._response, self._chunks)


class Lines(Pieces):
    """A reply that goes on, line by line, each of them in time."""

    def __init__(self, response: httpx.Response, line_seconds: float, max_line_bytes: int) -> None:
        super().__init__(response, line_seconds)
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()

    async def __anext__(self) -> bytes:
        """The next line, without its end. Raises OutcomeUnknown when it is late or long, or never came."""
        deadline = trio.current_time() + self._idle_seconds
        await trio.lowlevel.checkpoint()
        try:
            while (end := self._rest.find(b"\n")) < 0 and len(self._rest) <= self._max_line_bytes:
                self._rest += await self._within(max(0.0, deadline - trio.current_time()))
        except StopAsyncIteration:
            if self._rest:
                raise OutcomeUnknown(f"{origin(self._url)} ended its reply within a line") from None
            raise
        if not 0 <= end <= self._max_line_bytes:
            raise OutcomeUnknown(f"{origin(self._url)} sent a line of more than {self._max_line_bytes} bytes")
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line


async def whole(response: httpx.Response, max_body_bytes: int) -> Reply:
    """All of a reply. Raises OutcomeUnknown for more than that."""
    body = bytearray()
    chunks = response.aiter_raw()
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > max_body_bytes:
                sender = origin(str(response.url))
                raise OutcomeUnknown(f"{sender} sent a body of more than {max_body_bytes} bytes")
    finally:
        await close(response, chunks)
    return Reply(response.status_code, dict(response.headers), bytes(body))


async def close(response: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
    """Left where they are, httpx's nested generators are never closed; closed underneath, they end."""
    await response.aclose()
    try:
        async for _ in chunks:
            pass
    except (httpx.TransportError, httpx.StreamError):
        pass


def explain(url: str, fault: BaseException, *, sent: bool) -> str:
    """A transport's fault, for people."""
    cause = _innermost(fault)
    if isinstance(cause, ssl.SSLCertVerificationError):
        unknown = cause.verify_code in _UNKNOWN_AUTHORITY
        verdict = "is not trusted" if unknown else "cannot be accepted"
        return f"the certificate of {origin(url)} {verdict}: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
        return (
            f"{origin(url)} does not speak TLS; check the port (what serves without TLS is asked by http://)"
        )
    reason = (cause.strerror if isinstance(cause, OSError) else "") or str(cause) or type(fault).__name__
    reason = reason.removesuffix(".")
    if isinstance(fault, httpx.RemoteProtocolError | httpx.ReadError) and url.startswith("http:"):
        reason += "; if it speaks TLS, it is asked by https://"
    if sent:
        return f"the connection to {origin(url)} broke before the whole reply was here: {reason}"
    return f"cannot connect to {origin(url)}: {reason}"


def _innermost(fault: BaseException) -> BaseException:
    """What was wrong at first: httpx wraps httpcore's wrapping of Trio's, one for each address tried."""
    while inner := (fault.exceptions[0] if isinstance(fault, BaseExceptionGroup) else _cause(fault)):
        fault = inner
    return fault


def _cause(fault: BaseException) -> BaseException | None:
    return fault.__cause__ or fault.__context__


def origin(url: str) -> str:
    """Scheme, host and port: what people need, without a path, a query or credentials."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
