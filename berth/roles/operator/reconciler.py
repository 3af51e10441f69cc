"""The reconciler: takes the steps that `core.reconcile` decides, one BerthLease at a time, many at once.

Owns what is done in which order, and the timers of each lease. Promises that a slow lease delays no other,
that a stop waits for nothing but its own request, and that nothing is written when nothing has changed. Every
write carries the version of the object that was looked at: whoever was there in between is looked at first.
"""

from contextlib import nullcontext
from math import inf
from random import Random
from typing import NamedTuple, Protocol

import trio
from msgspec.structs import replace

from berth.client import BerthError
from berth.client.tenures import LeaseId, Tenures
from berth.core.reconcile import (
    AddFinalizer,
    Again,
    EndJobs,
    Look,
    Record,
    Recorded,
    Release,
    RemoveFinalizer,
    Rest,
    Seen,
    Start,
    Step,
    Stop,
    next_step,
)
from berth.kube.api import KubeClient
from berth.kube.faults import Conflict, KubeFault, NotFound
from berth.kube.informer import Changed
from berth.kube.objects import Name, Object, second_time, version_of
from berth.kube.work import WorkQueue
from berth.kube.workloads import TargetRef, Workloads
from berth.roles.operator.instruments import Instruments, State
from berth.roles.operator.looking import Memory, Sight, Sights
from berth.roles.operator.resource import BERTHLEASES, REMEMBERED, BerthLease, Index, finalizers_patch
from berth.roles.operator.status import next_status
from berth.roles.operator.telling import Teller
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.wire.berthlease import FINALIZER, Status, status_patch

CALL_SECONDS = 5.0
AT_ONCE = 32
"""More requests at a time would only wait for each other, for the one core that there is."""

STEPS_MAX = 20
RETRY_SECONDS = 1.0
DRAIN_LOOK_SECONDS = 0.5


class Objects(Protocol):
    """What takes up the answer of our own write, ahead of the watch: an informer does."""

    def observe(self, obj: Object) -> None: ...

    def observe_gone(self, obj: Object) -> None: ...


class Parts(NamedTuple):
    """What the reconciler works with."""

    client: KubeClient
    objects: Objects
    tenures: Tenures
    workloads: Workloads
    teller: Teller
    instruments: Instruments
    clock: Clock
    rng: Random
    logger: Logger


