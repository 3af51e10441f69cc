"""Shared leases: several holders at once, each with a tenure and a token of its own."""

from functools import partial

import pytest

from berth.core import standing
from berth.core.decide import decide
from berth.core.requests import Acquire, Expire, ForceRelease, NotAcquired, Release, Renew
from tests.core.readings import SHARED, TTL, check, held, lease, never, row

shared = partial(lease, semantics=SHARED)


def ask(holder: str, max_holders: int | None = None, lock_delay: int = 0) -> Acquire:
    return Acquire(holder, 5, None, SHARED, max_holders, lock_delay)


A, B = held("a", 1), held("b", 2, idle=3)
B_EXPIRED = held("b", 2, idle=TTL + 1)

ROWS = [
    row("the first holder", never(), ask("a", 2), ("acquired", 1, 5, "clean", (1,)), "a1"),
    row("another joins", shared(A), ask("b"), ("acquired", 2, 5, "clean", (1, 2)), "a1 b2"),
    row(
        "a holder keeps its own token", shared(A, B), ask("a"), ("acquired", 1, 10, "clean", (1, 2)), "a1 b2"
    ),
    row("every place is taken", shared(A, B), ask("c", 2), ("held", 2, None)),
    row(
        "the newest number of places counts",
        shared(A, B, max_holders=2),
        ask("c", 3),
        ("acquired", 3, 5, "clean", (1, 2, 3)),
        "a1 b2 c3",
    ),
    row("fewer places end nobody", shared(A, B), ask("a", 1), ("acquired", 1, 10, "clean", (1, 2)), "a1 b2"),
    row(
        "an expired place is free",
        shared(A, B_EXPIRED),
        ask("c", 2),
        ("acquired", 3, 5, "unclean", (1, 3)),
        "a1 c3",
    ),
    row("after its lock delay", shared(A, B_EXPIRED, lock_delay_us=3), ask("c", 2), ("lock_delay", 1, 2)),
    row(
        "another place is open at once",
        shared(A, B_EXPIRED, lock_delay_us=3),
        ask("c", 3),
        ("acquired", 3, 5, "clean", (1, 3)),
        "a1 b2 c3",
    ),
    row(
        "the first place to open is told",
        shared(held("a", 1, TTL + 1), B_EXPIRED, held("c", 3, TTL + 3), lock_delay_us=9),
        ask("d", 3),
        ("lock_delay", 3, 6),
    ),
    row("a live lease is not made exclusive", shared(A), Acquire("a", 5), ("semantics_mismatch",)),
    row("a free one is", shared(token=4), Acquire("a", 5), ("acquired", 5, 5, "clean", (5,)), "a5"),
    row(
        "its first shared holder is alone",
        lease(held("a", 1, TTL + 1), lock_delay_us=3),
        ask("b"),
        ("lock_delay", 1, 2),
    ),
    row("each renews its own", shared(A, B), Renew("a", 1, 12), ("renewed", 1, 12), "a1 b2"),
    row("not another's", shared(A, B), Renew("a", 2, 12), ("lost", 2)),
    row("each releases its own", shared(A, B), Release("a", 1), ("released",), "b2"),
    row("and may say so twice", shared(B, token=2), Release("a", 1), ("released",)),
    row("not another's", shared(A, B), Release("a", 2), ("not_holder",)),
    row("nor what was never issued", shared(A), Release("a", 2), ("not_holder",)),
    row("force ends one of them", shared(A, B), ForceRelease(2), ("forced", 2, 7), "a1"),
    row("only the expired are written down", shared(A, B_EXPIRED), Expire(), ("expired", (2,)), "a1"),
    row("the first to end is due first", shared(A, B), Expire(), ("not expired", 8)),
]


@pytest.mark.parametrize(("reading", "request_", "answer", "after"), ROWS)
def test_a_shared_lease(reading, request_, answer, after):
    check(reading, request_, answer, after)


def test_a_renewal_marks_nobody_else_as_renewed():
    write = decide(shared(A, B), Renew("a", 1, 12)).write
    assert write is not None
    assert [tenure.mark for tenure in write.tenures] == [None, 7]


def test_who_may_act_is_told_oldest_token_first():
    assert [view.token for view in standing.live_views(shared(A, B_EXPIRED, held("c", 3)))] == [1, 3]


@pytest.mark.parametrize("max_holders", [None, 1, 2])
@pytest.mark.parametrize("idles", [(11, 13), (14, 11)])
def test_a_lease_is_told_as_closed_for_as_long_as_it_refuses(max_holders, idles):
    holds = [held(holder, token, idle) for holder, token, idle in zip("ab", (1, 2), idles, strict=True)]
    reading = shared(*holds, lock_delay_us=3, max_holders=max_holders)
    outcome = decide(reading, ask("c", max_holders)).outcome
    refused_us = outcome.available_after_us if isinstance(outcome, NotAcquired) else None
    assert standing.closed_for_us(reading) == refused_us
