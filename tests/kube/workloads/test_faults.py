"""What goes wrong between berth and a cluster: refused, cut off, dropped, late."""

from typing import Any

import pytest
import trio
import trio.testing

from berth.core.targets import Left, Missing, SetReplicas, TargetSeen, Unseen
from berth.kube.api import KubeClient
from berth.kube.faults import Conflict, Forbidden, Unavailable
from berth.kube.objects import metadata
from berth.kube.workloads import TargetRef
from berth.kube.workloads.changing import WRITE_SECONDS
from berth.kube.workloads.workloads import KINDS_MAX, STOP_LATE_SECONDS
from tests.kube.server.faults import Fault
from tests.kube.server.kinds import CRON_JOBS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Known, Network
from tests.kube.workloads.stage import RING, RINGS, Stage, job_of, running, workload
from tests.runtime.conftest import Journal

Clock = trio.testing.MockClock
FORBIDDEN = 'deployments.apps is forbidden: User "robot" cannot list resource "deployments"'
WRITES = {"create", "update", "patch", "delete"}


def forbid(kube: KubeServer, verb: str, plural: str, times: int = 1000) -> None:
    kube.fail(Fault("status", verb, plural, times, 403, "Forbidden", FORBIDDEN))


def allow(kube: KubeServer) -> None:
    kube.script = type(kube.script)()


def why(stage: Stage, target: TargetRef) -> str:
    found = stage.workloads.seen(target)
    return found.why if isinstance(found, Unseen) else ""


def writes(kube: KubeServer) -> list[tuple[str, str]]:
    return [call for call in kube.calls if call[0] in WRITES]


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_what_we_may_not_read_says_so_until_we_may(
    alone: Stage, rings: KubeServer, autojump_clock: Clock, verb: str
) -> None:
    forbid(rings, verb, "deployments")
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS))
    target = alone.ref()
    await alone.until(lambda: why(alone, target).endswith(FORBIDDEN))
    assert target in alone.told
    alone.told.clear()
    allow(rings)
    with trio.fail_after(60):
        await alone.until(lambda: isinstance(alone.workloads.seen(target), TargetSeen))
    assert target in alone.told


async def test_what_was_seen_stays_seen_while_the_cluster_does_not_answer(
    rings: KubeServer, journal: Journal, autojump_clock: Clock
) -> None:
    """A stop needs no watch."""
    network = Network(rings)
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=2))
    async with running(Stage(KubeClient(Known(), network), "default", journal)) as stage:
        seen = await stage.seen(stage.ref())
        forbid(rings, "watch", "deployments")
        forbid(rings, "list", "deployments")
        for watch in tuple(rings.watches.open):
            watch.cut()
        await trio.sleep(100)
        assert stage.workloads.seen(stage.ref()) == seen
        await stage.stop(stage.ref())
        assert rings.find(DEPLOYMENTS, "web")["spec"]["replicas"] == 0  # type: ignore[index]
        network.down = True
        with pytest.raises(Unavailable):
            await stage.workloads.change(stage.ref(), seen, SetReplicas(0))
        await trio.sleep(100)
        network.down = False
        allow(rings)
        rings.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 7}})
        await stage.until(lambda: _replicas(stage) == 7)


def _replicas(stage: Stage, target: TargetRef | None = None) -> int | None:
    found = stage.workloads.seen(target or stage.ref())
    return found.replicas if isinstance(found, TargetSeen) else None


async def test_drift_is_seen_after_dropped_watches_and_forgotten_pasts(
    alone: Stage, rings: KubeServer, autojump_clock: Clock
) -> None:
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=2))
    await alone.seen(alone.ref())
    for number in range(3, 9):
        for watch in tuple(rings.watches.open):
            watch.freeze()
        alone.told.clear()
        rings.patch(DEPLOYMENTS, "web", {"spec": {"replicas": number}})
        if number % 2:
            rings.compact()
        for watch in tuple(rings.watches.open):
            watch.cut()
        await alone.until(lambda number=number: _replicas(alone) == number)
        assert alone.ref() in alone.told


async def test_a_stop_and_a_start_are_one_request_each(alone: Stage, rings: KubeServer) -> None:
    for kind in (DEPLOYMENTS, CRON_JOBS, RINGS):
        rings.create(kind, workload(kind))
        target = alone.ref(kind)
        await alone.seen(target)
        rings.calls.clear()
        await alone.start(target, 2)
        assert rings.calls == [("patch", kind.plural)]
        await alone.until(lambda target=target: target in alone.told)
        rings.calls.clear()
        await alone.stop(target)
        assert writes(rings) == [("patch", kind.plural)]


