"""Exclusive leases by ttl: one row for each behaviour."""

import pytest

from berth.core.decide import decide
from berth.core.records import TOKEN_MAX
from berth.core.requests import Acquire, Expire, ForceRelease, Lost, Release, Renew, Standing
from tests.core.readings import NOW, SHARED, TTL, check, held, lease, never, row

LIVE = held("a", idle=4)
LAST_INSTANT = held("a", idle=TTL)
EXPIRED = held("a", idle=TTL + 1)

ACQUIRE = [
    row("the first tenure has token 1", never(), Acquire("a", 5), ("acquired", 1, 5, "clean", (1,)), "a1"),
    row(
        "its holder keeps a live lease", lease(LIVE), Acquire("a", 8), ("acquired", 1, 8, "clean", (1,)), "a1"
    ),
    row(
        "a shorter ttl takes nothing back",
        lease(LIVE),
        Acquire("a", 2),
        ("acquired", 1, 6, "clean", (1,)),
        "a1",
    ),
    row("a live lease goes to nobody else", lease(LIVE), Acquire("b", 5), ("held", 1, None)),
    row("the last instant is still live", lease(LAST_INSTANT), Acquire("b", 5), ("held", 1, None)),
    row(
        "and still its holder's",
        lease(LAST_INSTANT),
        Acquire("a", 5),
        ("acquired", 1, 5, "clean", (1,)),
        "a1",
    ),
    row(
        "an expired lease goes to the next",
        lease(EXPIRED),
        Acquire("b", 5),
        ("acquired", 2, 5, "unclean", (2,)),
        "b2",
    ),
    row("to its old holder anew", lease(EXPIRED), Acquire("a", 5), ("acquired", 2, 5, "unclean", (2,)), "a2"),
    row(
        "a released lease goes to the next",
        lease(token=7),
        Acquire("b", 5),
        ("acquired", 8, 5, "clean", (8,)),
        "b8",
    ),
    row(
        "and says so when it was not",
        lease(clean=False),
        Acquire("b", 5),
        ("acquired", 2, 5, "unclean", (2,)),
        "b2",
    ),
    row(
        "the last token is given",
        lease(token=TOKEN_MAX - 1),
        Acquire("a", 5),
        ("acquired", TOKEN_MAX, 5, "clean", (TOKEN_MAX,)),
        f"a{TOKEN_MAX}",
    ),
    row("none follows the last token", lease(token=TOKEN_MAX), Acquire("a", 5), ("token_exhausted",)),
    row("nor after an expiry", lease(held("a", TOKEN_MAX, TTL + 1)), Acquire("b", 5), ("token_exhausted",)),
    row(
        "its holder keeps the last token",
        lease(held("a", TOKEN_MAX)),
        Acquire("a", 5),
        ("acquired", TOKEN_MAX, 10, "clean", (TOKEN_MAX,)),
        f"a{TOKEN_MAX}",
    ),
    row(
        "a live lease is not made shared", lease(LIVE), Acquire("a", 5, None, SHARED), ("semantics_mismatch",)
    ),
    row("nor for another", lease(LIVE), Acquire("b", 5, None, SHARED), ("semantics_mismatch",)),
    row(
        "a free lease is made shared",
        lease(),
        Acquire("a", 5, None, SHARED),
        ("acquired", 2, 5, "clean", (2,)),
        "a2",
    ),
]

LOCK_DELAY = [
    row(
        "a lock delay follows an expiry",
        lease(EXPIRED, lock_delay_us=3),
        Acquire("b", 5),
        ("lock_delay", 1, 2),
    ),
    row("also for the old holder", lease(EXPIRED, lock_delay_us=3), Acquire("a", 5), ("lock_delay", 1, 2)),
    row(
        "whatever the next one asks for",
        lease(EXPIRED, lock_delay_us=3),
        Acquire("b", 5, lock_delay_us=0),
        ("lock_delay", 1, 2),
    ),
    row(
        "its last instant is closed",
        lease(held("a", 1, TTL + 3), lock_delay_us=3),
        Acquire("b", 5),
        ("lock_delay", 1, 0),
    ),
    row(
        "then the lease opens",
        lease(held("a", 1, TTL + 4), lock_delay_us=3),
        Acquire("b", 5),
        ("acquired", 2, 5, "unclean", (2,)),
        "b2",
    ),
    row(
        "none follows a release",
        lease(lock_delay_us=3),
        Acquire("b", 5),
        ("acquired", 2, 5, "clean", (2,)),
        "b2",
    ),
    row("a late release ends it", lease(EXPIRED, lock_delay_us=3), Release("a", 1), ("released",), ""),
    row("so does force", lease(EXPIRED, lock_delay_us=3), ForceRelease(1), ("forced", 1, 0), ""),
    row(
        "a closed lease is not made shared",
        lease(EXPIRED, lock_delay_us=3),
        Acquire("b", 5, None, SHARED),
        ("lock_delay", 1, 2),
    ),
]

