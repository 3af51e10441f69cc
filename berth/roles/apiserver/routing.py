"""Routing: the operation table as a Quart application.

Owns the way between HTTP and the handlers: routes, keys, bodies in and replies out, and every error as JSON
with a code. Promises that nothing but a defect is a 500, and that its text stays in the log.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import msgspec
import trio
from quart import Response, request
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioRequest
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import MapAdapter

from berth.roles.apiserver.ask import Ask, Handler, Lines, limited, note_bounds
from berth.roles.apiserver.auth import ANYBODY, Authenticator
from berth.roles.apiserver.observe import Entry
from berth.runtime.asgi import AsgiApp
from berth.runtime.health import Readiness
from berth.runtime.log import Logger
from berth.service.limits import Lane, Limits
from berth.store.api import StoreFault
from berth.wire import batch
from berth.wire.checks import BodyDecoder
from berth.wire.problems import Code, Failure
from berth.wire.routes import (
    BATCH,
    BODY_MAX_BYTES,
    END_SESSION,
    HEALTHZ,
    LIVEZ,
    OPERATIONS,
    READYZ,
    RELEASE,
    RENEW,
    RENEW_SESSION,
    Operation,
)
from berth.wire.shapes import ErrorReply

BODY_SECONDS = 5.0
RETRY_AFTER_MOST_SECONDS = 3

_encode = msgspec.json.Encoder().encode
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_NDJSON = "application/x-ndjson"
_BODY_MAX_BYTES = {operation.path: operation.body_max_bytes for operation in OPERATIONS}
_KEEPS_ALIVE = {RENEW.id, RELEASE.id, RENEW_SESSION.id, END_SESSION.id}


def error_body(status: int) -> bytes:
    """The JSON for what the server refuses before any route is known."""
    codes: dict[int, Code] = {400: "invalid_body", 431: "invalid_body", 500: "internal"}
    return _encode(ErrorReply(HTTPStatus(status).phrase.lower(), codes.get(status, "invalid_body"))) + b"\n"


def build_app(
    handlers: Mapping[str, Handler],
    *,
    authenticator: Authenticator,
    limits: Limits,
    ready: Callable[[], Awaitable[Readiness]],
    logger: Logger,
) -> AsgiApp:
    """The application over `handlers` by operation. It expects to be called through `observe.Observed`."""
    app = _App("berth", static_folder=None)
    # Quart's own limits of time would cut streams off and answer in HTML.
    app.config.update(BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    for operation in OPERATIONS:
        if operation.text:
            view = _health_view(operation, ready, logger)
        else:
            view = _view(operation, handlers[operation.id], authenticator, limits)
        rule = operation.path.replace("{", "<").replace("}", ">")
        app.add_url_rule(rule, operation.id, view, methods=[operation.method])
    _handle_errors(app, limits, logger)
    return cast("AsgiApp", app)


class _Request(TrioRequest):
    """A request whose body is limited as its path has it."""

    def __init__(self, method: str, scheme: str, path: str, *rest: Any, **settings: Any) -> None:
        self.body_max_bytes = _BODY_MAX_BYTES.get(path, BODY_MAX_BYTES)
        settings["max_content_length"] = self.body_max_bytes
        super().__init__(method, scheme, path, *rest, **settings)


class _App(QuartTrio):
    """Routes by the path alone: whatever host the caller thinks it talks to, it talks to this one."""

    request_class = _Request

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        if request is None:
            return None
        return self.url_map.bind("berth", path_info=request.path, default_method=request.method)


View = Callable[..., Awaitable[Response]]


def _view(operation: Operation, handler: Handler, authenticator: Authenticator, limits: Limits) -> View:
    decode = _decoder(operation)
    lane: Lane = "renew_rate" if operation.id in _KEEPS_ALIVE else "rate"

    async def read_body() -> object:
        assert decode is not None
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Failure("invalid_body", "the request body must not be encoded (Content-Encoding)")
        with trio.move_on_after(BODY_SECONDS):
            return decode(await request.body)
        raise Failure("invalid_body", f"the request body was not whole after {BODY_SECONDS:g} s")

    async def view(**parts: str) -> Response:
        entry = _entry(operation)
        identity = ANYBODY
        if operation.role is not None:
            identity = authenticator.identify(request.headers.getlist("Authorization"))
            entry.tenant = identity.tenant
            # What a batch takes is counted by its operations.
            retry_after_seconds = None if operation is BATCH else limits.rates[lane].take(identity.tenant)
            if retry_after_seconds is not None:
                raise limited(limits, lane, retry_after_seconds)
        decoded = {name: unquote(part) for name, part in parts.items()}
        ask = Ask(operation, identity, entry, decoded, request.args, read_body)
        reply = await handler(ask)
        if reply is None:
            return _no_content(operation.status)
        if isinstance(reply, Lines):
            if request.method == "HEAD":
                return Response(b"", content_type=_NDJSON)
            return Response(reply.lines, content_type=_NDJSON)
        return Response(_encode(reply) + b"\n", operation.status, content_type=_JSON)

    return view


def _decoder(operation: Operation) -> Callable[[bytes], object] | None:
    if operation is BATCH:
        return batch.operations
    return BodyDecoder(operation.body) if operation.body is not None else None


def _no_content(status: int) -> Response:
    response = Response(b"", status)
    del response.headers["Content-Type"]
    return response


def _health_view(operation: Operation, ready: Callable[[], Awaitable[Readiness]], logger: Logger) -> View:
    async def alive() -> Response:
        _entry(operation)
        return Response(b"ok\n", content_type=_TEXT)

    async def readyz() -> Response:
        _entry(operation)
        readiness = await ready()
        if readiness.degraded:
            logger.warning("ready, but degraded", reason=readiness.degraded)
            return Response(f"ok\ndegraded: {readiness.degraded}\n", content_type=_TEXT)
        if readiness.ok:
            return Response(b"ok\n", content_type=_TEXT)
        logger.warning("readiness check failed", reason=readiness.reason)
        return Response(b"not ready\n", 503, content_type=_TEXT)

    assert operation in (HEALTHZ, LIVEZ, READYZ)
    return readyz if operation is READYZ else alive


def _entry(operation: Operation | None = None) -> Entry:
    entry: Entry = request.scope["entry"]  # type: ignore[typeddict-item]  # our own key beside ASGI's
    if operation is not None:
        entry.route = operation.route
    return entry


def _handle_errors(app: QuartTrio, limits: Limits, logger: Logger) -> None:
    async def failed(failure: Failure) -> Response:
        note_bounds(limits, failure)
        return _failure_reply(failure)

    async def store_failed(fault: StoreFault) -> Response:
        code: Code = "store_unavailable" if fault.outcome_known else "outcome_unknown"
        logger.warning("store fault", error=str(fault), code=code, request_id=_entry().request_id)
        failure = Failure(code, fault.told, retry_after_seconds=fault.retry_after_seconds)
        _entry().error = str(fault)
        return _failure_reply(failure)

    async def refused(error: HTTPException) -> Response:
        return _failure_reply(_failure_of(error), _headers_of(error))

    async def broken(error: Exception) -> Response:
        logger.error("request failed", request_id=_entry().request_id, exc_info=error)
        _entry().error = f"{type(error).__name__}: {error}"
        return _failure_reply(Failure("internal"))

    app.register_error_handler(Failure, failed)
    app.register_error_handler(StoreFault, store_failed)
    app.register_error_handler(HTTPException, refused)
    app.register_error_handler(Exception, broken)


def _failure_reply(failure: Failure, headers: dict[str, str] | None = None) -> Response:
    entry = _entry()
    entry.outcome = failure.problem.label
    status = failure.problem.status
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    if status in (429, 503):
        headers = {"Retry-After": str(_retry_after_seconds(failure))}
    reply = ErrorReply(failure.text, failure.code, entry.request_id if status == 500 else "")
    return Response(_encode(reply) + b"\n", status, headers, content_type=_JSON)


def _retry_after_seconds(failure: Failure) -> int:
    """Whole seconds, at least one, and not the same for everybody who was refused in one moment."""
    asked = failure.retry_after_seconds or 0.0
    return max(1, int(-(-asked // 1))) + secrets.randbelow(RETRY_AFTER_MOST_SECONDS)


def _failure_of(error: HTTPException) -> Failure:
    """What the framework refuses, in our words."""
    match error:
        case RequestEntityTooLarge():
            limit = cast("_Request", request).body_max_bytes
            return Failure("body_too_large", f"request body must be at most {limit} bytes")
        case NotFound():
            return Failure("not_found", "no such path; see /openapi.json")
        case MethodNotAllowed():
            return Failure("method_not_allowed")
        case _:
            return Failure("invalid_body", f"bad request: {error.description or error.name}")


def _headers_of(error: HTTPException) -> dict[str, str] | None:
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        return {"Allow": ", ".join(sorted(set(error.valid_methods)))}
    return None
