"""The checker and its model, on histories that are right and on many that are not."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.histories.checker import check
from tests.histories.leases import Leases, judge
from tests.histories.operations import (
    by_key,
    must_be_whole,
    read_lines,
    write_lines,
)
from tests.histories.samples import History, grant, held, op, renew
from tests.histories.tables import RIGHT, TOO_LONG, WRONG


@pytest.mark.parametrize("name", RIGHT)
def test_right_histories_are_right(name: str) -> None:
    must_be_whole(RIGHT[name])
    for observes in (False, True):
        verdict = judge(RIGHT[name], observes=observes)
        assert verdict.answer == "right", verdict.text


@pytest.mark.parametrize("name", WRONG)
def test_wrong_histories_are_wrong(name: str) -> None:
    must_be_whole(WRONG[name])
    assert judge(WRONG[name]).answer == "wrong"
    assert judge(WRONG[name], observes=True).answer == "wrong"


@pytest.mark.parametrize("name", TOO_LONG)
def test_only_who_observes_may_keep_a_lease_for_longer(name: str) -> None:
    assert judge(TOO_LONG[name]).answer == "wrong"
    assert judge(TOO_LONG[name], observes=True).answer == "right"


def test_a_verdict_says_what_could_not_follow() -> None:
    history = [grant("a", 0, 1, 1), renew("a", 2, 3, 1), grant("b", 4, 5, 2), held("c", 6, 7, 2, "b")]
    assert judge(history).text.splitlines() == [
        "2 of 4 operations could be put in order:",
        "  0.000000 to 0.999999, a: acquire a by a for 10 s: granted, token 1, of a",
        "  2.000000 to 2.999999, a: renew a by a under token 1 for 10 s: renewed, token 1, of a",
        "then the lease is held by a under token 1, which expires between 11.988000 and 13.011999,",
        "and none of these can be next:",
        "  4.000000 to 4.999999, b: acquire a by b for 10 s: granted, token 2, of b",
    ]


def test_what_takes_too_long_is_not_right() -> None:
    verdict = check(RIGHT["one after the other"], Leases(), steps_max=5)
    assert verdict.answer == "unknown"
    assert verdict.text.startswith("not decided in 5 steps; 6 of 8 operations could be put in order:")


@pytest.mark.parametrize(
    "history",
    [
        [grant("a", 0, 2, 1), held("a", 1, 3, 1, "a")],
        [op("a", "acquire", 0, None, holder="a"), grant("a", 1, 2, 1)],
        [grant("a", 0, 2, 1), held("a", 0, 2, 1, "a")],
        [op("a", "get", 2, 1, "free")],
        [op("a", "get", 2, 3)],
    ],
    ids=["two at a time", "one after a lost reply", "a batch of two on one lease", "backwards", "no answer"],
)
def test_what_is_no_history_is_not_judged(history: History) -> None:
    with pytest.raises(AssertionError):
        must_be_whole(history)


def test_a_history_is_kept_as_lines(tmp_path: Path) -> None:
    history = [operation for each in (*RIGHT.values(), *WRONG.values()) for operation in each]
    write_lines(tmp_path / "history.jsonl", history)
    assert read_lines(tmp_path / "history.jsonl") == history


def test_each_lease_has_its_own_history() -> None:
    elsewhere = [replace(each, key="b") for each in RIGHT["ended by force"]]
    found = by_key([*RIGHT["one after the other"], *elsewhere])
    assert found == {"a": RIGHT["one after the other"], "b": elsewhere}
