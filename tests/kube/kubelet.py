"""A stand-in for scheduler and kubelet: one node that takes every pod of a cluster, of either kind.

Owns what becomes of pods: each is given to the node, is Running and Ready a moment later, and once it is
deleted takes its time to end. A pod says by annotations how long it runs before it succeeds, and how long it
takes to end; nothing runs in it. Promises that what is deleted is deleted by its uid.
"""

from functools import partial
from random import Random

import trio

from berth.kube.api import KubeClient
from berth.kube.faults import KubeFault
from berth.kube.informer import Changed, Informer
from berth.kube.objects import (
    Object,
    annotations_of,
    being_deleted,
    mapping,
    name_of,
    second_time,
    uid_of,
)
from berth.runtime.clock import SystemClock
from berth.runtime.log import Logger
from tests.kube.server.kinds import BINDINGS, PODS

NODE = "node-1"
START_SECONDS = 0.05
RETRY_SECONDS = 0.2

RUN_SECONDS = "test/run-seconds"
"""After this long the pod has Succeeded; without it, it runs on."""

END_SECONDS = "test/end-seconds"
"""How long it takes to end once it is deleted; `never`."""


def terminal(pod: Object) -> bool:
    return mapping(pod.get("status")).get("phase") in {"Succeeded", "Failed"}


class Kubelet:
    """Run it with `run`. `pods` is what it knows of them, for others to read and to listen to."""

    def __init__(
        self, client: KubeClient, *, logger: Logger, namespace: str = "", end_seconds: float = 0.2
    ) -> None:
        self._client = client
        self._end_seconds = end_seconds
        self._changed: dict[str, trio.Event] = {}
        self.pods = Informer(client, PODS, namespace=namespace, rng=Random(1), logger=logger)

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as nursery:
            self.pods.listen(partial(self._hear, nursery))
            await self.pods.run()

    def _hear(self, nursery: trio.Nursery, change: Changed) -> None:
        if change.old is not None:
            # Whoever waits looks again; one whose pod is gone ends.
            self._changed[uid_of(change.old)].set()
        if change.new is not None and uid_of(change.new) not in self._changed:
            self._changed[uid_of(change.new)] = trio.Event()
            nursery.start_soon(self._live, change.new)

    async def _live(self, pod: Object) -> None:
        uid = uid_of(pod)
        ready_at = trio.current_time() + START_SECONDS
        annotations = annotations_of(pod)
        done_at = ready_at + float(annotations.get(RUN_SECONDS, "inf"))
        ending = annotations.get(END_SECONDS, str(self._end_seconds))
        end_after_seconds = float("inf" if ending == "never" else ending)
        end_at = float("inf")
        while (now := self._now(pod)) is not None:
            self._changed[uid] = trio.Event()
            if being_deleted(now):
                end_at = min(end_at, trio.current_time() + end_after_seconds)
            due_at = self._due_at(now, ready_at, done_at, end_at)
            if due_at > trio.current_time():
                with trio.move_on_at(due_at):
                    await self._changed[uid].wait()
                continue
            try:
                await self._step(now, done=trio.current_time() >= done_at)
            except KubeFault:
                await trio.sleep(RETRY_SECONDS)
        del self._changed[uid]

    def _now(self, pod: Object) -> Object | None:
        known = self.pods.get(name_of(pod))
        return known if known is not None and uid_of(known) == uid_of(pod) else None

    def _due_at(self, pod: Object, ready_at: float, done_at: float, end_at: float) -> float:
        """When there is something to do for it; in the past: now."""
        if being_deleted(pod):
            return end_at
        if not mapping(pod.get("spec")).get("nodeName"):
            return 0.0
        if terminal(pod):
            return float("inf")
        return done_at if mapping(pod.get("status")).get("phase") == "Running" else ready_at

    async def _step(self, pod: Object, *, done: bool) -> None:
        namespace, name = name_of(pod)
        if being_deleted(pod):
            await self._client.delete(PODS, name, namespace, uid=uid_of(pod), grace_seconds=0)
            self.pods.observe_gone(pod)
        elif not mapping(pod.get("spec")).get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            metadata = {"name": name, "namespace": namespace}
            await self._client.create(BINDINGS, {"metadata": metadata, "target": target})
            self.pods.observe(await self._client.get(PODS, name, namespace))
        else:
            patch = {"metadata": {"uid": uid_of(pod)}, "status": _status(pod, done=done)}
            patched = await self._client.merge_patch(PODS, name, namespace, patch=patch, subresource="status")
            self.pods.observe(patched)


def _status(pod: Object, *, done: bool) -> Object:
    now = second_time(SystemClock().wall_us())
    ready = {"type": "Ready", "status": "False" if done else "True", "lastTransitionTime": now}
    started = mapping(pod.get("status")).get("startTime") or now
    phase = "Succeeded" if done else "Running"
    return {"phase": phase, "startTime": started, "conditions": [ready]}
