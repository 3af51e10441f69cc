"""How long a holder may act: on its fastest clock, from before it asked, less the time to stop."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from berth.core.holding import (
    Holding,
    Reading,
    checked,
    elapsed_us,
    kill_in_us,
    lifetime_us,
    refused,
    remaining_us,
    renewed,
    stop_budget_us,
)

SECOND = 1_000_000
SENT = Reading(100, 200, 300)
HELD = Holding(token=7, ttl_us=10 * SECOND, budget_us=SECOND, sent=SENT)
EVENTS = st.tuples(
    st.integers(0, 20 * SECOND),  # time that passes, a pause or a suspend included
    st.integers(0, 20 * SECOND),  # of which in suspend: the raw clock stands still
    st.integers(-100 * SECOND, 100 * SECOND),  # a step of the wall clock
    st.integers(0, 5 * SECOND),  # how long a request is under way
    st.sampled_from(["granted", "unknown", "refused"]),
)


def after(passed_us: int) -> Reading:
    return Reading(*(clock_us + passed_us for clock_us in SENT))


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
    assert remaining_us(HELD, after(passed)) == remaining
    assert kill_in_us(HELD, after(passed)) == remaining + SECOND
    assert (checked(HELD, after(passed)).loss == "deadline") == (remaining <= 0)


@pytest.mark.parametrize(
    ("what", "then", "remaining"),
    [
        ("in time", (5 * SECOND, 6 * SECOND), 7_980_019),
        ("sent before the newest that was granted", (-1, 6 * SECOND), 2_980_019),
        ("a duplicate of the newest", (0, 6 * SECOND), 2_980_019),
    ],
)
def test_a_granted_renewal_counts_from_when_it_was_sent(what, then, remaining):
    sent, here = then
    assert remaining_us(renewed(HELD, after(sent), after(here)), after(here)) == remaining


def test_a_reply_after_the_deadline_reopens_nothing():
    late = renewed(HELD, after(8 * SECOND), after(9 * SECOND))
    assert late.loss == "deadline"
    assert renewed(late, after(9 * SECOND), after(9 * SECOND)).loss == "deadline"


def test_a_refusal_is_a_loss_at_once_and_for_good():
    lost = refused(HELD)
    assert lost.loss == "refused"
    assert renewed(lost, after(1), after(2)).loss == "refused"
    assert checked(lost, after(10 * SECOND)).loss == "refused"


def test_shared_work_goes_on_until_it_is_told_otherwise():
    shared = replace(HELD, deadline=False)
    assert checked(shared, after(60 * SECOND)).loss is None
    assert renewed(shared, after(59 * SECOND), after(60 * SECOND)).sent == after(59 * SECOND)
    assert refused(shared).loss == "refused"


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.lists(EVENTS, max_size=30), st.integers(1, 40))
def test_whatever_comes_a_holder_never_acts_beyond_a_server_that_counts_slowly(events, ttl_seconds):
    """A holder acts only while `checked` finds no loss. The server's clock runs 0.1 % fast and it counts from
    the last arrival of a renewal that it granted; it never expires the tenure while the holder would act."""
    ttl_us = ttl_seconds * SECOND
    holding = Holding(1, ttl_us, stop_budget_us(ttl_us), SENT)
    real_us, arrived_us = 0, 0
    clock = SENT
    for passed_us, suspended_us, step_us, delay_us, reply in events:
        # Boot and raw clocks run 0.1 % slow in the worst case; the wall clock may be set either way.
        real_us += passed_us
        clock = Reading(
            clock.boot_us + passed_us * 999 // 1000,
            clock.raw_us + max(0, passed_us - suspended_us) * 999 // 1000,
            clock.wall_us + passed_us + step_us,
        )
        expired = (real_us - arrived_us) * 1001 // 1000 > ttl_us
        if checked(holding, clock).loss is None:
            assert not expired, "the holder would act on what the server gave away"
        if reply == "granted" and not expired:
            sent = clock
            arrived_us = real_us  # at once; it is the reply that is slow
            real_us += delay_us
            clock = Reading(clock.boot_us + delay_us, clock.raw_us + delay_us, clock.wall_us + delay_us)
            holding = renewed(holding, sent, clock)
        elif reply == "refused":
            holding = refused(holding)
