"""Workloads of every kind, started and stopped: on stand-in controllers and on the real ones."""

import pytest
import trio

from berth.core.targets import (
    Change,
    Missing,
    SetReplicas,
    SetSuspend,
    TargetSeen,
    Unseen,
    start_change,
    stop_change,
)
from berth.kube.faults import Conflict, NotFound
from berth.kube.objects import Resource, name_of, uid_of
from berth.kube.workloads import TargetRef
from tests.kube.server.kinds import CRON_JOBS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, STATEFUL_SETS
from tests.kube.workloads.stage import GRACE_SECONDS, RINGS, WITHIN_SECONDS, Stage, started, workload

REPLICATED = (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS)
KINDS: tuple[Resource, ...] = (*REPLICATED, CRON_JOBS, JOBS, RINGS)
Kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
Replicated = pytest.mark.parametrize("kind", REPLICATED, ids=lambda kind: kind.kind)


def _why(stage: Stage, target: TargetRef) -> str:
    found = stage.workloads.seen(target)
    return found.why if isinstance(found, Unseen) else ""


def _selector(stage: Stage, target: TargetRef) -> str:
    found = stage.workloads.seen(target)
    return found.selector if isinstance(found, TargetSeen) else ""


def _uid(stage: Stage, target: TargetRef) -> str:
    found = stage.workloads.seen(target)
    return found.uid if isinstance(found, TargetSeen) else ""


def _stopped(stage: Stage, target: TargetRef) -> bool:
    found = stage.workloads.seen(target)
    return isinstance(found, TargetSeen) and stop_change(found) is None


def _stop_of(seen: TargetSeen) -> Change:
    return SetReplicas(0) if seen.suspended is None else SetSuspend(True)


async def _gone(stage: Stage, kind: Resource) -> None:
    with trio.fail_after(WITHIN_SECONDS):
        while True:
            if not await stage.all(kind):
                return
            await trio.sleep(0.05)


@Kind
async def test_a_target_is_started_and_stopped(stage: Stage, kind: Resource) -> None:
    made = await stage.make(kind, workload(kind))
    target = stage.ref(kind)
    seen = await stage.seen(target)
    assert seen.uid == uid_of(made)
    assert stop_change(seen) is None
    assert start_change(seen, replicas=2) == started(kind, 2)
    after = await stage.workloads.change(target, seen, started(kind, 2))
    assert start_change(after, replicas=2) is None
    assert stage.workloads.seen(target) == after
    stopped = await stage.stop(target)
    assert stop_change(stopped) is None
    now = stage.workloads.seen(target)
    assert isinstance(now, TargetSeen)
    assert stop_change(now) is None


@Replicated
async def test_its_pods_come_and_go(stage: Stage, kind: Resource) -> None:
    await stage.make(kind, workload(kind))
    target = stage.ref(kind)
    seen = await stage.seen(target)
    assert (seen.selector, seen.grace_seconds) == ("app=web", GRACE_SECONDS)
    # Without a node no pod is ready, and a StatefulSet of the stand-in waits for that.
    count = 1 if kind == STATEFUL_SETS else 2
    await stage.start(target, count)
    await stage.pods(count)
    assert (await stage.left(target)).pods == count
    await stage.stop(target)
    await stage.until_left(target, lambda left: left.nothing)
    assert await stage.all() == []


async def test_a_custom_resource_has_its_replicas_where_its_definition_says(stage: Stage) -> None:
    await stage.make(RINGS, workload(RINGS, replicas=3))
    target = stage.ref(RINGS)
    seen = await stage.seen(target)
    assert (seen.replicas, seen.selector) == (3, "")
    # Its controller says by what its pods are found.
    status = {"size": 3, "selector": "ring=web"}
    await stage.patch(RINGS, "web", {"status": status}, "status")
    await stage.until(lambda: _selector(stage, target) == "ring=web")
    await stage.stop(target)
    found = await stage.client.get(RINGS, "web", stage.namespace)
    assert found["spec"] == {"size": 0}
    # Only its controller knows whether there are pods that nobody finds.
    assert (await stage.left(target, "")).pods == 3
    await stage.patch(RINGS, "web", {"status": {"size": 0}}, "status")
    assert (await stage.left(target, "")).nothing


