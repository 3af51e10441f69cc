"""The rig itself: the stand-ins do what the real controllers do, and an overlap is seen. No operator runs."""

import pytest
import trio

from berth.kube.access import access_by_kubeconfig
from berth.kube.api import open_client
from berth.kube.faults import Unavailable
from berth.kube.informer import Changed
from berth.kube.objects import Object, Resource, name_of
from tests.kube.server.kinds import CRON_JOBS, DEPLOYMENTS, JOBS, REPLICA_SETS, STATEFUL_SETS
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import workload
from tests.roles.operator.overlap import Overlap
from tests.roles.operator.stage import Stage
from tests.runtime.conftest import Journal

REPLICATED = (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS)


async def resume(cluster: Cluster, kind: Resource, name: str, *, suspend: bool = False) -> None:
    await cluster.patch(kind, name, {"spec": {"suspend": suspend}})


@pytest.mark.parametrize("kind", REPLICATED, ids=lambda kind: kind.kind)
async def test_replicas_come_and_go(stage: Stage, kind: Resource) -> None:
    await stage.east.make(kind, workload(kind, "web"))
    await stage.east.scale(kind, "web", 2)
    await stage.until(lambda: len(stage.pods(stage.east)) == 2)

    async def ready() -> bool:
        return (await stage.east.get(kind, "web"))["status"].get("readyReplicas") == 2

    await stage.until_asked(ready)
    await stage.east.scale(kind, "web", 0)
    await stage.until(lambda: not stage.pods(stage.east))


async def test_a_pod_takes_its_time_to_end(stage: Stage) -> None:
    await stage.east.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web", end_seconds=1.5))
    await stage.east.scale(DEPLOYMENTS, "web", 1)
    await stage.until(lambda: _phase(stage.east) == "Running")
    before = stage.pods(stage.east)
    await stage.east.scale(DEPLOYMENTS, "web", 0)
    await stage.stays(lambda: stage.pods(stage.east) == before, seconds=1)
    await stage.until(lambda: not stage.pods(stage.east), within_seconds=3)


async def test_a_pod_may_never_end(stage: Stage) -> None:
    await stage.east.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web", end_seconds="never"))
    await stage.east.scale(DEPLOYMENTS, "web", 1)
    await stage.until(lambda: _phase(stage.east) == "Running")
    await stage.east.delete(DEPLOYMENTS, "web")
    await stage.stays(lambda: stage.pods(stage.east), seconds=2)


async def test_a_job_runs_once_it_is_not_suspended(stage: Stage) -> None:
    await stage.east.make(JOBS, workload(JOBS, "batch", run_seconds=0.5))
    await stage.stays(lambda: not stage.pods(stage.east, "batch"), seconds=1)
    await resume(stage.east, JOBS, "batch")
    await stage.until(lambda: stage.pods(stage.east, "batch"))
    await stage.until_asked(lambda: _complete(stage.east, "batch"))
    assert not stage.pods(stage.east, "batch")


async def test_a_suspended_job_has_its_pods_ended(stage: Stage) -> None:
    await stage.east.make(JOBS, workload(JOBS, "batch"))
    await resume(stage.east, JOBS, "batch")
    await stage.until(lambda: stage.pods(stage.east, "batch"))
    await resume(stage.east, JOBS, "batch", suspend=True)
    await stage.until(lambda: not stage.pods(stage.east, "batch"))


async def test_a_schedule_makes_jobs_until_it_is_suspended(stage: Stage) -> None:
    await stage.east.make(CRON_JOBS, workload(CRON_JOBS, "nightly", run_seconds=0.1))
    await resume(stage.east, CRON_JOBS, "nightly")

    async def a_job() -> bool:
        # A real controller manager names them by the minute: there is no second one soon.
        page = await stage.east.client.list_all(JOBS, stage.namespace)
        return any(name_of(job).name.startswith("nightly-") for job in page.items)

    await stage.until_asked(a_job)
    await resume(stage.east, CRON_JOBS, "nightly", suspend=True)


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_what_is_owned_goes_with_its_owner(stage: Stage, propagation: str) -> None:
    await stage.east.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web", end_seconds=1))
    await stage.east.scale(DEPLOYMENTS, "web", 1)
    await stage.until(lambda: _phase(stage.east) == "Running")
    await stage.east.delete(DEPLOYMENTS, "web", propagation=propagation)
    assert stage.pods(stage.east)
    assert await stage.east.exists(DEPLOYMENTS, "web") == (propagation == "Foreground")
    await stage.until(lambda: not stage.pods(stage.east))

    async def gone() -> bool:
        return not await stage.east.exists(DEPLOYMENTS, "web")

    await stage.until_asked(gone)


