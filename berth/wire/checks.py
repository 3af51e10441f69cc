"""Checks: what must hold of a request before the lease is looked at, in the order that clients can observe.

Owns the field rules and their texts. Promises a core request or a `Failure` with the code and text for
people; never another exception, whatever bytes come in.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from berth.core.names import CACHED_MAX, Key, holder_problem, key_problem, name_problem, namespace_problem
from berth.core.requests import Acquire, ForceRelease, Release, Renew
from berth.core.sessions import OpenSession
from berth.wire.problems import Failure
from berth.wire.routes import WAIT_MAX_SECONDS
from berth.wire.shapes import (
    AcquireBody,
    BatchAcquire,
    BatchRelease,
    BatchRenew,
    ForceReleaseBody,
    ReleaseBody,
    RenewBody,
    SessionBody,
    VerifyBody,
)

SECOND_US = 1_000_000
LOCK_DELAY_MAX_SECONDS = 600
REASON_MAX_BYTES = 1024


class TtlBounds(msgspec.Struct, frozen=True):
    """The ttl that a server grants, in seconds, both ends included."""

    min_seconds: float
    max_seconds: float


class BodyDecoder:
    """Decodes bodies of one type; `null` is the empty object."""

    def __init__(self, body_type: type) -> None:
        self._empty = body_type()
        self._decoder = msgspec.json.Decoder(body_type | None)

    def __call__(self, raw: bytes) -> object:
        try:
            body = self._decoder.decode(raw)
        except UNREADABLE as error:
            raise body_failure(error) from error
        return self._empty if body is None else body


UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoder raises, whatever bytes come."""


def body_failure(error: Exception) -> Failure:
    """Why a body cannot be read, for people."""
    if isinstance(error, RecursionError):
        return Failure("invalid_body", "invalid json body: too deeply nested")
    if isinstance(error, UnicodeDecodeError):
        return Failure("invalid_body", "invalid json body: invalid UTF-8")
    if "trailing characters" in str(error):
        return Failure("invalid_body", "request body must contain one JSON object")
    return Failure("invalid_body", f"invalid json body: {str(error)[:200]}")


@lru_cache(maxsize=CACHED_MAX)
def checked_key(namespace: str, name: str) -> Key:
    """The key, or a failure that says which half is wrong."""
    checked_namespace(namespace)
    problem = name_problem(name)
    if problem:
        raise Failure("invalid_name", problem)
    key = Key(namespace, name)
    problem = key_problem(key)
    if problem:
        raise Failure("invalid_key", problem)
    return key


def checked_namespace(namespace: str) -> str:
    problem = namespace_problem(namespace)
    if problem:
        raise Failure("invalid_namespace", problem)
    return namespace


def wait_seconds(body: AcquireBody) -> int:
    """How long to wait for the lease; 0: not at all."""
    seconds = body.wait_seconds or 0
    if not 0 <= seconds <= WAIT_MAX_SECONDS:
        raise Failure("invalid_body", f"waitSeconds must be from 0 to {WAIT_MAX_SECONDS}")
    return seconds


def acquire_request(body: AcquireBody | BatchAcquire, bounds: TtlBounds) -> Acquire:
    holder = _holder(body.holder)
    if body.session is not None and body.ttl_seconds is not None:
        raise Failure("ttl_and_session")
    ttl_us = _ttl_us(body.ttl_seconds, bounds) if body.session is None else 0
    lock_delay_seconds = body.lock_delay_seconds or 0
    if not 0 <= lock_delay_seconds <= LOCK_DELAY_MAX_SECONDS:
        raise Failure("invalid_body", f"lockDelaySeconds must be from 0 to {LOCK_DELAY_MAX_SECONDS}")
    semantics = body.semantics or "at-most-once"
    if body.max_holders is not None and semantics == "at-most-once":
        raise Failure("invalid_body", "maxHolders goes with semantics at-least-once")
    if body.max_holders is not None and body.max_holders < 1:
        raise Failure("invalid_body", "maxHolders must be positive")
    return Acquire(
        holder,
        ttl_us,
        body.session,
        semantics=semantics,
        max_holders=body.max_holders,
        lock_delay_us=lock_delay_seconds * SECOND_US,
    )


