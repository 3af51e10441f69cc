"""What starts and stops a target, and when nothing of it is left: tables."""

import pytest

from berth.core.targets import (
    Change,
    Left,
    SetReplicas,
    SetSuspend,
    TargetSeen,
    is_stop,
    made,
    start_change,
    stop_change,
    to_remember,
)


def replicated(replicas: int) -> TargetSeen:
    return TargetSeen("u", "7", replicas=replicas, selector="app=web", grace_seconds=30)


def suspendable(suspended: bool) -> TargetSeen:
    return TargetSeen("u", "7", suspended=suspended)


@pytest.mark.parametrize(
    ("there", "wanted", "remembered", "change"),
    [
        (0, 3, None, SetReplicas(3)),
        (3, 3, None, None),
        (1, 3, None, SetReplicas(3)),
        (5, 3, None, SetReplicas(3)),
        (5, 3, 5, SetReplicas(3)),
        (2, 0, None, SetReplicas(0)),
        (0, 0, 4, None),
        (0, None, None, SetReplicas(1)),
        (0, None, 0, SetReplicas(1)),
        (0, None, 4, SetReplicas(4)),
        (2, None, None, None),
        (2, None, 4, None),
    ],
)
def test_a_start_of_replicas(
    there: int, wanted: int | None, remembered: int | None, change: Change | None
) -> None:
    assert start_change(replicated(there), replicas=wanted, remembered=remembered) == change


@pytest.mark.parametrize(("there", "change"), [(0, None), (1, SetReplicas(0)), (100, SetReplicas(0))])
def test_a_stop_of_replicas(there: int, change: Change | None) -> None:
    assert stop_change(replicated(there)) == change


def test_what_can_be_suspended_is_resumed_and_suspended_whatever_counts_say() -> None:
    assert start_change(suspendable(True), replicas=3, remembered=4) == SetSuspend(False)
    assert start_change(suspendable(False), replicas=3) is None
    assert stop_change(suspendable(False)) == SetSuspend(True)
    assert stop_change(suspendable(True)) is None


@pytest.mark.parametrize("seen", [*map(replicated, (0, 1, 7)), *map(suspendable, (False, True))])
def test_what_was_changed_needs_no_change_again(seen: TargetSeen) -> None:
    for again in (start_change, stop_change):
        change = again(seen)
        match change:
            case SetReplicas(replicas):
                after = replicated(replicas)
            case SetSuspend(suspend):
                after = suspendable(suspend)
            case None:
                after = seen
        assert again(after) is None
        assert change is None or (made(after, change) and not made(seen, change))
        assert change is None or is_stop(change) == (again is stop_change)


def test_no_replicas_are_nothing_to_remember() -> None:
    assert to_remember(replicated(3)) == 3
    assert to_remember(replicated(0)) is None
    assert to_remember(suspendable(False)) is None


def test_a_newer_version_of_the_same_is_the_same() -> None:
    newer = TargetSeen("u", "8", replicas=2, selector="app=web", grace_seconds=30)
    assert replicated(2).same_but_version(newer)
    assert not replicated(3).same_but_version(newer)


@pytest.mark.parametrize(
    ("left", "nothing"),
    [
        (Left(), True),
        (Left(pods=1), False),
        (Left(jobs=1), False),
        (Left(unsettled=True), False),
        (Left(blocked="why"), True),
    ],
)
def test_nothing_is_left_when_nothing_runs_and_nothing_will(left: Left, nothing: bool) -> None:
    assert left.nothing == nothing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (SetReplicas(3), "scaled to 3"),
        (SetSuspend(True), "suspended"),
        (SetSuspend(False), "resumed"),
    ],
)
def test_a_change_says_what_it_is(change: Change, words: str) -> None:
    assert str(change) == words
