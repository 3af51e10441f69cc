"""Answers: what one try of a call came to.

Owns the judgement of a server's reply, by its status and the code in it. Promises a value of a closed union
for whatever comes. Who tries again, and where, is not decided here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, TypeVar

import msgspec

from berth.client.believe import Unbelievable
from berth.client.errors import (
    ApiError,
    Conflict,
    Invalid,
    NotAllowed,
    NotFound,
    RevisionTooOld,
    WrongAddress,
)
from berth.core.names import shown
from berth.runtime.http import Reply
from berth.wire.routes import Operation

ResultT = TypeVar("ResultT")
Reader = Callable[[bytes], ResultT]

TEXT_MAX = 1000


@dataclass(frozen=True, slots=True)
class Done(Generic[ResultT]):
    """The reply, read and believed."""

    value: ResultT


@dataclass(frozen=True, slots=True)
class Refused:
    """The server's last word: nothing was changed, and another server would say the same."""

    error: ApiError


@dataclass(frozen=True, slots=True)
class NotDone:
    """Nothing was changed; another server, or this one later, may do it. `refusal` is what a server said."""

    text: str
    refusal: ApiError | None = None


@dataclass(frozen=True, slots=True)
class Unclear:
    """The server may have made the change. `defect`: it says that it has one."""

    text: str
    defect: bool = False


Answer = Done[ResultT] | Refused | NotDone | Unclear


def judged(reply: Reply, *, operation: Operation, read: Reader[ResultT], origin: str) -> Answer[ResultT]:
    """The answer in `reply` to `operation`, whose success `read` reads; `origin` is who sent it."""
    told = f"{origin} answered {reply.status}"
    if reply.status == operation.status:
        try:
            return Done(read(reply.body))
        except Unbelievable as fault:
            return Unclear(f"{told} ({_media_type(reply)}), but {fault}")
    if 300 <= reply.status < 400:
        target = shown(reply.headers.get("location", ""))
        return Unclear(f"{told}, a redirect to {target} , not followed; give the API server's own address")
    error = _error(reply) if reply.status >= 400 else None
    if error is None:
        return Unclear(f"{told} ({_media_type(reply)}), which no API server does; check the address")
    if error.status == HTTPStatus.NOT_FOUND and error.code not in operation.codes:
        return Refused(_wrong_address(error, f"{told}: {error}"))
    return _judged_error(error, f"{told}: {error}")


def _wrong_address(error: ApiError, told: str) -> WrongAddress:
    return WrongAddress(told, status=error.status, code=error.code, request_id=error.request_id)


def _judged_error(error: ApiError, told: str) -> Answer[ResultT]:
    match error.status, error.code:
        case (429, _) | (503, "store_unavailable" | "shutting_down"):
            return NotDone(told, error)
        case (503, "quarantine" | "token_exhausted"):
            return Refused(error)
        case (status, _) if status < 500:
            return Refused(error)
        case _:
            return Unclear(told, defect=error.code == "internal")


class _ErrorBody(msgspec.Struct):
    """The reference server gives no code."""

    error: str
    code: str = ""
    requestId: str = ""


_KINDS: dict[int, type[ApiError]] = {
    HTTPStatus.BAD_REQUEST: Invalid,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Invalid,
    HTTPStatus.UNAUTHORIZED: NotAllowed,
    HTTPStatus.FORBIDDEN: NotAllowed,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: RevisionTooOld,
}


def _error(reply: Reply) -> ApiError | None:
    """The error that an API server tells, or None when something else answered, such as a proxy."""
    try:
        body = msgspec.json.decode(reply.body, type=_ErrorBody)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return _KINDS.get(reply.status, ApiError)(
        body.error[:TEXT_MAX],
        status=reply.status,
        code=body.code[:TEXT_MAX],
        request_id=(body.requestId or reply.headers.get("x-request-id", ""))[:TEXT_MAX],
        retry_after_seconds=_retry_after_seconds(reply),
    )


def _retry_after_seconds(reply: Reply) -> float | None:
    try:
        seconds = float(reply.headers.get("retry-after", ""))
    except ValueError:
        return None  # absent, or a date: the wall clocks of two machines decide nothing here
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _media_type(reply: Reply) -> str:
    return reply.headers.get("content-type", "no content type").partition(";")[0][:100]