def session_request(session: str, body: SessionBody, bounds: TtlBounds) -> OpenSession:
    """The request to open a session under the new id `session`."""
    holder = _holder(body.holder)
    instance = body.instance or ""
    if instance and holder_problem(instance):
        raise Failure("invalid_body", "instance must be at most 253 bytes without control characters")
    return OpenSession(session, holder, instance, _ttl_us(body.ttl_seconds, bounds))


def renew_request(body: RenewBody | BatchRenew, bounds: TtlBounds) -> Renew:
    return Renew(_holder(body.holder), _token(body.fencing_token), _ttl_us(body.ttl_seconds, bounds))


def renew_requests(
    operations: Iterable[object], bounds: TtlBounds, may_act: Callable[[str], bool], into: dict[Key, Renew]
) -> bool:
    """Nothing but renewals, each as it must be, for holders as which the caller `may_act`: all are `into` it.

    False where anything is otherwise: then each must be looked at by itself. A batch is mostly one holder's.
    """
    least, most = max(bounds.min_seconds, 1), bounds.max_seconds
    known = ""
    for each in operations:
        if type(each) is not BatchRenew:
            return False
        holder, token, ttl_seconds = each.holder, each.fencing_token, each.ttl_seconds
        if holder != known:
            if holder is None or holder_problem(holder) is not None or not may_act(holder):
                return False
            known = holder
        if token is None or token <= 0 or ttl_seconds is None or not least <= ttl_seconds <= most:
            return False
        try:
            key = checked_key(each.namespace, each.name)
        except Failure:
            return False
        into[key] = Renew(known, token, ttl_seconds * SECOND_US)
    return True


def release_request(body: ReleaseBody | BatchRelease) -> Release:
    """Token 0, or none, releases what is free already, as the reference server has it."""
    holder = _holder(body.holder, length_limited=False)
    return Release(holder, _token(body.fencing_token, zero_allowed=True))


def verify_question(body: VerifyBody) -> tuple[int, str | None]:
    """The token, and the holder if one was given."""
    holder = None if body.holder is None else _holder(body.holder)
    return _token(body.fencing_token), holder


def force_release_request(body: ForceReleaseBody) -> tuple[ForceRelease, str]:
    """The request and the reason given."""
    token = _token(body.fencing_token)
    reason = body.reason or ""
    if not reason.strip() or len(reason.encode(errors="replace")) > REASON_MAX_BYTES:
        raise Failure("invalid_body", f"reason is required, in at most {REASON_MAX_BYTES} bytes")
    return ForceRelease(token), reason


def _holder(holder: str | None, *, length_limited: bool = True) -> str:
    problem = holder_problem(holder or "", length_limited=length_limited)
    if problem:
        raise Failure("invalid_holder", problem)
    assert holder is not None
    return holder


def _token(token: int | None, *, zero_allowed: bool = False) -> int:
    if (token or 0) < 0:
        raise Failure("invalid_token", "fencingToken must not be negative")
    if not token and not zero_allowed:
        raise Failure("invalid_token")
    return token or 0


def _ttl_us(ttl_seconds: int | None, bounds: TtlBounds) -> int:
    if ttl_seconds is None or ttl_seconds <= 0:
        raise Failure("invalid_ttl")
    if ttl_seconds > bounds.max_seconds:
        raise Failure(
            "ttl_too_large", f"ttlSeconds must be at most {_number(bounds.max_seconds)} on this server"
        )
    if ttl_seconds < bounds.min_seconds:
        raise Failure(
            "ttl_too_small", f"ttlSeconds must be at least {_number(bounds.min_seconds)} on this server"
        )
    return ttl_seconds * SECOND_US


def _number(seconds: float) -> str:
    return str(int(seconds)) if seconds == int(seconds) else str(seconds)