async def test_the_stage_sees_where_a_workload_runs(stage: Stage) -> None:
    stage.tolerates_overlap = "it is what is looked at"
    for cluster in stage.clusters:
        await cluster.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web"))
        await cluster.scale(DEPLOYMENTS, "web", 1)
    await stage.until(lambda: stage.running() == {"east", "west"})
    await stage.west.scale(DEPLOYMENTS, "web", 0)
    await stage.until(lambda: stage.running() == {"east"})
    (seconds,) = stage.overlap.seconds().values()
    assert 0 < seconds < 10


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("places", ["test server"], indirect=True)
async def test_the_lease_server_stands_still_and_comes_back(stage: Stage) -> None:
    session = await stage.caller.open_session(holder="ops", ttl_seconds=30)
    await stage.caller.acquire(stage.namespace, "web", holder="ops", session=session.id)
    await stage.restart_leases()
    assert await stage.holder() == "ops"
    async with stage.leases_frozen():
        with trio.move_on_after(0.5) as waiting:
            await stage.token()
    assert waiting.cancelled_caught
    assert await stage.token() == 1


async def test_a_cluster_stands_still_for_whom_it_is_frozen(stage: Stage) -> None:
    access = await access_by_kubeconfig(stage.east.flags[0].partition("=")[2], logger=Journal().logger)
    async with open_client(access) as client:
        await client.list_page(DEPLOYMENTS, stage.namespace)
        async with stage.east.kube_frozen():
            with pytest.raises(Unavailable):
                await client.list_page(DEPLOYMENTS, stage.namespace, timeout_seconds=0.5)
        await client.list_page(DEPLOYMENTS, stage.namespace)


class TestOverlap:
    """On a clock that the test moves."""

    def test_it_counts_from_the_second_clusters_first_pod_to_the_first_clusters_last(self) -> None:
        now = 0.0
        overlap = Overlap(lambda: now)
        overlap.hear("east", appeared(first := pod("1")))
        overlap.hear("east", appeared(second := pod("2")))
        now = 1
        overlap.hear("west", appeared(pod("3")))
        assert overlap.clusters(WEB) == {"east", "west"}
        now = 2
        overlap.hear("east", Changed(name_of(first), first, None))
        overlap.hear("east", Changed(name_of(second), second, ending := {**second, "spec": {"ending": 1}}))
        now = 2.5
        overlap.hear("east", Changed(name_of(second), ending, None))
        now = 9
        assert overlap.seconds() == {WEB: 1.5}

    def test_it_goes_on_until_it_ends(self) -> None:
        now = 0.0
        overlap = Overlap(lambda: now)
        overlap.hear("east", appeared(pod("1")))
        overlap.hear("west", appeared(pod("2")))
        now = 3
        assert overlap.seconds() == {WEB: 3}

    def test_a_pod_that_has_ended_by_itself_does_not_count(self) -> None:
        overlap = Overlap(lambda: 0)
        overlap.hear("east", appeared(running := pod("1")))
        overlap.hear("east", Changed(name_of(running), running, pod("1", phase="Succeeded")))
        overlap.hear("west", appeared(pod("2")))
        assert overlap.seconds() == {}

    def test_workloads_are_told_apart(self) -> None:
        overlap = Overlap(lambda: 0)
        overlap.hear("east", appeared(pod("1")))
        overlap.hear("west", appeared(pod("2", app="other")))
        assert overlap.seconds() == {}


WEB = ("team", "web")


def pod(uid: str, *, app: str = "web", phase: str = "Running") -> Object:
    metadata = {"name": f"pod-{uid}", "namespace": "team", "uid": uid, "labels": {"app": app}}
    return {"metadata": metadata, "status": {"phase": phase}}


def appeared(obj: Object) -> Changed:
    return Changed(name_of(obj), None, obj)


def _phase(cluster: Cluster) -> str:
    phases = [found["status"].get("phase") for found in cluster.kubelet.pods.values()]
    return phases[0] if phases else ""


async def _complete(cluster: Cluster, name: str) -> bool:
    conditions = (await cluster.get(JOBS, name)).get("status", {}).get("conditions") or ()
    return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)