async def test_a_custom_resource_without_a_number_is_not_seen_until_it_has_one(stage: Stage) -> None:
    await stage.make(RINGS, {"metadata": {"name": "web"}, "spec": {}})
    target = stage.ref(RINGS)
    await stage.until(lambda: "does not exist" in _why(stage, target))
    await stage.patch(RINGS, "web", {"spec": {"size": 2}})
    assert (await stage.seen(target)).replicas == 2


@pytest.mark.parametrize(
    ("api_version", "kind", "why"),
    [
        ("apps/v1", "Deploymint", "the cluster knows no Deploymint of apps/v1"),
        ("nothing.example.org/v1", "Ring", "the cluster knows no Ring of nothing.example.org/v1"),
        ("v1", "ConfigMap", "ConfigMap of v1 has no scale subresource, and cannot be stopped by it"),
        ("v1", "Namespace", "Namespace of v1 is not a thing of a namespace"),
    ],
)
async def test_what_cannot_be_a_target_says_why(stage: Stage, api_version: str, kind: str, why: str) -> None:
    target = stage.ref()._replace(api_version=api_version, kind=kind)
    await stage.until(lambda: _why(stage, target) == why)
    assert target in stage.told
    with pytest.raises(NotFound):
        await stage.workloads.change(target, TargetSeen("u", "1", replicas=1), started(DEPLOYMENTS, 1))
    with pytest.raises(NotFound):
        await stage.left(target)


@Kind
async def test_what_is_missing_is_seen_when_it_comes(stage: Stage, kind: Resource) -> None:
    target = stage.ref(kind)
    assert isinstance(stage.workloads.seen(target), Unseen)
    await stage.seen(target, Missing)
    assert stage.told == [target]
    await stage.make(kind, workload(kind, replicas=2))
    await stage.until(lambda: isinstance(stage.workloads.seen(target), TargetSeen))
    assert stage.told.count(target) >= 2
    await stage.client.delete(kind, "web", stage.namespace)
    await stage.seen(target, Missing)


@Kind
async def test_drift_is_told_within_a_second(stage: Stage, kind: Resource) -> None:
    await stage.make(kind, workload(kind))
    target = stage.ref(kind)
    await stage.seen(target)
    await stage.start(target, 2)
    await trio.sleep(0.5)  # the controllers' first excitement
    stage.told.clear()
    spec = {"suspend": True} if kind in (CRON_JOBS, JOBS) else {"size" if kind == RINGS else "replicas": 0}
    await stage.patch(kind, "web", {"spec": spec})
    with trio.fail_after(1):
        await stage.until(lambda: target in stage.told and _stopped(stage, target))


@Kind
async def test_what_is_made_anew_is_another(stage: Stage, kind: Resource) -> None:
    await stage.make(kind, workload(kind))
    target = stage.ref(kind)
    before = await stage.seen(target)
    await stage.client.delete(kind, "web", stage.namespace)
    await _gone(stage, kind)
    made = await stage.make(kind, workload(kind, runs=True, replicas=1))
    change = started(kind, 2)
    with pytest.raises(Conflict):
        await stage.workloads.change(target, before, change)
    if kind != RINGS:
        # Of a custom resource only the version tells, and that was written over by a look.
        with pytest.raises(Conflict):
            await stage.workloads.change(target, before, _stop_of(before))
    await stage.until(lambda: _uid(stage, target) == uid_of(made))
    assert not _stopped(stage, target)


@Kind
async def test_a_stop_meets_no_conflict(stage: Stage, kind: Resource) -> None:
    """Whoever wrote to it meanwhile."""
    await stage.make(kind, workload(kind, runs=True, replicas=1))
    target = stage.ref(kind)
    seen = await stage.seen(target)
    await stage.patch(kind, "web", {"metadata": {"labels": {"some": "label"}}})
    after = await stage.workloads.change(target, seen, _stop_of(seen))
    assert stop_change(after) is None