class Reconciler:
    """Run it with `run`; tell it what changes by `note…`, which return at once."""

    def __init__(self, parts: Parts, index: Index) -> None:
        self._parts = parts
        self._index = index
        self._sights = Sights(index, parts.tenures, parts.workloads, parts.clock)
        self._queue = WorkQueue[Name](self._handled, concurrency=AT_ONCE, rng=parts.rng, logger=parts.logger)
        self._memories: dict[Name, Memory] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as self._nursery:
            await self._queue.run()

    def note_object(self, change: Changed) -> None:
        for name in {change.name, *self._index.note(change.name, change.new)}:
            self._queue.add(name)

    def note_lease(self, lease: LeaseId) -> None:
        for name in self._index.of_lease(lease):
            self._queue.add(name)
        # What is being stopped may still have a lease that its spec names no more.
        for name, memory in self._memories.items():
            if memory.lease == lease:
                self._queue.add(name)

    def note_target(self, target: TargetRef) -> None:
        for name in self._index.of_target(target):
            self._queue.add(name)

    def count(self, state: State) -> int:
        """How many BerthLeases are in that state."""
        return sum(1 for each in self._index.values() if each.state == state)

    def deadline_seconds(self) -> float:
        """Until the first stop is due if nothing is heard from the lease API."""
        tenures = self._parts.tenures
        held = [each.lease for each in self._index.values() if each.state == "held"]
        return min((tenures.remaining_seconds(lease) for lease in held), default=inf)

    async def hand_over(self) -> None:
        """Stop everything, see it gone, and give all leases up."""
        self._sights.handover = True
        while busy := [each for each in self._index.values() if not self._sights.is_idle(each)]:
            for each in busy:
                self._queue.add(each.name)
            await trio.sleep(DRAIN_LOOK_SECONDS)

    async def _handled(self, name: Name) -> float | None:
        """Take steps until there is nothing to do; after how many seconds to look again."""
        with self._parts.instruments.reconciling():
            try:
                return await self._steps(name)
            except Conflict as fault:
                self._parts.logger.debug("looked at again", object=str(name), error=str(fault))
                await self._look_afresh(name)
                return self._memory(name).after_conflict_seconds()
            except KubeFault as fault:
                self._memory(name).trouble(self._parts.logger, name, str(fault))
                return RETRY_SECONDS * self._parts.rng.uniform(0.5, 1.0)

    async def _steps(self, name: Name) -> float | None:
        for _ in range(STEPS_MAX):
            found = self._index.get(name)
            if found is None:
                self._forget(name)
                return None
            memory = self._memory(name)
            sight = self._sights.sight(found, memory)
            step = next_step(sight.seen)
            self._keep_asking(sight, memory, step)
            # Whatever else is not answered, a stop that becomes due does not wait for it.
            with trio.move_on_after(inf if isinstance(step, Stop) else sight.stop_due_seconds):
                if isinstance(step, Rest):
                    if found.has_finalizer and not _about_to_be_known(sight.seen, step):
                        await self._remember_replicas(found, sight)
                        await self._tell(found, sight, sight.seen.recorded)
                    memory.settled(self._parts.logger, name)
                    return self._again_in(sight, memory)
                again_seconds = await self._take(step, found, sight, memory)
                if again_seconds is not None:
                    return again_seconds
        return RETRY_SECONDS  # it changes faster than it is followed

    async def _take(self, step: Step, found: BerthLease, sight: Sight, memory: Memory) -> float | None:
        """None: go on at once."""
        parts, seen = self._parts, sight.seen
        match step:
            case AddFinalizer():
                await self._patch(found, finalizers_patch(found, [*found.finalizers, FINALIZER]))
            case RemoveFinalizer() if found.gone:
                self._index.drop(found.name)
            case RemoveFinalizer():
                kept = [each for each in found.finalizers if each != FINALIZER]
                await self._patch(found, finalizers_patch(found, kept))
            case Record():
                await self._record(step, found, sight, memory)
            case Start() | Stop():
                await self._drive(step, found, sight, memory)
                if isinstance(step, Stop):
                    return 0.0  # what follows comes after the stops of others, which may be in a hurry
            case Look():
                assert found.target is not None
                memory.left = await parts.workloads.left(found.target, sight.selector)
            case EndJobs():
                assert found.target is not None
                await parts.workloads.end_jobs(found.target)
                memory.left = None
                return DRAIN_LOOK_SECONDS
            case Release(token):
                self._release(found.name, sight.lease, token, memory)
                # What it comes to is heard; meanwhile the status says how things are.
                await self._tell(found, sight, seen.recorded)
                return self._again_in(sight, memory) or RETRY_SECONDS
            case Again():
                parts.tenures.again(sight.lease)
            case Rest():
                pass
        return None

    def _keep_asking(self, sight: Sight, memory: Memory, step: Step) -> None:
        """Say whether the lease is wanted. What is being stopped keeps what it may still run by."""
        tenures, recorded = self._parts.tenures, sight.seen.recorded
        if not sight.contends:
            return
        if isinstance(step, Rest):
            wants = step.wants
        elif isinstance(step, Stop | Look | EndJobs | Release):
            wants = False
        else:
            return
        unheard = sight.seen.claim.state == "unknown" and not (memory.released or memory.releasing)
        if sight.terms is not None and (wants or (recorded.phase and unheard)):
            tenures.want(sight.lease, sight.terms, recorded.token if recorded.phase else 0)
        else:
            tenures.unwant(sight.lease)

    async def _record(self, step: Record, found: BerthLease, sight: Sight, memory: Memory) -> None:
        recorded = Recorded()
        if step.phase == "Active":
            recorded = Recorded(
                "Active", sight.lease.name, sight.lease.holder, step.token, sight.seen.target.uid
            )
        elif step.phase == "Stopping":
            recorded = replace(sight.seen.recorded, phase="Stopping")
        await self._tell(found, sight, recorded)
        memory.left, memory.released = None, False
        self._parts.teller.recorded(found, recorded, step.cause)

    async def _drive(self, step: Start | Stop, found: BerthLease, sight: Sight, memory: Memory) -> None:
        """One write to the target; what it was refused for is looked at first."""
        parts = self._parts
        assert found.target is not None
        assert sight.target_seen is not None
        change = sight.start if isinstance(step, Start) else sight.stop
        assert change is not None
        try:
            with parts.instruments.stopping() if isinstance(step, Stop) else nullcontext():
                await parts.workloads.change(found.target, sight.target_seen, change)
        except Conflict:
            raise
        except KubeFault as fault:
            if not memory.troubled:
                parts.teller.refused(found, step, fault)
            memory.troubled = True
            raise
        parts.teller.driven(found, step, change)

    def _release(self, name: Name, lease: LeaseId, token: int, memory: Memory) -> None:
        """In a task of its own: the lease API may be slow, and others' stops are not to wait for it."""
        if memory.releasing or self._nursery is None:
            return
        memory.releasing = True

        async def release() -> None:
            try:
                await self._parts.tenures.release(lease, token)
                memory.released = True
            except BerthError as fault:
                self._parts.logger.warning("lease not released yet", lease=str(lease), error=str(fault))
                await trio.sleep(RETRY_SECONDS)
            finally:
                memory.releasing = False
                self._queue.add(name)

        self._nursery.start_soon(release)

    async def _remember_replicas(self, found: BerthLease, sight: Sight) -> None:
        """While it runs: how many there are, where that is not for the spec to say."""
        if sight.to_remember is None or sight.to_remember == found.remembered:
            return
        note = {"metadata": {"annotations": {REMEMBERED: str(sight.to_remember)}}}
        await self._patch(found, note)

    async def _tell(self, found: BerthLease, sight: Sight, recorded: Recorded) -> None:
        seen = replace(sight.seen, recorded=recorded)
        now = second_time(self._parts.clock.wall_us())
        status = next_status(found.status, seen, sight.facts, now)
        if status != found.status and found.gone:
            self._index.keep(replace(found, status=status))
        elif status != found.status:
            await self._patch(found, _status_patch(found, status), subresource="status")

    async def _patch(self, found: BerthLease, patch: Object, subresource: str = "") -> None:
        parts = self._parts
        try:
            obj = await parts.client.merge_patch(
                BERTHLEASES,
                found.name.name,
                found.name.namespace,
                patch=patch,
                subresource=subresource,
                timeout_seconds=CALL_SECONDS,
            )
        except NotFound:
            parts.objects.observe_gone(found.obj)
            return
        parts.objects.observe(obj)

    async def _look_afresh(self, name: Name) -> None:
        found = self._index.get(name)
        if found is None or found.gone:
            return
        try:
            obj = await self._parts.client.get(
                BERTHLEASES, name.name, name.namespace, timeout_seconds=CALL_SECONDS
            )
        except NotFound:
            self._parts.objects.observe_gone(found.obj)
        except KubeFault as fault:
            self._memory(name).trouble(self._parts.logger, name, str(fault))
        else:
            self._parts.objects.observe(obj)

    def _again_in(self, sight: Sight, memory: Memory) -> float | None:
        """When something is due that nobody tells of."""
        due = sight.remaining_seconds if sight.seen.recorded.phase else inf
        if sight.seen.recorded.phase == "Stopping" and memory.left is not None and not memory.left.nothing:
            memory.left = None
            due = min(due, DRAIN_LOOK_SECONDS) if due > 0 else DRAIN_LOOK_SECONDS
        return due if due != inf else None

    def _memory(self, name: Name) -> Memory:
        return self._memories.setdefault(name, Memory())

    def _forget(self, name: Name) -> None:
        memory = self._memories.pop(name, None)
        if memory is not None and memory.lease is not None and not self._index.of_lease(memory.lease):
            self._parts.tenures.unwant(memory.lease)


def _about_to_be_known(seen: Seen, step: Rest) -> bool:
    """Whether there is nothing to tell yet: the lease has just been asked for."""
    return (
        step.wants and not seen.recorded.phase and seen.claim.state == "unknown" and not seen.claim.troubled
    )


def _status_patch(found: BerthLease, status: Status) -> Object:
    return {"metadata": {"resourceVersion": version_of(found.obj)}, "status": status_patch(status)}
