"""BerthLease objects: read as a kube-apiserver hands them out, judged, and their status written."""

from typing import Any

import pytest

from berth.wire.berthlease import (
    Action,
    Condition,
    Pod,
    Scale,
    Spec,
    Status,
    Target,
    Unreadable,
    Workload,
    read_spec,
    read_status,
    read_target,
    status_patch,
)
from berth.wire.berthlease_rules import problems, suspends
from tests.wire.berthleases import DEPLOYMENT, INVALID, UNREADABLE, VALID, lease, scaled, suspended

WEB = Target("apps/v1", "Deployment", "web")

OF_THE_REFERENCE = {
    "observedGeneration": 3,
    "leaseState": "held",
    "currentHolder": "east",
    "acquiredAt": "2026-01-01T00:00:00Z",
    "expiresAt": "2026-01-01T00:00:30Z",
    "lastHeartbeat": "2026-01-01T00:00:10Z",
    "fencingToken": 7,
    "workload": {
        "targetUID": "u-1",
        "phase": "Active",
        "deadline": "2026-01-01T00:00:30Z",
        "leaseName": "web",
        "holder": "east",
        "token": 7,
        "pods": [{"name": "web-1", "uid": "p-1"}],
    },
    "conditions": [
        {
            "type": "Acquired",
            "status": "True",
            "reason": "Held",
            "message": "held with token 7",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 3,
        }
    ],
}


def merged(status: Any, patch: Any) -> Any:
    """RFC 7386, as the API server does it."""
    if not isinstance(patch, dict):
        return patch
    kept: dict[str, Any] = dict(status) if isinstance(status, dict) else {}
    for key, value in patch.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = merged(kept.get(key), value)
    return kept


class TestReading:
    def test_a_spec_with_everything(self) -> None:
        fields = {"lockDelaySeconds": 5, "stopBudgetSeconds": 4, "drain": False, "semantics": "at-least-once"}
        assert read_spec({"spec": scaled(**fields)}) == Spec(
            "web",
            "east",
            30,
            10,
            "at-least-once",
            WEB,
            Action(scale=Scale(2)),
            Action(scale=Scale(0)),
            5,
            4,
            drain=False,
        )

    def test_a_spec_with_what_is_required(self) -> None:
        spec = read_spec({"spec": lease()})
        assert (spec.semantics, spec.target, spec.acquire_action) == ("at-most-once", None, None)
        assert (spec.lock_delay_seconds, spec.stop_budget_seconds, spec.drain) == (0, None, True)

    def test_what_is_not_known_yet_is_passed_over(self) -> None:
        target = {**DEPLOYMENT, "cluster": "west"}
        obj = {"spec": scaled(target=target, weight=3), "status": {"weight": 3, "leaseState": "held"}}
        assert read_spec(obj) == read_spec({"spec": scaled()})
        assert read_target(obj) == WEB
        assert read_status(obj) == Status(lease_state="held")

    @pytest.mark.parametrize(("spec", "why"), UNREADABLE.values(), ids=UNREADABLE)
    def test_what_is_no_spec_says_why(self, spec: Any, why: str) -> None:
        with pytest.raises(Unreadable) as found:
            read_spec({"spec": spec})
        assert str(found.value) == why

    @pytest.mark.parametrize("obj", [{}, {"spec": None}])
    def test_an_object_without_a_spec(self, obj: Any) -> None:
        with pytest.raises(Unreadable, match="spec: is required"):
            read_spec(obj)
        assert read_target(obj) is None

    @pytest.mark.parametrize("spec", ["text", 7, []])
    def test_a_spec_that_is_no_object(self, spec: Any) -> None:
        with pytest.raises(Unreadable, match="spec: expected `object`"):
            read_spec({"spec": spec})
        assert read_target({"spec": spec}) is None

    def test_the_target_is_known_when_nothing_else_makes_sense(self) -> None:
        assert read_target({"spec": {"target": DEPLOYMENT, "ttlSeconds": "soon"}}) == WEB
        assert read_target({"spec": scaled(target={"kind": "Deployment"})}) is None


class TestStatus:
    def test_the_references_is_understood(self) -> None:
        assert read_status({"status": OF_THE_REFERENCE}) == Status(
            3,
            "held",
            "east",
            7,
            "2026-01-01T00:00:00Z",
            Workload(
                "u-1",
                "Active",
                "web",
                "east",
                7,
                deadline="2026-01-01T00:00:30Z",
                pods=(Pod("web-1", "p-1"),),
            ),
            (Condition("Acquired", "True", "Held", "held with token 7", "2026-01-01T00:00:00Z", 3),),
            "2026-01-01T00:00:30Z",
            "2026-01-01T00:00:10Z",
        )

    @pytest.mark.parametrize("obj", [{}, {"status": None}, {"status": {}}, {"status": "text"}])
    def test_none_is_an_empty_one(self, obj: Any) -> None:
        assert read_status(obj) == Status()

    def test_what_was_begun_is_known_when_nothing_else_makes_sense(self) -> None:
        status = {**OF_THE_REFERENCE, "leaseState": "perhaps"}
        found = read_status({"status": status})
        assert found.lease_state == ""
        assert found.workload is not None
        assert found.workload.token == 7

    def test_a_patch_makes_it_what_it_says(self) -> None:
        kept = Status(4, "waiting", "west", conditions=(Condition("A", "False", "B", "", "t", 4),))
        for status in (Status(), kept, read_status({"status": OF_THE_REFERENCE})):
            stored = merged(OF_THE_REFERENCE, status_patch(status))
            assert read_status({"status": stored}) == status

    def test_a_patch_takes_away_what_a_heartbeat_would_change(self) -> None:
        stored = merged(OF_THE_REFERENCE, status_patch(Status(3, "held", "east", 7)))
        assert stored == {
            "observedGeneration": 3,
            "leaseState": "held",
            "currentHolder": "east",
            "fencingToken": 7,
        }

    def test_the_workload_keeps_its_uid_which_the_reference_requires(self) -> None:
        status = Status(workload=Workload(phase="Stopping", holder="east", token=7))
        stored = merged(OF_THE_REFERENCE, status_patch(status))
        assert stored == {
            "workload": {"targetUID": "", "phase": "Stopping", "holder": "east", "token": 7},
        }


class TestRules:
    @pytest.mark.parametrize("spec", VALID.values(), ids=VALID)
    def test_what_can_be_followed_has_no_problems(self, spec: Any) -> None:
        assert problems(read_spec({"spec": spec})) == []

    @pytest.mark.parametrize(("spec", "expected"), INVALID.values(), ids=INVALID)
    def test_what_cannot_says_why(self, spec: Any, expected: list[str]) -> None:
        assert problems(read_spec({"spec": spec})) == expected

    def test_only_jobs_and_schedules_are_suspended(self) -> None:
        assert not suspends(WEB)
        assert not suspends(Target("example.test/v1", "CronJob", "web"))
        target = read_target({"spec": suspended()})
        assert target is not None
        assert suspends(target)
