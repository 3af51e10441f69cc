"""What is left of a stopped workload: never too little, and in the end nothing."""

import pytest
import trio
import trio.testing

from berth.core.targets import Left
from berth.kube.objects import Object, Resource, metadata, name_of
from berth.kube.workloads.leftover import SETTLE_SECONDS
from tests.kube.server.kinds import CRON_JOBS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, STATEFUL_SETS
from tests.kube.workloads.stage import RINGS, Stage, job_of, workload

REPLICATED: tuple[Resource, ...] = (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS)
Replicated = pytest.mark.parametrize("kind", REPLICATED, ids=lambda kind: kind.kind)
POD_SPEC = {"containers": [{"name": "main", "image": "example.test/nothing"}]}


async def with_a_pod(stage: Stage, kind: Resource = DEPLOYMENTS, node: str = "node-1") -> Object:
    """On a node, of a workload that was started with one replica."""
    await stage.make(kind, workload(kind))
    await stage.start(stage.ref(kind), 1)
    [pod] = await stage.pods(1)
    await stage.bind(pod, node)
    return pod


async def ending(stage: Stage, kind: Resource = DEPLOYMENTS, node: str = "node-1") -> Object:
    """A pod that is being ended, for its workload was stopped."""
    pod = await with_a_pod(stage, kind, node)
    await stage.stop(stage.ref(kind))
    await stage.until_left(stage.ref(kind), lambda left: not left.unsettled)
    [pod] = await stage.all()
    assert metadata(pod)["deletionTimestamp"]
    return pod


@Replicated
async def test_a_pod_counts_until_it_is_gone(stage: Stage, kind: Resource) -> None:
    pod = await ending(stage, kind)
    assert await stage.left(stage.ref(kind)) == Left(pods=1)
    await stage.end(pod)
    await stage.until_left(stage.ref(kind), lambda left: left == Left())


@pytest.mark.parametrize(
    ("phase", "count"), [("Pending", 1), ("Running", 1), ("Unknown", 1), ("Succeeded", 0), ("Failed", 0)]
)
async def test_a_pod_counts_in_every_phase_but_the_last(stage: Stage, phase: str, count: int) -> None:
    pod = await ending(stage)
    await stage.patch(PODS, name_of(pod).name, {"status": {"phase": phase}}, "status")
    assert (await stage.left(stage.ref())).pods == count


async def test_a_pod_that_a_finalizer_keeps_counts_and_it_says_so(stage: Stage) -> None:
    await stage.make(DEPLOYMENTS, workload(DEPLOYMENTS))
    await stage.start(stage.ref(), 1)
    [pod] = await stage.pods(1)
    name = name_of(pod).name
    await stage.patch(PODS, name, {"metadata": {"finalizers": ["example.org/last-words"]}})
    await stage.stop(stage.ref())
    await stage.until_left(stage.ref(), lambda left: not left.unsettled)
    [pod] = await stage.all()
    stage.late(pod, 6)
    left = await stage.left(stage.ref())
    due = metadata(pod)["deletionTimestamp"]
    assert left == Left(1, blocked=f"pod {name} was to end by {due}, and is kept by example.org/last-words")
    await stage.patch(PODS, name, {"metadata": {"finalizers": None}})
    await stage.until_left(stage.ref(), lambda left: left == Left())


@pytest.mark.parametrize(
    ("ready", "trouble"),
    [("Unknown", "does not answer"), ("False", "is not ready")],
)
async def test_a_pod_on_a_lost_node_blocks_once_its_grace_is_over(
    stage: Stage, ready: str, trouble: str
) -> None:
    node = f"{stage.namespace}-lost"
    await stage.node(node, ready)
    pod = await ending(stage, node=node)
    stage.late(pod, -0.1)
    assert (await stage.left(stage.ref())).blocked == ""
    stage.late(pod, 0.1)
    name, due = name_of(pod).name, metadata(pod)["deletionTimestamp"]
    expected = Left(1, blocked=f"pod {name} was to end by {due}, and its node {node} {trouble}")
    assert await stage.left(stage.ref()) == expected
    stage.late(pod, 1000)
    assert await stage.left(stage.ref()) == expected  # no word changes while nothing does


async def test_a_pod_on_a_ready_node_blocks_only_when_it_is_late(stage: Stage) -> None:
    node = f"{stage.namespace}-ready"
    await stage.node(node, "True")
    pod = await ending(stage, node=node)
    stage.late(pod, 4.9)
    assert (await stage.left(stage.ref())).blocked == ""
    stage.late(pod, 5.1)
    name, due = name_of(pod).name, metadata(pod)["deletionTimestamp"]
    assert (await stage.left(stage.ref())).blocked == f"pod {name} was to end by {due} on node {node}"


async def test_a_pod_on_a_node_that_is_gone_blocks(stage: Stage) -> None:
    pod = await ending(stage, node="no-such-node")
    stage.late(pod, 0.1)
    assert (await stage.left(stage.ref())).blocked.endswith("and its node no-such-node is gone")


