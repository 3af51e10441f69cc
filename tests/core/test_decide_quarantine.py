"""While a store cannot vouch for what it reads: what is still granted, and what is not."""

import pytest

from berth.core.records import Quarantine
from berth.core.requests import Acquire, Expire, ForceRelease, Release, Renew
from berth.core.standing import closed_for_us
from tests.core.readings import TTL, check, held, lease, never, row, session, under

CLOCK, LOSS = Quarantine("clock", 30), Quarantine("loss", 30)
LIVE, EXPIRED = held("a"), held("a", idle=TTL + 1)
CLOSED = ("quarantine", 1, 30)


def under_ended(how):
    return lease(under("s", "a"), sessions=(session("s", "a", TTL + 1, how),), quarantine=CLOCK)


ROWS = [
    row(
        "clock: a lease never held is granted",
        never(quarantine=CLOCK),
        Acquire("a", 5),
        ("acquired", 1, 5, "clean", (1,)),
        "a1",
    ),
    row(
        "clock: a released lease is granted",
        lease(quarantine=CLOCK),
        Acquire("b", 5),
        ("acquired", 2, 5, "clean", (2,)),
        "b2",
    ),
    row(
        "clock: a live lease is kept",
        lease(LIVE, quarantine=CLOCK),
        Acquire("a", 12),
        ("acquired", 1, 12, "clean", (1,)),
        "a1",
    ),
    row("clock: what only expired is not taken", lease(EXPIRED, quarantine=CLOCK), Acquire("b", 5), CLOSED),
    row("clock: nor by its old holder", lease(EXPIRED, quarantine=CLOCK), Acquire("a", 5), CLOSED),
    row("clock: nor written down", lease(EXPIRED, quarantine=CLOCK), Expire(), ("not expired", 31)),
    row(
        "clock: a longer lock delay stands",
        lease(EXPIRED, quarantine=CLOCK, lock_delay_us=50),
        Acquire("b", 5),
        ("quarantine", 1, 49),
    ),
    row(
        "clock: no session is ended",
        lease(under("s", "a"), sessions=(session("s", "a", TTL + 1),), quarantine=CLOCK),
        Acquire("b", 5),
        CLOSED,
    ),
    row("clock: after an expired session it is closed", under_ended("expired"), Acquire("b", 5), CLOSED),
    row(
        "clock: after a clean one it is free",
        under_ended("clean"),
        Acquire("b", 5),
        ("acquired", 2, 5, "clean", (2,)),
        "b2",
    ),
    row(
        "clock: after a forced one it is free",
        under_ended("forced"),
        Acquire("b", 5),
        ("acquired", 2, 5, "unclean", (2,)),
        "b2",
    ),
    row(
        "clock: force ends what expired",
        lease(EXPIRED, quarantine=CLOCK),
        ForceRelease(1),
        ("forced", 1, 0),
        "",
    ),
    row(
        "loss: a lease never held is not granted", never(quarantine=LOSS), Acquire("a", 5), ("quarantine", 30)
    ),
    row("loss: nor a released one", lease(quarantine=LOSS), Acquire("a", 5), ("quarantine", 30)),
    row(
        "loss: nor a live one to its holder",
        lease(LIVE, quarantine=LOSS),
        Acquire("a", 5),
        ("quarantine", 30),
    ),
    row("loss: its holder renews", lease(LIVE, quarantine=LOSS), Renew("a", 1, 12), ("renewed", 1, 12), "a1"),
    row("loss: its holder releases", lease(LIVE, quarantine=LOSS), Release("a", 1), ("released",), ""),
]


@pytest.mark.parametrize(("reading", "request_", "answer", "after"), ROWS)
def test_a_quarantine(reading, request_, answer, after):
    check(reading, request_, answer, after)


@pytest.mark.parametrize(
    ("reading", "closed"),
    [
        pytest.param(never(), None, id="never held"),
        pytest.param(lease(LIVE, quarantine=LOSS), None, id="held"),
        pytest.param(lease(EXPIRED, lock_delay_us=3), 2, id="a lock delay"),
        pytest.param(lease(EXPIRED, quarantine=CLOCK), 30, id="expired, clock in doubt"),
        pytest.param(lease(quarantine=CLOCK), None, id="released, clock in doubt"),
        pytest.param(lease(quarantine=LOSS), 30, id="released, writes in doubt"),
    ],
)
def test_for_how_long_a_lease_is_told_as_closed(reading, closed):
    assert closed_for_us(reading) == closed
