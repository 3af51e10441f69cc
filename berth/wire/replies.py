"""Replies: what the core knows, as the wire tells it.

Owns the mapping from microseconds to texts and seconds. It prints instants; it compares none.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from berth.core.instants import rfc3339
from berth.core.ownership import Ownership
from berth.core.records import Observed, SessionSeen
from berth.core.requests import Acquired, Forced, Lost, NotAcquired, Renewed, Standing, View
from berth.core.sessions import SessionAlive, SessionOutcome, SessionOver
from berth.core.standing import closed_for_us, live_views
from berth.wire.shapes import (
    AcquireReply,
    BatchResult,
    ForcedTenure,
    ForceReleaseReply,
    HolderObject,
    LeaseObject,
    SessionObject,
    VerifyReply,
    WatchEvent,
)

SECOND_US = 1_000_000

_encode = msgspec.json.Encoder().encode


def seconds(span_us: int) -> float:
    return span_us / SECOND_US


def _seconds_or_unset(span_us: int | None) -> float | UnsetType:
    return UNSET if span_us is None else seconds(span_us)


GrantT = TypeVar("GrantT", AcquireReply, BatchResult)


def acquire_reply(
    outcome: Acquired | NotAcquired,
    make: Callable[..., GrantT] = AcquireReply,
    position: int | None = None,
) -> GrantT:
    """The answer to an acquire, as `make` makes it; `position` where a wait ended empty."""
    match outcome:
        case Acquired(view=view):
            shared = outcome.semantics == "at-least-once"
            return make(
                True,
                rfc3339(view.expires_at_us),
                rfc3339(view.acquired_at_us),
                view.holder,
                view.token,
                seconds(view.remaining_us),
                outcome.clean_handover,
                view.session or "",
                tuple(_holder_object(each) for each in outcome.holders) if shared else (),
            )
        case NotAcquired(standing=standing):
            holder, acquired_at, expires_at, remaining_us = _told(standing)
            waited = {} if position is None else {"wait_position": position}
            return make(
                False,
                expires_at,
                acquired_at,
                holder if outcome.reason == "held" else "",
                standing.token,
                seconds(remaining_us),
                reason=outcome.reason,
                available_after_seconds=_seconds_or_unset(outcome.available_after_us),
                **waited,
            )


def renew_reply(outcome: Renewed | Lost, make: Callable[..., GrantT] = AcquireReply) -> GrantT:
    """A renewal's reply has the reference's fields and no others."""
    if isinstance(outcome, Renewed):
        expires_at, acquired_at = rfc3339(outcome.expires_at_us), rfc3339(outcome.acquired_at_us)
        return make(True, expires_at, acquired_at, outcome.holder, outcome.token)
    holder, acquired_at, expires_at, _ = _told(outcome.standing)
    return make(False, expires_at, acquired_at, holder, outcome.standing.token)


def _told(standing: Standing) -> tuple[str, str, str, int]:
    """holder, acquiredAt, expiresAt, remaining: of the newest tenure, or of what a free lease remembers."""
    view = standing.newest
    if view is None:
        return "", rfc3339(standing.acquired_at_us), rfc3339(standing.ended_at_us), 0
    return view.holder, rfc3339(view.acquired_at_us), rfc3339(view.expires_at_us), view.remaining_us


def lease_object(observed: Observed) -> LeaseObject | None:
    """The lease as anybody may see it, or None when it was never used."""
    record = observed.record
    if record is None:
        return None
    views = live_views(observed)
    head = (record.key.namespace, record.key.name, "held" if views else "free", record.semantics)
    limit = UNSET if record.max_holders is None else record.max_holders
    if not views:
        closed_for = _seconds_or_unset(closed_for_us(observed))
        return LeaseObject(*head, record.token, (), limit, available_after_seconds=closed_for)
    newest = _holder_object(views[-1])
    return LeaseObject(
        *head,
        newest.fencing_token,
        tuple(_holder_object(view) for view in views),
        limit,
        newest.holder,
        newest.acquired_at,
        newest.expires_at,
        newest.remaining_seconds,
        newest.session,
    )


def session_object(seen: SessionSeen, at_us: int) -> SessionObject:
    """A session as read at `at_us`."""
    session = seen.session
    left_us = session.ttl_us - seen.idle_us
    if session.ended is None and left_us >= 0:
        return session_reply(session.id, SessionAlive(session, left_us, at_us + left_us))
    reason = "ended" if session.ended in ("clean", "forced") else "expired"
    return SessionObject(
        session.id, False, session.holder, session.instance, session.ttl_us // SECOND_US, reason=reason
    )


def session_reply(session_id: str, outcome: SessionOutcome) -> SessionObject:
    """What opening or renewing a session came to."""
    if isinstance(outcome, SessionOver):
        return SessionObject(session_id, False, reason=outcome.reason)
    session = outcome.session
    return SessionObject(
        session_id,
        True,
        session.holder,
        session.instance,
        session.ttl_us // SECOND_US,
        rfc3339(outcome.expires_at_us),
        seconds(outcome.remaining_us),
    )


def verify_reply(observed: Observed, token: int, holder: str | None) -> VerifyReply:
    """Current means: a live tenure has this token, and this holder where one was asked for."""
    current = any(view.token == token and holder in (None, view.holder) for view in live_views(observed))
    return VerifyReply(current, observed.record.token if observed.record else 0)


def watch_line(change: Ownership, revision: str) -> bytes:
    """A change of ownership as a line of a watch."""
    lease = lease_object(change.after)
    assert lease is not None, "what changed hands has been used"
    return _line(WatchEvent(change.kind, revision, lease))


def bookmark_line(revision: str) -> bytes:
    """A line that only says how far a watch has come."""
    return _line(WatchEvent("bookmark", revision))


def _line(event: WatchEvent) -> bytes:
    return _encode(event) + b"\n"


def force_release_reply(outcome: Forced) -> ForceReleaseReply:
    view = outcome.view
    return ForceReleaseReply(ForcedTenure(view.holder, view.token), seconds(outcome.may_act_us))


def _holder_object(view: View) -> HolderObject:
    return HolderObject(
        view.holder,
        view.token,
        rfc3339(view.acquired_at_us),
        rfc3339(view.expires_at_us),
        seconds(view.remaining_us),
        view.session or "",
    )
