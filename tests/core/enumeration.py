"""Breadth-first search through every state that a small world can reach."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from berth.core.records import Session
from berth.core.requests import Acquire, Expire, ForceRelease, Release, Renew, Request
from berth.core.sessions import EndSession, RenewSession, SessionRequest
from tests.core.rules import check_session_step, check_step
from tests.core.world import Core, World, session_step, step


class Scope(NamedTuple):
    """A world to start from, and what may be asked in it. Time passes in steps of one."""

    name: str
    acquires: tuple[Acquire, ...]
    renew_ttls: tuple[int, ...] = ()
    sessions: tuple[Session, ...] = ()
    horizon: int = 3
    """Idle times beyond which nothing changes any more: over every ttl and lock delay together."""


class Found(NamedTuple):
    states: int
    steps: int


def enumerate_scope(core: Core, scope: Scope) -> Found:
    """Take every step from every reachable state, and judge it: AssertionError at the first bad one."""
    start = World(sessions=scope.sessions)
    seen = {_canonical(start, scope.horizon)}
    frontier = deque([start])
    steps = 0
    while frontier:
        for after in _successors(core, frontier.popleft(), scope):
            steps += 1
            state = _canonical(after, scope.horizon)
            if state not in seen:
                seen.add(state)
                frontier.append(after)
    return Found(len(seen), steps)


def _successors(core: Core, world: World, scope: Scope) -> Iterator[World]:
    yield world._replace(now=world.now + 1)
    for request in _requests(world, scope):
        after, outcome = step(core, world, request)
        check_step(world, request, outcome, after)
        yield after
    for session in world.sessions:
        for request in _SESSION_REQUESTS:
            after, outcome = session_step(core, world, session.id, request)
            check_session_step(world, session.id, request, outcome, after)
            yield after


_SESSION_REQUESTS: tuple[SessionRequest, ...] = (
    RenewSession(),
    EndSession("clean"),
    EndSession("expired"),
    EndSession("forced"),
)


def _requests(world: World, scope: Scope) -> Iterator[Request]:
    yield from scope.acquires
    yield Expire()
    if world.record is None:
        return
    standing = {tenure.token for tenure in world.record.tenures}
    # Besides those that stand: the newest one ever, and one that may be from an earlier tenure.
    for token in standing | {world.record.token, world.record.token - 1}:
        yield ForceRelease(token)
        for holder in sorted({acquire.holder for acquire in scope.acquires}):
            yield Release(holder, token)
            for ttl in scope.renew_ttls:
                yield Renew(holder, token, ttl)


def _canonical(world: World, horizon: int) -> tuple[object, ...]:
    """What of a world can matter to its future. How long ago is cut off, tokens count by rank."""

    def ago(instant: int | None) -> int:
        assert instant is not None
        return min(world.now - instant, horizon)

    sessions = tuple(
        (session.ended, None if session.ended in ("clean", "forced") else ago(session.mark))
        for session in world.sessions
    )
    record = world.record
    if record is None:
        return (sessions,)
    holds = tuple(
        (tenure.holder, tenure.session)
        if tenure.session
        else (tenure.holder, tenure.ttl_us, ago(tenure.mark), ago(world.promised_until(tenure.token)))
        for tenure in record.tenures
    )
    tokens = [tenure.token for tenure in record.tenures]
    ranks = (record.token in tokens, record.token - 1 in tokens, record.token == 1)
    terms = (record.semantics, record.max_holders, record.lock_delay_us)
    return (sessions, holds, ranks, terms)


def _session(session_id: str, holder: str, instance: str) -> Session:
    return Session(session_id, 1, holder, instance, ttl_us=1, opened_at_us=0, mark=0)


SCOPES = (
    Scope(
        "by ttl, exclusive, with and without a lock delay",
        tuple(
            Acquire(holder, ttl, lock_delay_us=delay) for holder in "ab" for ttl in (1, 2) for delay in (0, 1)
        ),
        renew_ttls=(1, 2),
        horizon=4,
    ),
    Scope(
        "by ttl, shared by two or exclusive",
        (
            Acquire("a", 1),
            Acquire("b", 1, None, "at-least-once", 2),
            *(Acquire(holder, 1, None, "at-least-once", 2, 1) for holder in "ab"),
        ),
        renew_ttls=(1,),
    ),
    Scope(
        "under sessions of two instances, and by ttl",
        (
            *(Acquire("a", 0, one, lock_delay_us=delay) for one in ("a1", "a2") for delay in (0, 1)),
            Acquire("a", 1),
            Acquire("c", 1),
        ),
        renew_ttls=(1,),
        sessions=(_session("a1", "a", "1"), _session("a2", "a", "2")),
    ),
    Scope(
        "under sessions, shared by two",
        (
            *(Acquire(one[0], 0, one, "at-least-once", 2, 1) for one in ("a1", "b1")),
            Acquire("c", 1, None, "at-least-once", 2),
        ),
        renew_ttls=(1,),
        sessions=(_session("a1", "a", "1"), _session("b1", "b", "1")),
    ),
)
