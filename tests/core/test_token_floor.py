"""The token floor: where writes may have been lost, no token is given that they may have given."""

import pytest
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.in_turn import decide_in_turn
from berth.core.records import TOKEN_MAX, Observed, check_record
from berth.core.requests import Acquire, Acquired, Refused, Release, Renew, Renewed
from tests.core.readings import KEY, lease, never


def granted(observed: Observed, holder: str = "b") -> int:
    outcome = decide(observed, Acquire(holder, 5)).outcome
    assert isinstance(outcome, Acquired)
    return outcome.view.token


def test_the_next_tenure_begins_above_the_floor():
    assert granted(replace(never(), token_floor=1_000)) == 1_001
    assert granted(replace(lease(), token_floor=1_000)) == 1_001


def test_a_floor_below_the_highest_token_changes_nothing():
    free = lease()
    assert free.record is not None
    assert granted(replace(free, token_floor=free.record.token)) == free.record.token + 1
    assert granted(replace(free, token_floor=0)) == free.record.token + 1


def test_it_counts_once():
    observed = replace(never(), token_floor=1_000)
    requests = [Acquire("a", 5), Release("a", 1_001), Acquire("b", 5)]
    write, turns = decide_in_turn(observed, requests)
    assert write is not None
    assert (write.version, write.token, len(turns)) == (1, 1_002, 3)


def test_a_live_tenure_keeps_its_token():
    first = decide(never(), Acquire("a", 5)).write
    assert first is not None
    live = Observed(KEY, 0, first, (0,), token_floor=1_000)
    renewed = decide(live, Renew("a", 1, 5))
    assert isinstance(renewed.outcome, Renewed)
    assert renewed.write is not None
    assert renewed.write.token == 1
    assert granted(live, "a") == 1


def test_no_token_is_left_beyond_the_last():
    observed = replace(never(), token_floor=TOKEN_MAX)
    assert decide(observed, Acquire("a", 5)).outcome == Refused("token_exhausted")


@pytest.mark.parametrize("token", [2, 1_000, 1_002])
def test_a_write_that_ignores_the_floor_is_a_defect(token: int):
    write = decide(never(), Acquire("a", 5)).write
    assert write is not None
    below = replace(write, token=token, tenures=(replace(write.tenures[0], token=token),))
    with pytest.raises(AssertionError, match="floor"):
        check_record(below, replace(never(), token_floor=1_000))
