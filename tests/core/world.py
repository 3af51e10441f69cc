"""A lease and its sessions in a store small enough to be a value, and one step of the world at a time.

The store does what every store must: it compares and swaps by version, marks what a write renews with its
own time, and reports idle times. It also keeps what no store knows: until when each holder was promised its
tenure. All times are integers of one unit.
"""

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import Observed, Record, Session, SessionSeen
from berth.core.requests import (
    Acquire,
    Acquired,
    Decision,
    EndFirst,
    Expired,
    Forced,
    Lost,
    NotAcquired,
    NotExpired,
    Outcome,
    Refused,
    Released,
    Renew,
    Renewed,
    Request,
)
from berth.core.sessions import (
    SessionDecision,
    SessionOutcome,
    SessionRequest,
    decide_session,
)

KEY = Key("default", "lease")


class Core(NamedTuple):
    """The functions under test, so that a broken copy can stand in for them."""

    decide: Callable[[Observed, Request], Decision] = decide
    decide_session: Callable[[SessionSeen | None, int, SessionRequest], SessionDecision] = decide_session


class World(NamedTuple):
    now: int = 0
    record: Record | None = None
    sessions: tuple[Session, ...] = ()
    promised: tuple[tuple[int, int], ...] = ()
    """(token, the last instant at which its holder may act), for tenures by ttl."""

    def session(self, session_id: str | None) -> Session | None:
        return next((session for session in self.sessions if session.id == session_id), None)

    def promised_until(self, token: int) -> int:
        return dict(self.promised)[token]


def observe(world: World, lag: int = 0) -> Observed:
    """The lease as read now, by a reader that has seen `lag` less of the idle times than there was."""

    def idle(mark: int | None) -> int:
        assert mark is not None
        return max(world.now - mark - lag, 0)

    seen = {session.id: SessionSeen(session, idle(session.mark)) for session in world.sessions}
    idles = tuple(idle(tenure.mark) for tenure in world.record.tenures) if world.record else ()
    return Observed(KEY, world.now, world.record, idles, seen)


def commit(world: World, write: Record) -> World | None:
    """The world after the write has won, or None where it loses."""
    if write.version != (world.record.version if world.record else 0) + 1:
        return None
    tenures = tuple(
        replace(tenure, mark=world.now) if tenure.mark is None else tenure for tenure in write.tenures
    )
    return world._replace(record=replace(write, tenures=tenures))


def commit_session(world: World, write: Session) -> World | None:
    """The same for a session."""
    before = world.session(write.id)
    if write.version != (before.version if before else 0) + 1:
        return None
    marked = replace(write, mark=world.now) if write.mark is None else write
    others = [session for session in world.sessions if session.id != write.id]
    return world._replace(sessions=tuple(sorted([*others, marked], key=lambda session: session.id)))


def promise(world: World, request: Request, outcome: Outcome, since: int) -> World:
    """Note what a granted caller was promised, counted from `since`. Shorter terms take no promise back."""
    if not isinstance(request, Acquire | Renew) or not isinstance(outcome, Acquired | Renewed):
        return world
    view = outcome.view if isinstance(outcome, Acquired) else outcome
    if view.session is not None:
        return world
    kept = dict(world.promised)
    until = max(since + request.ttl_us, kept.get(view.token, 0))
    return world._replace(promised=tuple(sorted({**kept, view.token: until}.items())))


def step(core: Core, world: World, request: Request) -> tuple[World, Outcome]:
    """Read, decide and write with nobody between."""
    decision = core.decide(observe(world), request)
    after = world if decision.write is None else commit(world, decision.write)
    assert after is not None, "a decision's write wins over what it was made from"
    return promise(after, request, decision.outcome, world.now), decision.outcome


def session_step(
    core: Core, world: World, session_id: str, request: SessionRequest
) -> tuple[World, SessionOutcome]:
    decision = core.decide_session(observe(world).sessions.get(session_id), world.now, request)
    after = world if decision.write is None else commit_session(world, decision.write)
    assert after is not None, "a decision's write wins over what it was made from"
    return after, decision.outcome


def told(outcome: Outcome) -> tuple[object, ...]:
    """The outcome in a few words, to compare and to read."""
    match outcome:
        case Acquired(view, clean, _, holders):
            handover = "clean" if clean else "unclean"
            return ("acquired", view.token, view.remaining_us, handover, tuple(one.token for one in holders))
        case NotAcquired(reason, standing, wait):
            return (reason, standing.newest and standing.newest.token, wait)
        case Renewed():
            return ("renewed", outcome.token, outcome.remaining_us)
        case Lost(standing):
            return ("lost", standing.token)
        case Released():
            return ("released",)
        case Forced(view, may_act):
            return ("forced", view.token, may_act)
        case Expired(views):
            return ("expired", tuple(view.token for view in views))
        case NotExpired(due):
            return ("not expired", due)
        case EndFirst(sessions):
            return ("end first", *sessions)
        case Refused(reason, None):
            return (reason,)
        case Refused(reason, wait):
            return (reason, wait)
