"""Sessions: what a request makes of a holder's sign of life.

Pure, as `decide`. A session ends once and for all, and its end says how; its ttl never changes. A session
that only looks expired still stands until somebody has written its end: that write is what makes it safe to
take over the leases under it.
"""

from typing import Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from berth.core.records import Session, SessionEnd, SessionSeen


class OpenSession(Struct, frozen=True, gc=False):
    """A new session under an `id` that nobody used before."""

    id: str
    holder: str
    instance: str
    ttl_us: int


class RenewSession(Struct, frozen=True, gc=False):
    """The holder lives."""


class EndSession(Struct, frozen=True, gc=False):
    """End it: `clean` by its holder, `forced` by an admin, `expired` only if it has outlived its ttl."""

    how: SessionEnd


SessionRequest = OpenSession | RenewSession | EndSession


class SessionAlive(Struct, frozen=True, gc=False):
    """It lives, until `expires_at_us` if nothing is heard of it."""

    session: Session
    remaining_us: int
    expires_at_us: int


class SessionOver(Struct, frozen=True, gc=False):
    """It does not live. `unknown`: the store has no such session, so nothing hangs on it either."""

    reason: Literal["ended", "expired", "unknown"]


SessionOutcome = SessionAlive | SessionOver


class SessionDecision(Struct, frozen=True, gc=False):
    """What to write (None: nothing), and what to answer once that write has won."""

    write: Session | None
    outcome: SessionOutcome


def decide_session(seen: SessionSeen | None, at_us: int, request: SessionRequest) -> SessionDecision:
    """What `request` makes of the session as `seen`; `at_us` is the reading's wall clock, for people."""
    match request:
        case OpenSession():
            assert seen is None, "a session id is used once"
            return _open(at_us, request)
        case RenewSession():
            return _renew(seen, at_us)
        case EndSession():
            return _end(seen, at_us, request.how)
        case _:
            assert_never(request)


def _open(at_us: int, request: OpenSession) -> SessionDecision:
    assert request.ttl_us > 0
    assert request.holder
    session = Session(request.id, 1, request.holder, request.instance, request.ttl_us, at_us)
    return SessionDecision(session, _alive(session, request.ttl_us, at_us))


def _renew(seen: SessionSeen | None, at_us: int) -> SessionDecision:
    if seen is None or seen.session.ended is not None:
        return SessionDecision(None, _over(seen))
    if seen.idle_us > seen.session.ttl_us:
        # Its holder will be told that it is over, so it must be over for everybody.
        return _end(seen, at_us, "expired")
    session = replace(seen.session, version=seen.session.version + 1, mark=None)
    return SessionDecision(session, _alive(session, session.ttl_us, at_us))


def _end(seen: SessionSeen | None, at_us: int, how: SessionEnd) -> SessionDecision:
    if seen is None or seen.session.ended is not None:
        return SessionDecision(None, _over(seen))
    left_us = seen.session.ttl_us - seen.idle_us
    if how == "expired" and left_us >= 0:
        return SessionDecision(None, _alive(seen.session, left_us, at_us))
    # The renewal mark stays: the lock delay of its leases counts from the last sign of life.
    session = replace(seen.session, version=seen.session.version + 1, ended=how, ended_at_us=at_us)
    return SessionDecision(session, SessionOver("expired" if how == "expired" else "ended"))


def _alive(session: Session, left_us: int, at_us: int) -> SessionAlive:
    return SessionAlive(session, left_us, at_us + left_us)


def _over(seen: SessionSeen | None) -> SessionOver:
    if seen is None:
        return SessionOver("unknown")
    return SessionOver("expired" if seen.session.ended == "expired" else "ended")
