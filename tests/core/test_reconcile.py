"""What is done next for one BerthLease: each situation with its step, and whole lives played through."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from berth.core.reconcile import (
    AddFinalizer,
    Again,
    Cause,
    Claim,
    EndJobs,
    Look,
    Record,
    Recorded,
    Release,
    RemoveFinalizer,
    Rest,
    Seen,
    Start,
    Step,
    Stop,
    Target,
    next_step,
    stop_cause,
)
from berth.core.targets import Left

ACTIVE = Recorded("Active", "web", "east", 7, "uid-1")
STOPPING = replace(ACTIVE, phase="Stopping")
HELD = Claim("held", 7)
ELSEWHERE = Claim("elsewhere")
UNKNOWN = Claim()
STOPPED = Target("there", "uid-1", runs=False, starts=True)
RUNNING = Target("there", "uid-1", runs=True, starts=False)
JOBS_LEFT = Target("there", "uid-1", starts=True, jobs=1)
GONE = Left()


def seen(**of: Any) -> Seen:
    return Seen("web", "east", **of)


@pytest.mark.parametrize(
    ("of", "step"),
    [
        # Before anything
        ({"finalizer": False}, AddFinalizer()),
        ({"finalizer": False, "deleting": True}, Rest(wants=False)),
        # Somebody took it off: what was begun is still to be ended, and kept from going before that
        ({"finalizer": False, "target": RUNNING, "claim": HELD, "recorded": ACTIVE}, AddFinalizer()),
        ({"finalizer": False, "target": RUNNING, "claim": ELSEWHERE, "recorded": ACTIVE}, Stop("refused")),
        (
            {
                "finalizer": False,
                "deleting": True,
                "target": RUNNING,
                "claim": HELD,
                "recorded": ACTIVE,
            },
            Stop("deleted"),
        ),
        ({"finalizer": False, "deleting": True, "claim": HELD, "recorded": STOPPING}, Release(7)),
        # Standby
        ({"target": STOPPED}, Rest(wants=True)),
        ({"target": STOPPED, "claim": ELSEWHERE}, Rest(wants=True)),
        ({"target": RUNNING}, Rest(wants=True)),  # about to be known
        ({"target": RUNNING, "claim": Claim(troubled=True)}, Stop()),
        ({"target": RUNNING, "claim": ELSEWHERE}, Stop()),
        ({"target": RUNNING, "claim": Claim("lost", 6)}, Stop()),
        ({"target": STOPPED, "claim": Claim("lost", 6)}, Again()),
        ({"target": JOBS_LEFT, "claim": ELSEWHERE}, EndJobs()),
        ({"target": JOBS_LEFT}, Rest(wants=True)),
        ({"target": JOBS_LEFT, "deleting": True}, RemoveFinalizer()),
        ({"target": Target("unseen")}, Rest(wants=False)),
        ({"target": Target("missing")}, Rest(wants=False)),
        ({}, Rest(wants=True)),
        # Winning: write it down, then start
        ({"target": STOPPED, "claim": HELD}, Record("Active", 7)),
        ({"target": RUNNING, "claim": HELD}, Record("Active", 7)),
        ({"claim": HELD}, Record("Active", 7)),
        ({"target": STOPPED, "claim": HELD, "recorded": ACTIVE}, Start()),
        ({"target": RUNNING, "claim": HELD, "recorded": ACTIVE}, Rest(wants=True)),
        ({"claim": HELD, "recorded": replace(ACTIVE, target_uid="")}, Rest(wants=True)),
        # Held, and of no use
        ({"target": Target("missing"), "claim": HELD}, Release(7)),
        ({"target": Target("missing"), "claim": HELD, "released": True}, Rest(wants=False)),
        ({"target": STOPPED, "claim": HELD, "invalid": True}, Release(7)),
        ({"target": STOPPED, "claim": HELD, "other_semantics": True}, Release(7)),
        ({"target": STOPPED, "claim": HELD, "handover": True}, Release(7)),
        ({"target": STOPPED, "claim": HELD, "deleting": True}, Release(7)),
        ({"target": STOPPED, "deleting": True}, RemoveFinalizer()),
        ({"target": STOPPED, "claim": Claim("lost", 6), "deleting": True}, Again()),
        ({"target": RUNNING, "deleting": True}, RemoveFinalizer()),  # not ours any more
        ({"target": RUNNING, "invalid": True, "claim": UNKNOWN}, Stop()),
        # While it is not known, what runs goes on, and nothing is started
        ({"target": RUNNING, "claim": UNKNOWN, "recorded": ACTIVE}, Rest(wants=True)),
        ({"target": STOPPED, "claim": UNKNOWN, "recorded": ACTIVE}, Rest(wants=True)),
        ({"target": Target("unseen"), "claim": HELD, "recorded": ACTIVE}, Rest(wants=True)),
        # Losing: stop, write it down, look, release
        ({"target": RUNNING, "claim": Claim("lost", 7, loss="refused"), "recorded": ACTIVE}, Stop("refused")),
        ({"target": RUNNING, "claim": Claim("lost", 7), "recorded": ACTIVE}, Stop("deadline")),
        ({"target": RUNNING, "claim": Claim("held", 7, in_time=False), "recorded": ACTIVE}, Stop("deadline")),
        ({"target": RUNNING, "claim": ELSEWHERE, "recorded": ACTIVE}, Stop("refused")),
        ({"target": RUNNING, "claim": Claim("held", 8), "recorded": ACTIVE}, Stop("token_changed")),
        ({"target": RUNNING, "claim": HELD, "recorded": ACTIVE, "deleting": True}, Stop("deleted")),
        ({"target": RUNNING, "claim": HELD, "recorded": ACTIVE, "handover": True}, Stop("handover")),
        ({"target": RUNNING, "claim": HELD, "recorded": ACTIVE, "invalid": True}, Stop("invalid")),
        (
            {"target": RUNNING, "claim": HELD, "recorded": replace(ACTIVE, holder="old")},
            Stop("holder_changed"),
        ),
        (
            {"target": replace(RUNNING, uid="uid-2"), "claim": HELD, "recorded": ACTIVE},
            Stop("target_replaced"),
        ),
        (
            {"target": replace(STOPPED, uid="uid-2"), "claim": HELD, "recorded": ACTIVE},
            Record("Stopping", 7, "target_replaced"),
        ),
        (
            {"target": Target("missing"), "claim": HELD, "recorded": ACTIVE},
            Record("Stopping", 7, "target_missing"),
        ),
        (
            {"target": STOPPED, "claim": HELD, "recorded": ACTIVE, "deleting": True},
            Record("Stopping", 7, "deleted"),
        ),
        ({"target": RUNNING, "claim": HELD, "recorded": STOPPING}, Stop()),
        ({"target": Target("unseen"), "claim": HELD, "recorded": STOPPING}, Rest(wants=False)),
        ({"target": STOPPED, "claim": HELD, "recorded": STOPPING}, Look()),
        ({"target": STOPPED, "claim": HELD, "recorded": STOPPING, "left": Left(pods=1)}, Rest(wants=False)),
        ({"target": STOPPED, "claim": HELD, "recorded": STOPPING, "left": Left(pods=1, jobs=1)}, EndJobs()),
        ({"target": STOPPED, "claim": HELD, "recorded": STOPPING, "left": GONE}, Release(7)),
        ({"target": Target("missing"), "claim": HELD, "recorded": STOPPING, "left": GONE}, Release(7)),
        (
            {"target": STOPPED, "claim": HELD, "recorded": STOPPING, "left": GONE, "released": True},
            Record(""),
        ),
        ({"target": STOPPED, "claim": UNKNOWN, "recorded": STOPPING, "left": GONE}, Release(7)),
        ({"target": STOPPED, "claim": ELSEWHERE, "recorded": STOPPING, "left": GONE}, Record("")),
        ({"target": STOPPED, "claim": Claim("lost", 7), "recorded": STOPPING, "left": GONE}, Record("")),
        ({"target": STOPPED, "claim": Claim("held", 8), "recorded": STOPPING, "left": GONE}, Record("")),
        (
            {"target": STOPPED, "claim": Claim("held", 7, in_time=False), "recorded": STOPPING, "left": GONE},
            Record(""),
        ),
        ({"target": STOPPED, "claim": HELD, "recorded": STOPPING, "drain": False}, Release(7)),
        ({"target": JOBS_LEFT, "claim": HELD, "recorded": STOPPING, "drain": False}, Look()),
        (
            {
                "target": JOBS_LEFT,
                "claim": HELD,
                "recorded": STOPPING,
                "drain": False,
                "left": Left(pods=1, jobs=1),
            },
            EndJobs(),
        ),
        (
            {
                "target": JOBS_LEFT,
                "claim": HELD,
                "recorded": STOPPING,
                "drain": False,
                "left": Left(pods=1, unsettled=True),
            },
            Release(7),
        ),
        ({"claim": HELD, "recorded": STOPPING}, Release(7)),
    ],
)
def test_each_situation_has_its_step(of: dict[str, Any], step: Step) -> None:
    assert next_step(seen(**of)) == step


@pytest.mark.parametrize(
    ("of", "step"),
    [
        # Only a refusal ends it; a new tenure is written down, and nothing stops.
        ({"target": RUNNING, "claim": Claim(troubled=True), "recorded": ACTIVE}, Rest(wants=True)),
        ({"target": RUNNING, "claim": Claim("held", 8), "recorded": ACTIVE}, Record("Active", 8)),
        ({"target": RUNNING, "claim": Claim("lost", 7, loss="refused"), "recorded": ACTIVE}, Stop("refused")),
        ({"target": RUNNING, "claim": ELSEWHERE, "recorded": ACTIVE}, Stop("refused")),
        (
            {"target": RUNNING, "claim": HELD, "recorded": ACTIVE, "other_semantics": True},
            Stop("semantics_changed"),
        ),
    ],
)
def test_one_of_several_holders_goes_on(of: dict[str, Any], step: Step) -> None:
    assert next_step(seen(exclusive=False, **of)) == step


def played(found: Seen, pods: int) -> tuple[list[Step], Seen]:
    """Steps taken until it rests, each with its effect on the world; pods go one at each look."""
    taken: list[Step] = []
    while not isinstance(step := next_step(found), Rest) or found.left not in (None, GONE):
        taken.append(step)
        assert len(taken) < 30, taken
        match step:
            case Rest():
                found = replace(found, left=None)
            case Record(phase, token):
                uid = found.target.uid if phase == "Active" else found.recorded.target_uid
                found = replace(
                    found,
                    recorded=Recorded(phase, found.lease, found.holder, token, uid) if phase else Recorded(),
                    left=None,
                    released=False,
                )
            case Start():
                found = replace(found, target=replace(found.target, runs=True, starts=False))
            case Stop():
                found = replace(found, target=replace(found.target, runs=False, starts=True))
            case Look():
                pods -= 1
                found = replace(found, left=Left(pods=max(0, pods)))
            case Release():
                found = replace(found, released=True, claim=UNKNOWN)
            case Again():
                found = replace(found, claim=UNKNOWN)
            case RemoveFinalizer():
                found = replace(found, finalizer=False)
            case AddFinalizer():
                found = replace(found, finalizer=True)
            case EndJobs():
                jobs = None if found.target.jobs is None else 0
                found = replace(found, left=None, target=replace(found.target, jobs=jobs))
    return taken, found


def test_a_life_from_winning_to_deletion() -> None:
    taken, found = played(seen(finalizer=False, target=STOPPED, claim=HELD), 0)
    assert taken == [AddFinalizer(), Record("Active", 7), Start()]
    taken, found = played(replace(found, deleting=True), 2)
    assert taken == [
        Stop("deleted"),
        Record("Stopping", 7, "deleted"),
        Look(),
        Rest(wants=False),
        Look(),
        Release(7),
        Record(""),
        RemoveFinalizer(),
    ]


states = st.builds(
    seen,
    finalizer=st.booleans(),
    deleting=st.booleans(),
    invalid=st.booleans(),
    handover=st.booleans(),
    exclusive=st.booleans(),
    drain=st.booleans(),
    recorded=st.builds(
        Recorded,
        phase=st.sampled_from(["", "Active", "Stopping"]),
        lease=st.sampled_from(["web", "other"]),
        holder=st.sampled_from(["east", "other"]),
        token=st.sampled_from([7, 8]),
        target_uid=st.sampled_from(["uid-1", "uid-2"]),
    ),
    claim=st.builds(
        Claim,
        state=st.sampled_from(["unknown", "held", "elsewhere", "lost"]),
        token=st.sampled_from([7, 8]),
        in_time=st.booleans(),
        loss=st.sampled_from(["refused", "deadline"]),
        troubled=st.booleans(),
    ),
    target=st.builds(
        Target,
        state=st.sampled_from(["none", "unseen", "missing", "there"]),
        uid=st.sampled_from(["uid-1", "uid-2"]),
        runs=st.booleans(),
        starts=st.booleans(),
        jobs=st.none() | st.integers(0, 1),
    ),
    left=st.none() | st.builds(Left, pods=st.integers(0, 2), jobs=st.integers(0, 1)),
    released=st.booleans(),
)


@given(states)
def test_nothing_starts_but_under_the_token_that_is_recorded_and_held_in_time(found: Seen) -> None:
    if next_step(found) == Start():
        assert found.recorded.phase == "Active"
        assert found.claim.state == "held"
        assert found.claim.token == found.recorded.token
        assert found.claim.in_time or not found.exclusive
        assert found.target.uid == found.recorded.target_uid
        assert (found.deleting, found.invalid, found.handover) == (False, False, False)


@given(states)
def test_nothing_is_released_that_may_still_run(found: Seen) -> None:
    if isinstance(next_step(found), Release) and found.recorded.phase:
        assert found.recorded.phase == "Stopping"
        assert not found.target.runs or found.target.state != "there"
        assert found.target.state == "none" or not found.drain or found.left == GONE


@given(states)
def test_the_object_does_not_go_before_what_was_begun_is_over(found: Seen) -> None:
    if next_step(found) == RemoveFinalizer():
        assert found.recorded.phase == ""
        assert found.deleting


@given(states)
def test_what_is_out_of_time_is_stopped_at_once(found: Seen) -> None:
    out_of_time = found.exclusive and not found.claim.in_time and found.claim.state == "held"
    if out_of_time and found.recorded.phase and found.finalizer and found.target.state == "there":
        assert not found.target.runs or isinstance(next_step(found), Stop)


@given(states, st.integers(0, 3))
def test_every_life_comes_to_rest(found: Seen, pods: int) -> None:
    played(found, pods)


@given(states)
def test_a_cause_is_one_that_is_told(found: Seen) -> None:
    assert stop_cause(found) in (None, *Cause.__args__)
