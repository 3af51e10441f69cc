"""What a BerthLease says of itself, by what the operator sees."""

import msgspec
import pytest

from berth.core.reconcile import Claim, Recorded, Seen, Target
from berth.core.targets import Left
from berth.roles.operator.status import Facts, next_status, recorded_in
from berth.wire.berthlease import Condition, Status, Workload, read_status, status_patch

NOW, LATER = "2026-01-02T03:04:05Z", "2026-01-02T03:05:00Z"
ACTIVE = Recorded("Active", "web", "east", 7, "uid-1")
RUNNING = Target("there", "uid-1", runs=True)
HELD = Seen("web", "east", recorded=ACTIVE, claim=Claim("held", 7), target=RUNNING)
FACTS = Facts(3, acquired_at="2026-01-02T03:04:00Z", target="Deployment web", selector="app=web")


def condition(status: Status, kind: str) -> tuple[str, str, str]:
    found = next(each for each in status.conditions if each.type == kind)
    return found.status, found.reason, found.message


def test_of_a_holder() -> None:
    status = next_status(Status(), HELD, FACTS, NOW)
    assert (status.lease_state, status.current_holder, status.fencing_token) == ("held", "east", 7)
    assert status.acquired_at == FACTS.acquired_at
    assert status.workload == Workload("uid-1", "Active", "web", "east", 7, "app=web")
    assert status.observed_generation == 3
    assert condition(status, "Acquired") == ("True", "Held", "held with fencing token 7")
    assert condition(status, "HeartbeatHealthy")[:2] == ("True", "Heartbeating")
    assert {each.type for each in status.conditions} == {"Acquired", "HeartbeatHealthy"}


def test_the_same_situation_gives_the_same_status() -> None:
    status = next_status(Status(), HELD, FACTS, NOW)
    assert next_status(status, HELD, FACTS, LATER) == status


def test_it_is_read_back_as_it_was_written() -> None:
    status = next_status(Status(), HELD, FACTS, NOW)
    stored = {key: value for key, value in status_patch(status).items() if value is not None}
    stored["workload"] = {key: value for key, value in stored["workload"].items() if value is not None}
    assert read_status({"status": msgspec.json.decode(msgspec.json.encode(stored))}) == status
    assert recorded_in(status, "web") == ACTIVE


def test_a_time_moves_when_a_condition_turns_and_only_then() -> None:
    before = next_status(Status(), HELD, FACTS, NOW)
    lost = Seen("web", "east", recorded=Recorded("Stopping", "web", "east", 7, "uid-1"), target=RUNNING)
    after = next_status(before, lost, FACTS, LATER)
    times = {each.type: each.last_transition_time for each in after.conditions}
    assert times == {"Acquired": LATER, "HeartbeatHealthy": NOW}


def test_of_a_standby() -> None:
    seen = Seen("web", "east", claim=Claim("elsewhere"), target=Target("there", "uid-1"))
    status = next_status(Status(), seen, Facts(1, other_holder="west"), NOW)
    assert (status.lease_state, status.current_holder, status.fencing_token) == ("waiting", "west", 0)
    assert condition(status, "Acquired") == ("False", "HeldByOther", "held by west")
    assert condition(status, "HeartbeatHealthy")[:2] == ("True", "Standby")
    assert status.workload is None


@pytest.mark.parametrize(
    ("seen", "facts", "reason"),
    [
        (
            Seen("w", "e", invalid=True),
            Facts(1, problems=("spec.ttlSeconds: must be 1 or more",)),
            "InvalidSpec",
        ),
        (Seen("w", "e", target=Target("missing")), FACTS, "TargetMissing"),
        (Seen("w", "e", target=Target("unseen")), Facts(1, target_trouble="no such kind"), "TargetUnseen"),
        (Seen("w", "e", claim=Claim("elsewhere")), Facts(1, waits_for="lock_delay"), "NotFree"),
        (Seen("w", "e"), Facts(1), "Waiting"),
        (Seen("w", "e", recorded=Recorded("Stopping", "w", "e", 1)), Facts(1), "Stopping"),
    ],
)
def test_why_a_lease_is_not_held(seen: Seen, facts: Facts, reason: str) -> None:
    assert condition(next_status(Status(), seen, facts, NOW), "Acquired")[:2] == ("False", reason)


def test_trouble_is_told_once() -> None:
    troubled = Seen("w", "e", recorded=ACTIVE, claim=Claim("held", 7, troubled=True), target=RUNNING)
    first = next_status(Status(), troubled, Facts(1, trouble="connection refused"), NOW)
    assert condition(first, "HeartbeatHealthy") == ("False", "AcquireFailed", "connection refused")
    assert next_status(first, troubled, Facts(1, trouble="timed out"), LATER) == first


def test_what_blocks_a_stop_is_told_until_it_does_no_more() -> None:
    stopping = Recorded("Stopping", "w", "e", 7, "uid-1")
    blocked = Seen(
        "w", "e", recorded=stopping, left=Left(pods=1, blocked="pod w-1 is on node n, which is gone")
    )
    status = next_status(Status(), blocked, FACTS, NOW)
    assert condition(status, "DrainBlocked") == ("True", "PodsRemain", "pod w-1 is on node n, which is gone")
    unseen = Seen("w", "e", recorded=stopping)
    assert next_status(status, unseen, FACTS, LATER) == status, "until there has been a look"
    over = next_status(status, Seen("w", "e", claim=Claim("elsewhere")), FACTS, LATER)
    assert condition(over, "DrainBlocked")[0] == "False"


def test_what_a_ttl_and_a_budget_come_to() -> None:
    facts = Facts(1, ttl_pending="held with 30 s", budget_short="pods may take 30 s")
    status = next_status(Status(), HELD, facts, NOW)
    assert condition(status, "TTLPending") == ("True", "NextTenure", "held with 30 s")
    assert condition(status, "StopBudgetShort") == ("True", "GraceTooLong", "pods may take 30 s")
    assert condition(next_status(status, HELD, FACTS, NOW), "TTLPending")[0] == "False"


def test_conditions_of_others_stay() -> None:
    theirs = Condition("Ready", "True", "Fine", "theirs", NOW)
    assert theirs in next_status(Status(conditions=(theirs,)), HELD, FACTS, LATER).conditions


def test_a_lease_without_target_of_skaphos_berth_is_held_as_it_says() -> None:
    status = Status(lease_state="held", current_holder="east", fencing_token=5)
    assert recorded_in(status, "web") == Recorded("Active", "web", "east", 5)
    assert recorded_in(Status(lease_state="waiting", current_holder="west"), "web") == Recorded()
