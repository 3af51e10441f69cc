"""A cluster with controllers and no nodes, and the workloads in it as berth sees them.

Pods stay Pending, and what is deleted is gone at once, unless a test binds them to a node: then nothing ends
them but a second deletion without grace.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import trio

from berth.core.targets import Change, Left, SetReplicas, SetSuspend, TargetSeen, start_change, stop_change
from berth.kube.api import KubeClient
from berth.kube.faults import Conflict
from berth.kube.objects import Object, Resource, mapping, metadata, name_of, parsed_time, uid_of
from berth.kube.workloads import TargetRef, Workloads
from berth.runtime.clock import ManualClock
from tests.kube.conftest import until
from tests.kube.server.kinds import BINDINGS, CRON_JOBS, DEPLOYMENTS, JOBS, NODES, PODS, custom
from tests.runtime.conftest import Journal

RINGS = Resource("example.org", "v1", "rings", "Ring")
"""A custom resource with a scale; its replicas are its size."""

RING = custom(RINGS, replicas_at="size")
SUSPENDED = (CRON_JOBS, JOBS)
WITHIN_SECONDS = 30.0
GRACE_SECONDS = 7

SeenT = TypeVar("SeenT")


@dataclass
class Stage:
    """`told` is whom `on_change` was called for. `namespace` is the test's own."""

    client: KubeClient
    namespace: str
    journal: Journal
    clock: ManualClock = field(default_factory=ManualClock)
    told: list[TargetRef] = field(default_factory=list[TargetRef])

    def __post_init__(self) -> None:
        self.workloads = self.another([self.namespace])

    def another(self, namespaces: Sequence[str]) -> Workloads:
        return Workloads(
            self.client,
            namespaces=namespaces,
            clock=self.clock,
            rng=Random(1),
            logger=self.journal.logger,
            on_change=self.told.append,
        )

    def ref(self, resource: Resource = DEPLOYMENTS, name: str = "web") -> TargetRef:
        return TargetRef(self.namespace, resource.api_version, resource.kind, name)

    async def make(self, resource: Resource, obj: Object) -> Object:
        typed = {"apiVersion": resource.api_version, "kind": resource.kind}
        in_place = {**obj, **typed, "metadata": {**obj["metadata"], "namespace": self.namespace}}
        return await self.client.create(resource, in_place)

    async def patch(self, resource: Resource, name: str, patch: Object, subresource: str = "") -> Object:
        return await self.client.merge_patch(
            resource, name, self.namespace, patch=patch, subresource=subresource
        )

    async def all(self, resource: Resource = PODS) -> list[Object]:
        return (await self.client.list_all(resource, self.namespace)).items

    async def seen(self, target: TargetRef, kind: type[SeenT] = TargetSeen) -> SeenT:
        """How it stands, once it stands so."""
        await self.until(lambda: isinstance(self.workloads.seen(target), kind))
        found = self.workloads.seen(target)
        assert isinstance(found, kind)
        return found

    async def start(self, target: TargetRef, replicas: int | None = None) -> TargetSeen:
        """A start is for the version that was seen: where a controller was there first, look again."""
        with trio.fail_after(WITHIN_SECONDS):
            while True:
                seen = await self.seen(target)
                change = start_change(seen, replicas=replicas)
                assert change is not None
                try:
                    return await self.workloads.change(target, seen, change)
                except Conflict:
                    await trio.sleep(0.05)

    async def stop(self, target: TargetRef) -> TargetSeen:
        seen = await self.seen(target)
        change = stop_change(seen)
        assert change is not None
        return await self.workloads.change(target, seen, change)

    async def pods(self, count: int) -> list[Object]:
        """All that there are, once there are that many."""
        with trio.fail_after(WITHIN_SECONDS):
            while True:
                found = await self.all()
                if len(found) == count:
                    return found
                await trio.sleep(0.05)

    async def left(self, target: TargetRef, selector: str = "app=web") -> Left:
        return await self.workloads.left(target, selector)

    async def until_left(
        self, target: TargetRef, condition: Callable[[Left], bool], selector: str = "app=web"
    ) -> Left:
        with trio.fail_after(WITHIN_SECONDS):
            while True:
                found = await self.left(target, selector)
                if condition(found):
                    return found
                await trio.sleep(0.05)

    async def bind(self, pod: Object, node: str = "node-1") -> None:
        """From now on nothing ends it at once."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        await self.make(BINDINGS, {"metadata": {"name": name_of(pod).name}, "target": target})

    async def end(self, pod: Object) -> None:
        """As its node does when it has ended."""
        await self.client.delete(PODS, name_of(pod).name, self.namespace, grace_seconds=0)

    async def node(self, name: str, ready: str) -> None:
        """One whose condition Ready is so; it is not the namespace's."""
        await self.client.create(NODES, {"metadata": {"name": name}})
        # As the real ones have: the server insists on times.
        at = "2026-01-01T00:00:00Z"
        times = {"lastHeartbeatTime": at, "lastTransitionTime": at}
        status = {"conditions": [{"type": "Ready", "status": ready, **times}]}
        await self.client.merge_patch(NODES, name, patch={"status": status}, subresource="status")

    def late(self, pod: Object, seconds: float) -> None:
        """Sets the clock to so long after the pod's time was over."""
        due_us = parsed_time(metadata(pod)["deletionTimestamp"])
        assert due_us is not None
        self.clock.step_wall((due_us - self.clock.wall_us()) / 1_000_000 + seconds)

    async def until(self, condition: Callable[[], Any]) -> None:
        await until(condition, within_seconds=WITHIN_SECONDS)


@asynccontextmanager
async def running(stage: Stage) -> AsyncGenerator[Stage]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.workloads.run)
        yield stage
        nursery.cancel_scope.cancel()


def workload(resource: Resource, name: str = "web", *, runs: bool = False, replicas: int = 0) -> Object:
    """Stopped, unless it `runs` or has replicas. Its pods have the label `app` with its name."""
    spec: Object = {"containers": [{"name": "main", "image": "example.test/nothing"}]}
    spec["terminationGracePeriodSeconds"] = GRACE_SECONDS
    template: Object = {"metadata": {"labels": {"app": name}}, "spec": spec}
    if resource in SUSPENDED:
        spec["restartPolicy"] = "Never"
    if resource == JOBS:
        found: Object = {"suspend": not runs, "template": template}
    elif resource == CRON_JOBS:
        job = {"spec": {"template": template}}
        found = {"suspend": not runs, "schedule": "@every 1s", "concurrencyPolicy": "Allow"}
        found["jobTemplate"] = job
    elif resource == RINGS:
        return {"metadata": {"name": name}, "spec": {"size": replicas}}
    else:
        found = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    if resource.kind == "StatefulSet":
        found["serviceName"] = name
        found["podManagementPolicy"] = "Parallel"
    return {"metadata": {"name": name}, "spec": found}


def started(resource: Resource, replicas: int) -> Change:
    return SetSuspend(False) if resource in SUSPENDED else SetReplicas(replicas)


def job_of(cron_job: Object, name: str, **spec: object) -> Object:
    owner = {
        "apiVersion": CRON_JOBS.api_version,
        "kind": CRON_JOBS.kind,
        "name": name_of(cron_job).name,
        "uid": uid_of(cron_job),
        "controller": True,
    }
    template = mapping(cron_job["spec"]["jobTemplate"]["spec"])
    return {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": {**template, **spec}}
