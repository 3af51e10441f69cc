"""Observe: what is told of every request, in the log and in the metrics, and the request id.

Owns the outermost layer around the application: it names the request, counts it, times it and writes its
line. Metric names and labels are those that existing dashboards know; none carries a lease, a holder or a
tenant. Log lines carry no key and no body.
"""

import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, get_args

import trio
from msgspec import Struct, field

from berth.core.requests import Outcome
from berth.runtime.asgi import AsgiApp, Message, Receive, Scope, Send
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.runtime.metrics import Metrics
from berth.service.limits import Kind
from berth.service.measured import BUCKETS_SECONDS, Call, Result
from berth.wire.problems import Label
from berth.wire.routes import HEALTHZ, LIVEZ

UNMATCHED = "unmatched"
GONE_STATUS = 499
"""Logged where the client went away before its answer; it is never sent."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"})
_QUIET = frozenset({HEALTHZ.route, LIVEZ.route})
_LABELS = tuple(label for label in get_args(Label) if label)
LABEL_OF: dict[str, Label] = {
    "Acquired": "acquired",
    "NotAcquired": "held-by-other",
    "Renewed": "renewed",
    "Lost": "held-by-other",
    "Released": "released",
    "Forced": "released",
}


class Entry(Struct):
    """What becomes known of one request on its way; the application fills it in.

    `outcomes` are a batch's. What is entered in `closing` ends with the request. `take_back` undoes what was
    granted if the answer could not be sent.
    """

    request_id: str
    route: str = UNMATCHED
    status: int = GONE_STATUS
    outcome: Label = ""
    outcomes: dict[Label, int] = field(default_factory=dict[Label, int])
    tenant: str = ""
    error: str = ""
    closing: ExitStack = field(default_factory=ExitStack)
    take_back: Callable[[], Awaitable[None]] | None = None
    answered: bool = False

    def count(self, label: Label, number: int = 1) -> None:
        """Note the outcome of operations of a batch."""
        self.outcomes[label] = self.outcomes.get(label, 0) + number


def label_of(outcome: Outcome) -> Label:
    return LABEL_OF.get(type(outcome).__name__, "")


class Instruments:
    """The server's metrics."""

    def __init__(self, metrics: Metrics, backend: str) -> None:
        request = ("route", "method", "status")
        self.duration = metrics.histogram(
            "berth_apiserver_request_duration_seconds", "Time to answer a request.", request
        )
        self.requests = metrics.counter("berth_apiserver_requests_total", "Requests answered.", request)
        self.inflight = metrics.gauge("berth_apiserver_requests_inflight", "Requests being answered.")
        self.outcomes = metrics.counter(
            "berth_apiserver_lease_outcomes_total", "What came of requests for leases.", ("outcome",)
        )
        for label in _LABELS:
            self.outcomes.labels(label)
        self.store = metrics.histogram(
            "berth_lease_store_call_duration_seconds",
            "Time that the store took for a call.",
            ("op", "backend", "outcome"),
            buckets=BUCKETS_SECONDS,
        )
        self.limited = metrics.counter(
            "berth_apiserver_limited_total",
            "Requests refused because their tenant is at a limit.",
            ("limit",),
        )
        for kind in get_args(Kind):
            self.limited.labels(kind)
        self.waiting = metrics.gauge("berth_apiserver_waiting", "Acquires that wait for a lease.")
        self.watching = metrics.gauge("berth_apiserver_watching", "Streams that watch leases.")
        self.stale = metrics.gauge(
            "berth_lease_store_stale_seconds",
            "For how long what other servers write cannot be heard; 0 while it can.",
        )
        self.certificate = metrics.gauge(
            "berth_apiserver_tls_certificate_not_after_seconds",
            "When the certificate being served expires, in seconds since 1970-01-01 UTC.",
        )
        self._backend = backend

    def observe_store(self, call: Call, result: Result, seconds: float) -> None:
        self.store.labels(call, self._backend, result).observe(seconds)


class Observed:
    """An application, observed. It finds its `Entry` as `scope["entry"]`, and its path undecoded."""

    def __init__(self, app: AsgiApp, *, instruments: Instruments, logger: Logger, clock: Clock) -> None:
        self._app = app
        self._instruments = instruments
        self._logger = logger
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry = scope["entry"] = Entry(_request_id(scope["headers"]))
        scope["path"] = _undecoded_path(scope["raw_path"])
        start_us = self._clock.boot_us()
        self._instruments.inflight.inc()
        try:
            with entry.closing:
                await self._app(scope, receive, _with_request_id(send, entry))
        finally:
            self._instruments.inflight.dec()
            self._note(scope, entry, self._clock.boot_us() - start_us)
            if entry.take_back is not None and not entry.answered:
                with trio.CancelScope(shield=True):
                    await entry.take_back()

    def _note(self, scope: Scope, entry: Entry, elapsed_us: int) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        labels = (entry.route, method, str(entry.status))
        self._instruments.requests.labels(*labels).inc()
        self._instruments.duration.labels(*labels).observe(elapsed_us / 1_000_000)
        outcomes = {entry.outcome: 1} if entry.outcome else entry.outcomes
        for label, count in outcomes.items():
            if label:
                self._instruments.outcomes.labels(label).inc(count)
        fields: dict[str, Any] = {
            "method": scope["method"],
            "path": scope["path"],
            "route": entry.route,
            "status": entry.status,
            "duration": elapsed_us * 1000,
            "request_id": entry.request_id,
        }
        told = {
            "outcome": entry.outcome,
            "holder": entry.tenant,
            "tenant": entry.tenant,
            "error": entry.error,
        }
        fields.update({name: value for name, value in told.items() if value})
        self._write(entry)("api request", **fields)

    def _write(self, entry: Entry) -> Callable[..., None]:
        if entry.status == 500:
            return self._logger.error
        return self._logger.debug if entry.route in _QUIET else self._logger.info


def _undecoded_path(raw_path: bytes) -> str:
    """For routing: an escaped slash belongs to its segment, and an empty first segment is one."""
    path = raw_path.decode("ascii")
    return "/%2F" + path[2:] if path.startswith("//") else path


def _with_request_id(send: Send, entry: Entry) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            entry.status = message["status"]
            message["headers"] = [*message["headers"], (b"x-request-id", entry.request_id.encode())]
        await send(message)
        entry.answered = message["type"] == "http.response.body" and not message.get("more_body", False)

    return sending


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The caller's own id if it is harmless, else its trace id, else a random one."""
    trace_id = ""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
        if name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value)):
            trace_id = match[1].decode("ascii")
    return trace_id or secrets.token_hex(16)
