"""Whole operators, simulated: one cluster at a time has pods of a lease, whatever fails on one side of them;
somebody has them in the end; and who is told to stop leaves nothing behind.
"""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from berth.core import reconcile
from berth.core.reconcile import Cause, Look, Record, Rest, Seen, Step, next_step, stop_cause
from berth.core.targets import Left
from berth.roles.operator import looking, reconciler
from tests.sim.operators import TTL_SECONDS, operators
from tests.sim.plan import Plan, plan_of
from tests.sim.seeds import report
from tests.sim.world import simulate

SEEDS = 8
LEASE_FAULTS = (
    "partition", "one-way partition", "storm", "slow network", "late duplicates", "node wall step",
    "server pause", "server suspend", "server crash", "server restart", "server wall step", "store slow",
    "store faults",
)  # fmt: skip


def plan(seed: int) -> Plan:
    made = plan_of(seed)
    made.store, made.servers = "durable", 1 + seed % 2
    made.ttl_seconds = made.session_ttl_seconds = TTL_SECONDS
    made.faults = LEASE_FAULTS
    return made


@pytest.mark.parametrize("which", range(SEEDS))
def test_pods_are_in_one_cluster_at_a_time(which: int) -> None:
    verdict = simulate(plan(which), operators)
    if verdict.ledger.violations:
        pytest.fail(report(verdict, whole_log=False), pytrace=False)
    assert verdict.ledger.seen["a workload that moved"]


def test_a_run_is_the_same_each_time() -> None:
    first, second = (simulate(plan(1), operators) for _ in range(2))
    assert first.ledger.digest() == second.ledger.digest()


def does_not_look(seen: Seen) -> Step:
    step = next_step(seen)
    return next_step(replace(seen, left=Left())) if isinstance(step, Look) else step


def does_not_wait_for_pods(seen: Seen) -> Step:
    step = next_step(seen)
    return Record("") if isinstance(step, Rest) and seen.recorded.phase == "Stopping" else step


def knows_no_deadline(seen: Seen) -> Cause | None:
    cause = stop_cause(seen)
    return None if cause == "deadline" else cause


def keeps_no_time(_: object) -> int:
    return 0


@pytest.mark.parametrize(
    ("where", "what", "broken"),
    [
        (reconciler, "next_step", does_not_look),
        (reconciler, "next_step", does_not_wait_for_pods),
        (reconcile, "stop_cause", knows_no_deadline),
        (looking, "_budget_us", keeps_no_time),
    ],
)
def test_a_rule_that_is_broken_is_noticed(
    monkeypatch: pytest.MonkeyPatch, where: object, what: str, broken: Callable[..., object]
) -> None:
    monkeypatch.setattr(where, what, broken)
    assert any(simulate(plan(which), operators).ledger.violations for which in range(SEEDS))
