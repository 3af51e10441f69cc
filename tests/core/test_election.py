"""Who leads by a record, and who may take over: never by comparing clocks."""

import pytest
from msgspec.structs import replace

from berth.core.election import (
    ElectionRecord,
    Seen,
    Timing,
    claim,
    left_us,
    release,
    renewal,
    same_tenure,
    seen,
    standing,
    timing_problem,
)

SECOND = 1_000_000
THEIRS = ElectionRecord("b", 15, "1999-01-01T00:00:00.000000Z", "2050-01-01T00:00:00.000000Z", 4)


def test_nobody_leads_by_no_record_or_an_empty_holder() -> None:
    assert standing(seen(None, None, 0), 0) == "free"
    assert standing(seen(None, ElectionRecord("", 1, "t", "t", 7), 0), 0) == "free"


def test_a_record_holds_from_when_it_was_first_seen_whatever_it_says() -> None:
    view = seen(None, THEIRS, 100 * SECOND)
    assert standing(view, 115 * SECOND - 1) == "held"
    assert left_us(view, 101 * SECOND) == 14 * SECOND
    assert standing(view, 115 * SECOND) == "expired"


def test_looking_again_does_not_prolong_it_and_a_change_does() -> None:
    view = seen(None, THEIRS, 0)
    view = seen(view, THEIRS, 14 * SECOND)
    assert standing(view, 15 * SECOND) == "expired"
    for change in ({"renewed": "x"}, {"acquired": "x"}, {"lease_seconds": 16}, {"transitions": 5}):
        changed = seen(view, replace(THEIRS, **change), 14 * SECOND)
        assert standing(changed, 15 * SECOND) == "held", change


def test_the_record_says_how_long_it_holds() -> None:
    assert left_us(seen(None, replace(THEIRS, lease_seconds=60), 0), 0) == 60 * SECOND
    assert left_us(seen(None, replace(THEIRS, lease_seconds=0), 0), 0) == SECOND


def test_a_claim_counts_on_from_the_highest_count_ever_seen() -> None:
    view = seen(None, THEIRS, 0)
    assert claim(view, "a", 15, "now") == ElectionRecord("a", 15, "now", "now", 5)
    lowered = seen(view, replace(THEIRS, transitions=1), 1)
    assert claim(lowered, "a", 15, "now").transitions == 5
    deleted = seen(lowered, None, 2)
    assert claim(deleted, "a", 15, "now").transitions == 5
    assert claim(seen(None, None, 0), "a", 15, "now").transitions == 0


def test_a_renewal_and_a_release_keep_the_tenure_count() -> None:
    mine = claim(seen(None, THEIRS, 0), "a", 15, "t1")
    assert renewal(mine, "t2") == ElectionRecord("a", 15, "t1", "t2", 5)
    assert release(mine, "t3") == ElectionRecord("", 1, "t3", "t3", 5)


def test_a_tenure_is_known_by_who_since_when_and_which() -> None:
    mine = claim(seen(None, THEIRS, 0), "a", 15, "t1")
    assert same_tenure(mine, renewal(mine, "t9"))
    for other in (
        None,
        release(mine, "t2"),
        replace(mine, holder="b"),
        replace(mine, acquired="t2"),
        replace(mine, transitions=6),
    ):
        assert not same_tenure(mine, other)


@pytest.mark.parametrize(
    ("timing", "text"),
    [
        (Timing(), None),
        (Timing(60, 15, 5), None),
        (Timing(0, 10, 2), "at least 1 s"),
        (Timing(15, 15, 2), "must be less than the lease duration"),
        (Timing(15, 2.4, 2), "more than 1.2 times"),
        (Timing(15, 10, 0), "more than 0 s"),
    ],
)
def test_timings(timing: Timing, text: str | None) -> None:
    problem = timing_problem(timing)
    assert (problem is None) if text is None else (problem is not None and text in problem)


def test_a_view_is_a_value() -> None:
    assert seen(None, THEIRS, 3) == Seen(THEIRS, 3, 4)