@Kind
async def test_a_start_is_made_where_nothing_has_changed_that_matters(stage: Stage, kind: Resource) -> None:
    await stage.make(kind, workload(kind))
    target = stage.ref(kind)
    seen = await stage.seen(target)
    await stage.patch(kind, "web", {"metadata": {"labels": {"some": "label"}}})
    after = await stage.workloads.change(target, seen, started(kind, 2))
    assert start_change(after, replicas=2) is None


@pytest.mark.parametrize("kind", [*REPLICATED, RINGS], ids=lambda kind: kind.kind)
async def test_a_start_is_looked_at_again_where_the_count_has_changed(stage: Stage, kind: Resource) -> None:
    await stage.make(kind, workload(kind))
    target = stage.ref(kind)
    seen = await stage.seen(target)
    await stage.patch(kind, "web", {"spec": {"size" if kind == RINGS else "replicas": 5}})
    with pytest.raises(Conflict, match="changed meanwhile"):
        await stage.workloads.change(target, seen, started(kind, 1))
    now = stage.workloads.seen(target)
    assert isinstance(now, TargetSeen)
    assert now.replicas == 5


@Kind
async def test_what_is_gone_cannot_be_changed(stage: Stage, kind: Resource) -> None:
    await stage.make(kind, workload(kind))
    target = stage.ref(kind)
    seen = await stage.seen(target)
    await stage.client.delete(kind, "web", stage.namespace)
    await _gone(stage, kind)
    with pytest.raises(NotFound):
        await stage.workloads.change(target, seen, started(kind, 2))
    await stage.seen(target, Missing)


async def test_of_a_cron_job_the_jobs_are_ended_with_their_pods(stage: Stage) -> None:
    made = await stage.make(CRON_JOBS, workload(CRON_JOBS))
    target = stage.ref(CRON_JOBS)
    await stage.start(target)
    # One comes by schedule, then one by hand, and one that is nobody's.
    await stage.until_left(target, lambda left: left.jobs >= 1)
    owner = {
        "apiVersion": CRON_JOBS.api_version,
        "kind": CRON_JOBS.kind,
        "name": "web",
        "uid": uid_of(made),
        "controller": True,
    }
    job = made["spec"]["jobTemplate"]["spec"]
    await stage.make(JOBS, {"metadata": {"name": "by-hand", "ownerReferences": [owner]}, "spec": job})
    await stage.make(JOBS, {"metadata": {"name": "web-other"}, "spec": job})
    await stage.until_left(target, lambda left: left.jobs >= 2 and left.pods >= 2)
    await stage.stop(target)
    await trio.sleep(0.2)
    left = await stage.left(target)
    for pod in await stage.all():
        await stage.bind(pod)
    assert await stage.workloads.end_jobs(target) == left.jobs
    assert await stage.workloads.end_jobs(target) == 0
    ending = await stage.left(target)
    assert (ending.jobs, ending.pods, ending.unsettled) == (0, left.pods, True)
    for pod in await stage.all():
        if not name_of(pod).name.startswith("web-other"):
            await stage.end(pod)
    await stage.until_left(target, lambda left: left.nothing)
    assert [name_of(job).name for job in await stage.all(JOBS)] == ["web-other"]
    assert [name_of(pod).name.startswith("web-other") for pod in await stage.all()] == [True]


async def test_a_job_that_is_suspended_has_its_pods_ended(stage: Stage) -> None:
    await stage.make(JOBS, workload(JOBS))
    target = stage.ref(JOBS)
    await stage.start(target)
    [pod] = await stage.pods(1)
    await stage.bind(pod)
    seen = await stage.stop(target)
    assert seen.selector
    left = await stage.until_left(target, lambda left: not left.unsettled, seen.selector)
    assert (left.pods, left.blocked) == (1, "")
    await stage.end(pod)
    await stage.until_left(target, lambda left: left.nothing, seen.selector)


async def test_a_job_that_has_finished_leaves_nothing(stage: Stage) -> None:
    await stage.make(JOBS, workload(JOBS))
    target = stage.ref(JOBS)
    await stage.start(target)
    [pod] = await stage.pods(1)
    await stage.patch(PODS, name_of(pod).name, {"status": {"phase": "Succeeded"}}, "status")
    await stage.until_left(target, lambda left: left.nothing, (await stage.seen(target)).selector)
