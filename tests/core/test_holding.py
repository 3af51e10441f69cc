"""How long a holder may act: on its fastest clock, from before it asked, less the time to stop."""

import pytest

from berth.core.holding import Reading, elapsed_us, lifetime_us, remaining_us, stop_budget_us

SECOND = 1_000_000
SENT = Reading(100, 200, 300)


@pytest.mark.parametrize(
    ("now", "elapsed"),
    [
        pytest.param(SENT, 0, id="no time"),
        pytest.param(Reading(109, 205, 305), 9, id="suspended: the boot clock counted on"),
        pytest.param(Reading(105, 209, 305), 9, id="slewed: the raw clock did not follow"),
        pytest.param(Reading(105, 205, 309), 9, id="moved to another machine: only the wall clock knows"),
        pytest.param(Reading(105, 205, 0), 5, id="a wall clock set back gives nothing back"),
    ],
)
def test_the_clock_that_went_furthest_counts(now, elapsed):
    assert elapsed_us(SENT, now) == elapsed


@pytest.mark.parametrize("ttl", [1, SECOND, 30 * SECOND, 86_400 * SECOND])
def test_a_slow_holder_still_ends_before_a_fast_server(ttl):
    """At worst the holder's clock runs 0.1 % slow and the server's 0.1 % fast."""
    assert lifetime_us(ttl) * 1001 <= ttl * 999
    assert (lifetime_us(ttl) + 1) * 1001 > ttl * 999, "and no more is given away"


@pytest.mark.parametrize(
    ("ttl", "budget"), [(SECOND, SECOND // 4), (20 * SECOND, 5 * SECOND), (60 * SECOND, 5 * SECOND)]
)
def test_stopping_has_five_seconds_or_a_quarter(ttl, budget):
    assert stop_budget_us(ttl) == budget


@pytest.mark.parametrize(
    ("passed", "remaining"), [(0, 8_980_019), (8_980_018, 1), (8_980_019, 0), (8_980_020, -1)]
)
def test_what_remains_before_stopping_must_begin(passed, remaining):
    now = Reading(100 + passed, 200, 300)
    assert remaining_us(SENT, now, ttl_us=10 * SECOND, budget_us=SECOND) == remaining