async def test_changes_of_nothing_but_the_status_are_not_told(alone: Stage, rings: KubeServer) -> None:
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS))
    await alone.seen(alone.ref())
    alone.told.clear()
    for number in range(5):
        status = {"status": {"replicas": number}}
        version = (await alone.patch(DEPLOYMENTS, "web", status, "status"))["metadata"]["resourceVersion"]
        await alone.until(lambda version=version: _version(alone) == version)
    assert alone.told == []


def _version(stage: Stage) -> str:
    found = stage.workloads.seen(stage.ref())
    return found.resource_version if isinstance(found, TargetSeen) else ""


async def test_a_start_of_unknown_outcome_is_in_doubt_until_its_version_is_gone(
    alone: Stage, rings: KubeServer, autojump_clock: Clock
) -> None:
    """It may be made yet, when everything seems stopped."""
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS))
    target = alone.ref()
    seen = await alone.seen(target)
    await alone.patch(DEPLOYMENTS, "web", {"status": {"observedGeneration": 1}}, "status")
    seen = await alone.workloads.change(target, await _fresh(alone), SetReplicas(0))
    assert (await alone.left(target)).nothing
    rings.fail(Fault("cut", "patch", "deployments"))
    with pytest.raises(Unavailable):
        await alone.workloads.change(target, seen, SetReplicas(2))
    assert await alone.left(target) == Left(unsettled=True)
    await alone.patch(DEPLOYMENTS, "web", {"metadata": {"labels": {"some": "label"}}})
    assert (await alone.left(target)).nothing
    # Without anything that outdates it, it may come for as long as a server takes.
    rings.fail(Fault("cut", "patch", "deployments"))
    with pytest.raises(Unavailable):
        await alone.workloads.change(target, await _fresh(alone), SetReplicas(2))
    await trio.sleep(59)
    assert not (await alone.left(target)).nothing
    await trio.sleep(2)
    assert (await alone.left(target)).nothing


async def _fresh(stage: Stage) -> TargetSeen:
    found = await stage.client.get(DEPLOYMENTS, "web", stage.namespace)
    version = found["metadata"]["resourceVersion"]
    await stage.until(lambda: _version(stage) == version)
    return await stage.seen(stage.ref())


async def test_a_stop_of_unknown_outcome_is_told_by_the_watch(
    alone: Stage, rings: KubeServer, autojump_clock: Clock
) -> None:
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=2))
    seen = await alone.seen(alone.ref())
    rings.fail(Fault("cut after", "patch", "deployments"))
    with pytest.raises(Unavailable):
        await alone.workloads.change(alone.ref(), seen, SetReplicas(0))
    await alone.until(lambda: _replicas(alone) == 0)


async def test_a_stop_that_hangs_is_asked_for_once_more(
    alone: Stage, rings: KubeServer, autojump_clock: Clock
) -> None:
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=2))
    seen = await alone.seen(alone.ref())
    rings.fail(Fault("hang", "patch", "deployments"))
    before = trio.current_time()
    stopped = await alone.workloads.change(alone.ref(), seen, SetReplicas(0))
    assert stopped.uid == seen.uid
    assert _replicas(alone) == 0
    assert trio.current_time() - before == STOP_LATE_SECONDS


async def test_stops_that_all_hang_end_in_time(
    alone: Stage, rings: KubeServer, autojump_clock: Clock
) -> None:
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=2))
    seen = await alone.seen(alone.ref())
    rings.fail(Fault("hang", "patch", "deployments", 2))
    before = trio.current_time()
    with pytest.raises(Unavailable):
        await alone.workloads.change(alone.ref(), seen, SetReplicas(0))
    assert trio.current_time() - before == WRITE_SECONDS + STOP_LATE_SECONDS


async def test_a_write_that_is_forbidden_says_so(alone: Stage, rings: KubeServer) -> None:
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=2))
    seen = await alone.seen(alone.ref())
    forbid(rings, "patch", "deployments")
    with pytest.raises(Forbidden, match="patch deployments/scale default/web"):
        await alone.workloads.change(alone.ref(), seen, SetReplicas(0))