RENEW = [
    row("a lease never held is lost", never(), Renew("a", 1, 5), ("lost", 0)),
    row("its holder renews", lease(LIVE), Renew("a", 1, 8), ("renewed", 1, 8), "a1"),
    row("a shorter ttl takes nothing back", lease(LIVE), Renew("a", 1, 2), ("renewed", 1, 6), "a1"),
    row("at the last instant too", lease(LAST_INSTANT), Renew("a", 1, 5), ("renewed", 1, 5), "a1"),
    row("after it the tenure is lost", lease(EXPIRED), Renew("a", 1, 5), ("lost", 1)),
    row("during the lock delay too", lease(EXPIRED, lock_delay_us=3), Renew("a", 1, 5), ("lost", 1)),
    row("another holder's is lost", lease(LIVE), Renew("b", 1, 5), ("lost", 1)),
    row("an earlier token is lost", lease(held("a", 2)), Renew("a", 1, 5), ("lost", 2)),
    row("a later token is lost", lease(LIVE), Renew("a", 2, 5), ("lost", 1)),
    row("a released one is lost", lease(), Renew("a", 1, 5), ("lost", 1)),
]

RELEASE = [
    row("a lease never held is released", never(), Release("a", 1), ("released",)),
    row("a free lease is, for anybody", lease(), Release("b", 9), ("released",)),
    row("its holder releases", lease(LIVE), Release("a", 1), ("released",), ""),
    row("an expired one too", lease(EXPIRED), Release("a", 1), ("released",), ""),
    row("not under an earlier token", lease(held("a", 2)), Release("a", 1), ("not_holder",)),
    row("not another's", lease(LIVE), Release("b", 1), ("not_holder",)),
    row("not another's expired one", lease(EXPIRED), Release("b", 1), ("not_holder",)),
]

EXPIRE_AND_FORCE = [
    row("there is nothing to expire", never(), Expire(), ("not expired", None)),
    row("nor when it is free", lease(), Expire(), ("not expired", None)),
    row("a live tenure is due one past its last instant", lease(LIVE), Expire(), ("not expired", 7)),
    row(
        "a closed one when the lock delay is over",
        lease(EXPIRED, lock_delay_us=3),
        Expire(),
        ("not expired", 3),
    ),
    row("an expired one is written down", lease(EXPIRED), Expire(), ("expired", (1,)), ""),
    row("a lease never held is not forced", never(), ForceRelease(1), ("not_found",)),
    row("force ends a live tenure", lease(LIVE), ForceRelease(1), ("forced", 1, 6), ""),
    row("not under another token", lease(held("a", 2)), ForceRelease(1), ("stale_token",)),
    row("nor one that is free", lease(), ForceRelease(1), ("stale_token",)),
]


@pytest.mark.parametrize(
    ("reading", "request_", "answer", "after"), [*ACQUIRE, *LOCK_DELAY, *RENEW, *RELEASE, *EXPIRE_AND_FORCE]
)
def test_an_exclusive_lease(reading, request_, answer, after):
    check(reading, request_, answer, after)


@pytest.mark.parametrize(("how", "clean"), [(Release("a", 1), True), (ForceRelease(1), False)])
def test_the_end_says_how_it_was(how, clean):
    write = decide(lease(LIVE), how).write
    assert write is not None
    assert write.ended is not None
    assert (write.ended.clean, write.ended.ended_at_us, write.token) == (clean, NOW, 1)


def test_an_expiry_is_dated_back_to_when_it_was():
    write = decide(lease(held("a", idle=TTL + 4)), Expire()).write
    assert write is not None
    assert write.ended is not None
    assert (write.ended.clean, write.ended.ended_at_us) == (False, NOW - 4)


def test_a_renewal_keeps_when_it_was_acquired_and_asks_for_a_new_mark():
    write = decide(lease(LIVE), Renew("a", 1, 8)).write
    assert write is not None
    assert (write.tenures[0].acquired_at_us, write.tenures[0].mark) == (NOW - 100, None)


def test_a_lost_renewal_of_a_free_lease_tells_the_highest_token_and_when_it_ended():
    outcome = decide(lease(token=4), Renew("a", 4, 5)).outcome
    assert outcome == Lost(Standing(4, None, NOW - 90, NOW - 50))
