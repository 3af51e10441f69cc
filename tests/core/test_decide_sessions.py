"""Leases under sessions: a tenure lives exactly as long as its session, and is taken over in two steps."""

import pytest

from berth.core.requests import Acquire, Expire, ForceRelease, Release, Renew
from tests.core.readings import SHARED, TTL, check, held, lease, never, row, session, under

A, B = session("sa", "a", idle=4), session("sb", "b")
A_EXPIRED = session("sa", "a", idle=TTL + 1)
A_LAST = session("sa", "a", idle=TTL)
A_AGAIN = session("sa2", "a")
A_ELSEWHERE = session("sa3", "a", instance="other")
MINE = under("sa", "a")


def ended(how, idle=TTL + 1):
    return session("sa", "a", idle, how)


def lease_of(*sessions, **terms):
    return lease(MINE, sessions=sessions, **terms)


TAKEN = ("acquired", 2, 5, "unclean", (2,))
GIVEN = ("acquired", 2, 5, "clean", (2,))

ROWS = [
    row(
        "a tenure has what its session has left",
        never(A),
        Acquire("a", 0, "sa"),
        ("acquired", 1, 6, "clean", (1,)),
        "a1",
    ),
    row(
        "asking again does not prolong it",
        lease_of(A),
        Acquire("a", 0, "sa"),
        ("acquired", 1, 6, "clean", (1,)),
        "a1",
    ),
    row(
        "its last instant still lives",
        lease_of(A_LAST),
        Acquire("a", 0, "sa"),
        ("acquired", 1, 0, "clean", (1,)),
        "a1",
    ),
    row("an expired session gets nothing", never(A_EXPIRED), Acquire("a", 0, "sa"), ("session_ended",)),
    row("an ended session gets nothing", never(ended("clean", 0)), Acquire("a", 0, "sa"), ("session_ended",)),
    row("an unknown session gets nothing", never(), Acquire("a", 0, "sa"), ("session_ended",)),
    row("a session is for its holder", never(A), Acquire("b", 0, "sa"), ("session_holder_mismatch",)),
    row("a live lease goes to nobody else", lease_of(A, B), Acquire("b", 0, "sb"), ("held", 1, None)),
    row(
        "not to another session of its holder",
        lease_of(A, A_AGAIN),
        Acquire("a", 0, "sa2"),
        ("held_by_session",),
    ),
    row("not to its holder by ttl", lease_of(A), Acquire("a", 5), ("held_by_session",)),
    row(
        "another instance is another holder",
        lease_of(A, A_ELSEWHERE),
        Acquire("a", 0, "sa3"),
        ("held", 1, None),
    ),
    row("by ttl stays by ttl", lease(held("a"), sessions=(A,)), Acquire("a", 0, "sa"), ("held_by_ttl",)),
    row(
        "a shared lease has room for another instance",
        lease_of(A, A_ELSEWHERE, semantics=SHARED),
        Acquire("a", 0, "sa3", SHARED),
        ("acquired", 2, 10, "clean", (1, 2)),
        "a1 a2",
    ),
    row("renewing is the session's affair", lease_of(A), Renew("a", 1, 5), ("held_by_session",)),
    row("with an expired session it is lost", lease_of(A_EXPIRED), Renew("a", 1, 5), ("lost", 1)),
    row("a release ends this tenure only", lease_of(A), Release("a", 1), ("released",), ""),
    row(
        "nor does force, which its holder would not hear of",
        lease_of(A),
        ForceRelease(1),
        ("held_by_session",),
    ),
    row("the last instant is not in doubt", lease_of(A_LAST), Acquire("b", 5), ("held", 1, None)),
    row("an expired session is ended first", lease_of(A_EXPIRED), Acquire("b", 5), ("end first", "sa")),
    row(
        "also for its holder's next session",
        lease_of(A_EXPIRED, A_AGAIN),
        Acquire("a", 0, "sa2"),
        ("end first", "sa"),
    ),
    row("also by the sweeper", lease_of(A_EXPIRED), Expire(), ("end first", "sa")),
    row(
        "not during a lock delay", lease_of(A_EXPIRED, lock_delay_us=3), Acquire("b", 5), ("lock_delay", 1, 2)
    ),
    row(
        "then it is",
        lease_of(session("sa", "a", TTL + 4), lock_delay_us=3),
        Acquire("b", 5),
        ("end first", "sa"),
    ),
    row(
        "not where there is another place",
        lease_of(A_EXPIRED, semantics=SHARED),
        Acquire("b", 5, None, SHARED),
        ("acquired", 2, 5, "clean", (2,)),
        "a1 b2",
    ),
    row("after its end the lease is free", lease_of(ended("expired")), Acquire("b", 5), TAKEN, "b2"),
    row("whatever this server saw of it", lease_of(ended("expired", 0)), Acquire("b", 5), TAKEN, "b2"),
    row(
        "after the lock delay",
        lease_of(ended("expired"), lock_delay_us=3),
        Acquire("b", 5),
        ("lock_delay", 1, 2),
    ),
    row(
        "a clean end leaves no lock delay",
        lease_of(ended("clean", 1), lock_delay_us=3),
        Acquire("b", 5),
        GIVEN,
        "b2",
    ),
    row("nor does a forced one", lease_of(ended("forced", 1), lock_delay_us=3), Acquire("b", 5), TAKEN, "b2"),
    row("a session that is gone has ended", lease_of(), Acquire("b", 5), TAKEN, "b2"),
    row("a session's end is written down", lease_of(ended("clean", 1)), Expire(), ("expired", (1,)), ""),
]


@pytest.mark.parametrize(("reading", "request_", "answer", "after"), ROWS)
def test_a_lease_under_a_session(reading, request_, answer, after):
    check(reading, request_, answer, after)