async def test_conflicts_without_end_are_told(alone: Stage, rings: KubeServer) -> None:
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS))
    seen = await alone.seen(alone.ref())
    rings.fail(Fault("status", "patch", "deployments", 1000, 409, "Conflict", "busy"))
    rings.calls.clear()
    with pytest.raises(Conflict):
        await alone.workloads.change(alone.ref(), seen, SetReplicas(2))
    assert rings.calls == [("patch", "deployments"), ("get", "deployments"), ("patch", "deployments")]


async def test_what_is_left_is_not_known_while_it_cannot_be_read(alone: Stage, rings: KubeServer) -> None:
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS))
    await alone.seen(alone.ref())
    for verb, plural in (("get", "deployments"), ("list", "replicasets"), ("list", "pods")):
        forbid(rings, verb, plural)
        with pytest.raises(Forbidden):
            await alone.left(alone.ref())
        allow(rings)


async def test_who_may_not_read_nodes_judges_by_the_time(alone: Stage, rings: KubeServer) -> None:
    rings.create(REPLICA_SETS, workload(REPLICA_SETS))
    target = alone.ref(REPLICA_SETS)
    await alone.seen(target)
    await alone.patch(REPLICA_SETS, "web", {"status": {"observedGeneration": 1}}, "status")
    spec = {"nodeName": "node-1", "containers": []}
    rings.create(PODS, {"metadata": {"name": "web-1", "labels": {"app": "web"}}, "spec": spec})
    pod = await alone.client.delete(PODS, "web-1", "default")
    forbid(rings, "get", "nodes")
    alone.late(pod, 4)
    assert await alone.left(target) == Left(pods=1)
    alone.late(pod, 6)
    due = metadata(pod)["deletionTimestamp"]
    assert (await alone.left(target)).blocked == f"pod web-1 was to end by {due} on node node-1"


async def test_controllers_that_do_not_run_are_told_of(
    alone: Stage, rings: KubeServer, autojump_clock: Clock
) -> None:
    rings.create(DEPLOYMENTS, workload(DEPLOYMENTS))
    target = alone.ref()
    await alone.seen(target)
    assert await alone.left(target) == Left(unsettled=True)
    await trio.sleep(16)
    assert "kube-controller-manager" in (await alone.left(target)).blocked
    await alone.patch(DEPLOYMENTS, "web", {"status": {"observedGeneration": 1}}, "status")
    assert await alone.left(target) == Left()
    await alone.patch(DEPLOYMENTS, "web", {"spec": {"paused": True}})
    assert await alone.left(target) == Left(unsettled=True)


@pytest.mark.parametrize("behind", ["spec", "generation"])
async def test_a_replica_set_that_may_make_pods_yet_is_unsettled(
    alone: Stage, rings: KubeServer, behind: str
) -> None:
    """The Deployment has been seen to, and its ReplicaSet has not: a pod may come any moment."""
    made = rings.create(DEPLOYMENTS, workload(DEPLOYMENTS))
    target = alone.ref()
    await alone.seen(target)
    await alone.patch(DEPLOYMENTS, "web", {"status": {"observedGeneration": 1}}, "status")
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "web",
        "uid": made["metadata"]["uid"],
        "controller": True,
    }
    replica_set = workload(REPLICA_SETS, "web", replicas=int(behind == "spec"))
    about = {"name": "web-1", "labels": {"app": "web"}, "ownerReferences": [owner]}
    rings.create(REPLICA_SETS, {**replica_set, "metadata": about})
    status: Any = {"observedGeneration": int(behind == "spec")}
    await alone.patch(REPLICA_SETS, "web-1", {"status": status}, "status")
    assert await alone.left(target) == Left(unsettled=True)
    await alone.patch(REPLICA_SETS, "web-1", {"spec": {"replicas": 0}})
    await alone.patch(REPLICA_SETS, "web-1", {"status": {"observedGeneration": 5}}, "status")
    assert await alone.left(target) == Left()


async def test_a_kind_that_comes_late_is_found(
    alone: Stage, rings: KubeServer, autojump_clock: Clock
) -> None:
    late = TargetRef("default", "example.org/v1", "Gem", "web")
    await alone.until(lambda: why(alone, late) == "the cluster knows no Gem of example.org/v1")
    gems = type(RINGS)("example.org", "v1", "gems", "Gem")
    kind = type(RING)(gems, status=True, scale=True, replicas_at="facets", generation=True, lax=False)
    alone.told.clear()
    rings.define(kind)
    rings.create(gems, {"metadata": {"name": "web"}, "spec": {"facets": 8}})
    with trio.fail_after(15):
        await alone.until(lambda: _replicas(alone, late) == 8)
    assert late in alone.told


