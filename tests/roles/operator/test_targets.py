"""Every kind of workload, there from the start, late, gone, or made anew."""

import pytest

from berth.kube.objects import Resource
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import CRON_JOBS, DEPLOYMENTS, JOBS, REPLICA_SETS, STATEFUL_SETS
from tests.roles.operator.objects import TTL_SECONDS, berth_lease, workload
from tests.roles.operator.stage import Stage

REPLICATED = (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS)
SUSPENDED = (CRON_JOBS, JOBS)


@pytest.mark.parametrize("kind", REPLICATED, ids=lambda kind: kind.kind)
async def test_replicas_run_in_one_and_then_in_the_other(stage: Stage, kind: Resource) -> None:
    await stage.start()
    await stage.deploy("web", kind)
    holder = await stage.settled()
    await holder.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.runs(stage.other(holder)))
    await stage.until(lambda: holder.lease("web") is None)


@pytest.mark.parametrize("kind", SUSPENDED, ids=lambda kind: kind.kind)
async def test_running_jobs_are_ended_before_the_other_cluster_begins(stage: Stage, kind: Resource) -> None:
    await stage.start()
    await stage.deploy("batch", kind)
    await stage.until(lambda: len(stage.running("batch")) == 1)
    (running,) = stage.running("batch")
    holder, standby = stage.clusters if running == "east" else stage.clusters[::-1]
    await holder.delete(BERTH_LEASES, "batch")
    await stage.until(lambda: stage.running("batch") == {standby.name})
    await stage.until(lambda: holder.lease("batch") is None)
    assert (await holder.get(kind, "batch"))["spec"]["suspend"] is True


@pytest.mark.parametrize("kind", SUSPENDED, ids=lambda kind: kind.kind)
async def test_running_jobs_are_ended_in_time_when_the_lease_is_lost(stage: Stage, kind: Resource) -> None:
    await stage.start()
    await stage.deploy("batch", kind)
    await stage.until(lambda: len(stage.running("batch")) == 1)
    (running,) = stage.running("batch")
    holder, standby = stage.clusters if running == "east" else stage.clusters[::-1]
    holder.lease_link.drop()
    await stage.until(lambda: stage.running("batch") == {standby.name}, within_seconds=TTL_SECONDS + 3)


async def test_a_job_started_by_hand_belongs_to_its_cron_job(stage: Stage) -> None:
    """As `kubectl create job --from` does it; it is ended with the others."""
    await stage.east.start()
    await stage.deploy("nightly", CRON_JOBS)
    await stage.until(lambda: stage.east.status("nightly").get("leaseState") == "held")
    cron_job = await stage.east.get(CRON_JOBS, "nightly")
    owner = {
        "apiVersion": CRON_JOBS.api_version,
        "kind": CRON_JOBS.kind,
        "name": "nightly",
        "uid": cron_job["metadata"]["uid"],
        "controller": True,
    }
    by_hand = {
        "metadata": {"name": "by-hand", "ownerReferences": [owner]},
        "spec": cron_job["spec"]["jobTemplate"]["spec"],
    }
    await stage.east.make(JOBS, by_hand)
    await stage.until(lambda: stage.pods(stage.east, "nightly"))
    await stage.east.delete(BERTH_LEASES, "nightly")
    await stage.until(lambda: stage.east.lease("nightly") is None)
    assert not stage.pods(stage.east, "nightly")


async def test_a_target_may_come_late(stage: Stage) -> None:
    await stage.east.start()
    await stage.east.make(BERTH_LEASES, berth_lease("web"))
    await stage.until(lambda: stage.east.status("web").get("conditions"))
    await stage.east.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web"))
    await stage.until(lambda: stage.runs(stage.east))


async def test_a_target_that_is_deleted_frees_the_lease_for_the_other_cluster(stage: Stage) -> None:
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    await holder.delete(DEPLOYMENTS, "web")
    await stage.until(lambda: stage.runs(stage.other(holder)))
    assert holder.condition("web", "Acquired") == ("False", "TargetMissing")
    # Made anew, it is a standby's.
    await holder.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web"))
    await stage.until(lambda: holder.condition("web", "Acquired") == ("False", "HeldByOther"))
    assert stage.runs(stage.other(holder))


async def test_a_target_that_is_made_anew_runs_under_a_new_token(stage: Stage) -> None:
    await stage.east.start()
    await stage.deploy()
    await stage.settled()
    before = stage.pods(stage.east)
    await stage.east.delete(DEPLOYMENTS, "web")
    await stage.east.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web"))
    await stage.until(lambda: len(stage.pods(stage.east)) == 2 and not before & stage.pods(stage.east))
    await stage.until(lambda: stage.east.status("web").get("fencingToken") == 2)


async def test_a_standbys_target_that_is_made_anew_is_stopped_at_once(stage: Stage) -> None:
    stage.tolerates_overlap = "it is made with replicas"
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    standby = stage.other(holder)
    await standby.delete(DEPLOYMENTS, "web")
    made = workload(DEPLOYMENTS, "web")
    made["spec"]["replicas"] = 2
    await standby.make(DEPLOYMENTS, made)

    async def stopped() -> bool:
        return await standby.replicas(DEPLOYMENTS, "web") == 0

    await stage.until_asked(stopped, within_seconds=2)
    await stage.until(lambda: stage.runs(holder))


async def test_a_lease_without_a_target_is_held_by_one(stage: Stage) -> None:
    await stage.start()
    for cluster in stage.clusters:
        await cluster.make(BERTH_LEASES, berth_lease("bare", None))
    states = {"held", "waiting"}
    await stage.until(
        lambda: {cluster.status("bare").get("leaseState") for cluster in stage.clusters} == states
    )
    holder = next(cluster for cluster in stage.clusters if cluster.status("bare")["leaseState"] == "held")
    assert await stage.holder("bare") == holder.name
    await holder.delete(BERTH_LEASES, "bare")
    await stage.until(
        lambda: stage.other(holder).status("bare").get("leaseState") == "held", within_seconds=2
    )
    await stage.until(lambda: holder.lease("bare") is None)
    assert await stage.token("bare") == 2


async def test_a_lease_without_a_target_says_so_when_it_is_lost(stage: Stage) -> None:
    await stage.start()
    for cluster in stage.clusters:
        await cluster.make(BERTH_LEASES, berth_lease("bare", None))
    await stage.until(
        lambda: (
            sorted(cluster.status("bare").get("leaseState", "") for cluster in stage.clusters)
            == ["held", "waiting"]
        )
    )
    holder = next(cluster for cluster in stage.clusters if cluster.status("bare")["leaseState"] == "held")
    holder.lease_link.drop()
    await stage.until(
        lambda: holder.status("bare").get("leaseState") != "held", within_seconds=TTL_SECONDS + 1
    )
    await stage.until(
        lambda: stage.other(holder).status("bare").get("leaseState") == "held", within_seconds=3
    )
