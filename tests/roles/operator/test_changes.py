"""A BerthLease is changed while it is held."""

from typing import Any

from tests.kube.conftest import BERTH_LEASES
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import TTL_SECONDS
from tests.roles.operator.stage import Stage


async def held(stage: Stage, **lease: Any) -> Cluster:
    await stage.start()
    await stage.deploy(**lease)
    return await stage.settled()


async def test_another_count_of_replicas_is_taken_up(stage: Stage) -> None:
    holder = await held(stage)
    for cluster in stage.clusters:
        await cluster.patch(BERTH_LEASES, "web", {"spec": {"acquireAction": {"scale": {"replicas": 3}}}})
    await stage.until(lambda: stage.runs(holder, pods=3))
    assert await stage.token() == 1


async def test_another_ttl_counts_with_the_next_tenure(stage: Stage) -> None:
    holder = await held(stage)
    before = stage.pods(holder)
    for cluster in stage.clusters:
        await cluster.patch(BERTH_LEASES, "web", {"spec": {"ttlSeconds": 2 * TTL_SECONDS}})
    await stage.until(lambda: holder.condition("web", "TTLPending")[0] == "True")
    await stage.stays(lambda: stage.pods(holder) == before, seconds=1.5 * TTL_SECONDS)
    assert await stage.token() == 1
    await holder.delete(BERTH_LEASES, "web")
    winner = stage.other(holder)
    await stage.until(lambda: stage.runs(winner))
    held_by = await stage.caller.get_lease(stage.namespace, "web")
    assert held_by.session is not None
    assert (await stage.caller.get_session(held_by.session)).ttl_seconds == 2 * TTL_SECONDS


async def test_other_semantics_count_once_what_runs_has_stopped(stage: Stage) -> None:
    stage.tolerates_overlap = "it is at-least-once at first"
    await stage.start()
    await stage.deploy(semantics="at-least-once")
    await stage.until(lambda: stage.running() == {"east", "west"})
    for cluster in stage.clusters:
        await cluster.patch(BERTH_LEASES, "web", {"spec": {"semantics": "at-most-once"}})
    holder = await stage.settled()
    await stage.stays(lambda: stage.runs(holder), seconds=TTL_SECONDS)
    for cluster in stage.clusters:
        await cluster.patch(BERTH_LEASES, "web", {"spec": {"semantics": "at-least-once"}})
    await stage.until(lambda: stage.running() == {"east", "west"})


async def test_a_ttl_that_is_raised_by_much_interrupts_nothing(stage: Stage) -> None:
    """The budget that goes with it is longer than the tenure that there is."""
    holder = await held(stage)
    before = stage.pods(holder)
    raised = {"spec": {"ttlSeconds": 60, "stopBudgetSeconds": 20}}
    for cluster in stage.clusters:
        await cluster.patch(BERTH_LEASES, "web", raised)
    await stage.until(lambda: holder.condition("web", "TTLPending")[0] == "True")
    await stage.stays(lambda: stage.pods(holder) == before, seconds=1.5 * TTL_SECONDS)
    assert await stage.token() == 1


async def test_another_heartbeat_interrupts_nothing(stage: Stage) -> None:
    holder = await held(stage)
    before = stage.pods(holder)
    await holder.patch(BERTH_LEASES, "web", {"spec": {"heartbeatIntervalSeconds": 2}})
    await stage.stays(lambda: stage.pods(holder) == before, seconds=1.5 * TTL_SECONDS)
    assert await stage.token() == 1


async def test_labels_and_annotations_of_others_are_left_alone(stage: Stage) -> None:
    holder = await held(stage, ttl_seconds=10)
    told = {"labels": {"team": "a"}, "annotations": {"note": "b"}}
    await holder.patch(BERTH_LEASES, "web", {"metadata": told})
    await holder.kill()
    await holder.start()
    await stage.settled()
    metadata = (await holder.get(BERTH_LEASES, "web"))["metadata"]
    assert metadata["labels"] == {"team": "a"}
    assert metadata["annotations"]["note"] == "b"


async def test_a_status_that_is_wiped_is_written_anew(stage: Stage) -> None:
    holder = await held(stage)
    before = stage.pods(holder)
    wiped = {"status": dict.fromkeys(holder.status("web"))}
    await holder.patch(BERTH_LEASES, "web", wiped, subresource="status")
    await stage.until(lambda: holder.status("web").get("leaseState") == "held")
    assert stage.pods(holder) == before
    assert await stage.token() == 1 == holder.status("web")["fencingToken"]


async def test_a_finalizer_that_is_taken_off_is_put_on_again(stage: Stage) -> None:
    holder = await held(stage)
    await holder.patch(BERTH_LEASES, "web", {"metadata": {"finalizers": None}})
    await stage.until(lambda: (holder.lease("web") or {})["metadata"].get("finalizers"))
    assert await stage.token() == 1