async def test_a_cluster_that_does_not_answer_is_no_reason_to_say_that_a_kind_is_unknown(
    alone: Stage, rings: KubeServer, autojump_clock: Clock
) -> None:
    rings.fail(Fault("status", "discover", "", 1, 503, "ServiceUnavailable", "etcd is away"))
    await alone.until(lambda: why(alone, alone.ref(RINGS)) == "discover example.org/v1: etcd is away")
    with trio.fail_after(15):
        await alone.seen(alone.ref(RINGS), Missing)


async def test_a_scale_that_cannot_be_read_says_so_and_is_read_again(
    alone: Stage, rings: KubeServer, autojump_clock: Clock
) -> None:
    rings.create(RINGS, workload(RINGS, replicas=2))
    target = alone.ref(RINGS)
    forbid(rings, "get", "rings", times=2)
    await alone.until(lambda: why(alone, target).endswith(FORBIDDEN))
    assert (await alone.seen(target)).replicas == 2
    # What was read stands while it cannot be read.
    forbid(rings, "get", "rings", times=2)
    rings.patch(RINGS, "web", {"spec": {"size": 3}})
    await trio.sleep(1)
    assert _replicas(alone, target) == 2
    await alone.until(lambda: _replicas(alone, target) == 3)


async def test_scales_are_read_of_those_targets_only_that_are_asked_for(
    alone: Stage, rings: KubeServer
) -> None:
    for name in ("a", "b", "c"):
        rings.create(RINGS, workload(RINGS, name, replicas=2))
    await alone.seen(alone.ref(RINGS, "b"))
    rings.patch(RINGS, "a", {"spec": {"size": 3}})
    rings.patch(RINGS, "b", {"spec": {"size": 3}})
    await alone.until(lambda: _replicas(alone, alone.ref(RINGS, "b")) == 3)
    assert rings.asked_for("get", "rings") == 2


async def test_all_namespaces_are_one_watch_and_some_are_one_each(
    rings: KubeServer, journal: Journal
) -> None:
    client = KubeClient(Known(), Network(rings))
    for namespaces, watches in (((), 1), (("default", "kube-system"), 2)):
        rings.calls.clear()
        stage = Stage(client, "default", journal)
        stage.workloads = stage.another(namespaces=namespaces)
        async with running(stage):
            await stage.seen(stage.ref(), Missing)
            await stage.seen(stage.ref()._replace(namespace="kube-system"), Missing)
            assert rings.asked_for("watch", "deployments") == watches
            elsewhere = stage.ref()._replace(namespace="elsewhere")
            if namespaces:
                assert why(stage, elsewhere) == "the namespace elsewhere is not watched"


async def test_kinds_are_looked_for_up_to_a_limit(alone: Stage, rings: KubeServer) -> None:
    for number in range(KINDS_MAX):
        alone.workloads.seen(TargetRef("default", "example.org/v1", f"Kind{number}", "web"))
    assert "no more are looked at" in why(alone, alone.ref(RINGS))
    await alone.until(lambda: len(rings.calls) == KINDS_MAX)


async def test_what_was_asked_before_it_runs_is_told_then(rings: KubeServer, journal: Journal) -> None:
    stage = Stage(KubeClient(Known(), Network(rings)), "default", journal)
    assert why(stage, stage.ref()) == "Deployments are being listed"
    assert stage.told == []
    async with running(stage):
        await stage.until(lambda: stage.told == [stage.ref()])
        assert stage.workloads.seen(stage.ref()) == Missing()


async def test_a_job_that_another_deletes_meanwhile_is_no_fault(alone: Stage, rings: KubeServer) -> None:
    made = rings.create(CRON_JOBS, workload(CRON_JOBS))
    target = alone.ref(CRON_JOBS)
    await alone.seen(target)
    for number in range(3):
        rings.create(JOBS, job_of(made, f"web-{number}"))
    rings.fail(Fault("status", "delete", "jobs", 1, 404, "NotFound", "gone"))
    rings.fail(Fault("status", "delete", "jobs", 1, 409, "Conflict", "made anew"))
    assert await alone.workloads.end_jobs(target) == 1