async def test_a_pod_of_another_with_the_same_labels_does_not_count(stage: Stage) -> None:
    """Selectors that overlap are an error, and not for the lease to suffer from."""
    for kind, name in (
        (DEPLOYMENTS, "web"),
        (DEPLOYMENTS, "other"),
        (STATEFUL_SETS, "third"),
        (REPLICA_SETS, "fourth"),
    ):
        made = workload(kind, name, replicas=1)
        made["spec"]["selector"] = {"matchLabels": {"team": "one"}}
        made["spec"]["template"]["metadata"]["labels"] = {"team": "one", "of": name}
        await stage.make(kind, made)
    await stage.pods(4)
    await stage.until_left(stage.ref(), lambda left: left.pods == 1, "team=one")
    await stage.stop(stage.ref())
    await stage.until_left(stage.ref(), lambda left: left == Left(), "team=one")
    await stage.stop(stage.ref(STATEFUL_SETS, "third"))
    third = stage.ref(STATEFUL_SETS, "third")
    await stage.until_left(third, lambda left: left == Left(), "team=one")
    await stage.pods(2)


@Replicated
async def test_of_a_target_that_is_deleted_the_pods_count_on(stage: Stage, kind: Resource) -> None:
    """Whether its selector is known or not."""
    pod = await with_a_pod(stage, kind)
    await stage.client.delete(kind, "web", stage.namespace, propagation="Background")
    target = stage.ref(kind)
    for selector in ("app=web", ""):
        assert (await stage.left(target, selector)).pods == 1
    await stage.until_left(target, lambda left: not left.unsettled)
    await stage.until_left(target, lambda left: left == Left(pods=1), "")
    await stage.end(pod)
    for selector in ("app=web", ""):
        await stage.until_left(target, lambda left: left == Left(), selector)


async def test_pods_of_two_incarnations_count(stage: Stage) -> None:
    pod = await with_a_pod(stage)
    await stage.client.delete(DEPLOYMENTS, "web", stage.namespace, propagation="Background")
    await stage.until_left(stage.ref(), lambda left: left == Left(pods=1))
    made = workload(DEPLOYMENTS, "web", replicas=1)
    made["spec"]["selector"] = {"matchLabels": {"app": "anew"}}
    made["spec"]["template"]["metadata"]["labels"] = {"app": "anew"}
    await stage.make(DEPLOYMENTS, made)
    # The first is found by what was remembered, the second by what is there.
    await stage.until_left(stage.ref(), lambda left: left.pods == 2)
    await stage.end(pod)
    await stage.until_left(stage.ref(), lambda left: left.pods == 1)


async def test_a_replica_set_left_behind_says_that_nobody_ends_it(stage: Stage) -> None:
    await with_a_pod(stage)
    [replica_set] = await stage.all(REPLICA_SETS)
    # As `kubectl delete --cascade=orphan` leaves it.
    await stage.client.delete(DEPLOYMENTS, "web", stage.namespace, propagation="Orphan")
    name = name_of(replica_set).name
    left = await stage.until_left(stage.ref(), lambda left: bool(left.blocked))
    said = f"ReplicaSet {name} has replicas, and no Deployment has it: delete it"
    assert left == Left(1, unsettled=True, blocked=said)


async def test_a_pod_that_nobody_controls_counts_and_says_so(stage: Stage) -> None:
    await stage.make(DEPLOYMENTS, workload(DEPLOYMENTS))
    await stage.make(PODS, {"metadata": {"name": "bare", "labels": {"app": "web"}}, "spec": POD_SPEC})
    target = stage.ref()
    await stage.seen(target)
    left = await stage.until_left(target, lambda left: not left.unsettled)
    said = f"pod bare runs on, and Deployment {stage.namespace}/web does not end it"
    assert left == Left(1, blocked=said)


async def test_an_unfinished_job_counts_even_without_a_pod(stage: Stage) -> None:
    made = await stage.make(CRON_JOBS, workload(CRON_JOBS))
    target = stage.ref(CRON_JOBS)
    await stage.seen(target)
    await stage.make(JOBS, job_of(made, "web-1", suspend=True))
    assert await stage.left(target, "") == Left(jobs=1, unsettled=True)


async def test_of_a_cron_job_a_job_may_begin_in_the_moment_of_its_suspension(
    alone: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    made = await alone.make(CRON_JOBS, workload(CRON_JOBS))
    target = alone.ref(CRON_JOBS)
    await alone.seen(target)
    assert await alone.left(target, "") == Left(unsettled=True)
    await alone.make(JOBS, job_of(made, "web-1", suspend=True))
    await trio.sleep(SETTLE_SECONDS)
    assert (await alone.left(target, "")).jobs == 1
    await alone.workloads.end_jobs(target)
    assert await alone.left(target, "") == Left(unsettled=True)


async def test_pods_of_a_custom_resource_are_found_by_the_selector_that_it_tells(stage: Stage) -> None:
    await stage.make(RINGS, workload(RINGS, replicas=1))
    target = stage.ref(RINGS)
    await stage.seen(target)
    await stage.patch(RINGS, "web", {"status": {"size": 0, "selector": "ring=web"}}, "status")
    # Only its own controller knows by what it makes its pods.
    about = {"name": "gem-0", "labels": {"ring": "web"}}
    pod = await stage.make(PODS, {"metadata": about, "spec": POD_SPEC})
    assert (await stage.left(target, "")) == Left(1, unsettled=True)
    await stage.stop(target)
    assert (await stage.left(target, "")).pods == 1
    await stage.end(pod)
    assert await stage.left(target, "") == Left()
