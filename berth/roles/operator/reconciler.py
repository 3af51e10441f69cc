"""The reconciler: takes the steps that `core.reconcile` decides, one BerthLease at a time, many at once.

Owns what is done in which order, and the timers of each lease. Promises that a slow lease delays no other,
that a stop waits for nothing but its own request, and that nothing is written when nothing has changed. Every
write carries the version of the object that was looked at: whoever was there in between is looked at first.
"""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from functools import partial
from math import inf
from random import Random
from typing import NamedTuple

import trio
from msgspec.structs import replace

from berth.client import BerthError
from berth.client.tenures import LeaseId, Lost, Tenures
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
    Start,
    Step,
    Stop,
    next_step,
)
from berth.kube.api import KubeClient
from berth.kube.faults import Conflict, KubeFault, NotFound
from berth.kube.informer import Changed
from berth.kube.objects import Name
from berth.kube.work import WorkQueue
from berth.kube.workloads import TargetRef, Workloads
from berth.kube.workloads.leftover import SETTLE_SECONDS
from berth.roles.operator.instruments import Instruments, State
from berth.roles.operator.looking import Sight, Sights
from berth.roles.operator.memory import DRAIN_LOOK_SECONDS, Memory
from berth.roles.operator.resource import BerthLease, Index
from berth.roles.operator.telling import Teller
from berth.roles.operator.writing import Objects, Writing
from berth.runtime.clock import Clock
from berth.runtime.log import Logger

AT_ONCE = 32
"""More requests at a time would only wait for each other, for the one core that there is."""

LOOKS_AT_ONCE = 16
STEPS_MAX = 20
RETRY_SECONDS = 1.0


class Wait(NamedTuple):
    """Nothing more now; again after so long, or when something changes."""

    seconds: float | None


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
        self._queue = WorkQueue[Name](
            self._handled,
            concurrency=AT_ONCE,
            rng=parts.rng,
            logger=parts.logger,
            is_urgent=self._must_stop,
        )
        self._memories: dict[Name, Memory] = {}
        self._looks = trio.CapacityLimiter(LOOKS_AT_ONCE)
        self._writing = Writing(parts.client, parts.objects, index, parts.clock)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as self._nursery:
            await self._queue.run()

    def note_object(self, change: Changed) -> None:
        for name in {change.name, *self._index.note(change.name, change.new)}:
            self._queue.add(name)

    def note_lease(self, lease: LeaseId) -> None:
        # What is being stopped may still have a lease that its spec names no more.
        named = {name for name, memory in self._memories.items() if memory.lease == lease}
        lost = isinstance(self._parts.tenures.standing(lease), Lost)
        for name in self._index.of_lease(lease) | named:
            self._queue.add(name)
            asking = self._memory(name).asking
            if lost and asking is not None:
                asking.cancel()  # a stop does not wait for what is being asked

    def note_target(self, target: TargetRef) -> None:
        for name in self._index.of_target(target):
            self._queue.add(name)

    def count(self, state: State) -> int:
        """How many BerthLeases are in that state."""
        return sum(1 for each in self._index.values() if self._index.state(each) == state)

    def deadline_seconds(self) -> float:
        """Until the first stop is due if nothing is heard from the lease API."""
        tenures = self._parts.tenures
        held = [each.lease for each in self._index.values() if each.state == "held"]
        return min((tenures.remaining_seconds(lease) for lease in held), default=inf)

    async def hand_over(self) -> None:
        """Stop everything, see it gone, and give all leases up."""
        self._sights.handover = True
        names = [each.name for each in self._index.values()]
        while names:
            for name in names:
                self._queue.add(name)
            await trio.sleep(DRAIN_LOOK_SECONDS)
            names = [each.name for each in self._index.values() if not self._sights.is_idle(each)]

    def _must_stop(self, name: Name) -> bool:
        found = self._index.get(name)
        return found is not None and self._sights.must_stop(found)

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
                await self._tell_trouble(name)
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
            stops = isinstance(step, Stop)
            # Whatever else is not answered, a stop that becomes due does not wait for it.
            with trio.move_on_after(inf if stops else sight.stop_due_seconds) as asking:
                memory.asking = None if stops else asking
                try:
                    again = await self._take(step, found, sight, memory)
                finally:
                    memory.asking = None
                if isinstance(again, Wait):
                    return again.seconds
        return RETRY_SECONDS  # it changes faster than it is followed

    async def _take(self, step: Step, found: BerthLease, sight: Sight, memory: Memory) -> Wait | None:
        """None: go on at once."""
        parts = self._parts
        match step:
            case Rest():
                if found.has_finalizer and not sight.told_soon(step.wants):
                    await self._writing.remember(found, sight.to_remember)
                    await self._writing.tell(found, sight, sight.seen.recorded)
                memory.settled(parts.logger, found.name)
                return Wait(sight.again_seconds(memory))
            case AddFinalizer():
                await self._writing.add_finalizer(found)
            case RemoveFinalizer() if found.gone:
                for name in self._index.let_go(found.name):
                    self._queue.add(name)
                self._forget(found.name)
            case RemoveFinalizer():
                await self._writing.remove_finalizer(found)
            case Record():
                await self._record(step, found, sight, memory)
            case Start() | Stop():
                await self._drive(step, found, sight, memory)
                if isinstance(step, Stop):
                    return Wait(0.0)  # what follows comes after the stops of others, which may be in a hurry
            case Look():
                self._aside(found.name, memory, partial(self._look, found, sight.selector, memory))
                return Wait(None)
            case EndJobs():
                assert found.target is not None
                await parts.workloads.end_jobs(found.target)
                memory.ended_jobs(sight.target_seen.resource_version if sight.target_seen is not None else "")
                memory.left = None
            case Release(token):
                self._aside(found.name, memory, partial(self._release, sight.lease, token, memory))
                # What it comes to is heard; meanwhile the status says how things are.
                await self._writing.tell(found, sight, sight.seen.recorded)
                return Wait(RETRY_SECONDS)
            case Again():
                parts.tenures.again(sight.lease)
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
        unheard = sight.seen.claim.state == "unknown" and not (memory.released or memory.busy)
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
        await self._writing.tell(found, sight, recorded)
        if not step.phase:
            self._parts.tenures.again(sight.lease)  # also of a lease that is named no more
        memory.begun_anew()
        self._parts.teller.recorded(found, recorded, step.cause)

    async def _drive(self, step: Start | Stop, found: BerthLease, sight: Sight, memory: Memory) -> None:
        """One write to the target; what it was refused for is looked at first."""
        parts, stops = self._parts, isinstance(step, Stop)
        assert found.target is not None
        assert sight.target_seen is not None
        change = sight.stop if stops else sight.start
        assert change is not None
        memory.left, memory.stops = None, memory.stops + stops
        if stops and not sight.seen.recorded.phase:
            await self._writing.remember(found, sight.to_remember)
        try:
            with parts.instruments.stopping() if stops else nullcontext():
                await parts.workloads.change(found.target, sight.target_seen, change)
        except Conflict:
            raise
        except NotFound as fault:
            raise Conflict(f"{found.target} is gone") from fault
        except KubeFault as fault:
            if memory.refused_by is not type(fault):
                parts.teller.refused(found, step, fault)
            memory.refused_by = type(fault)
            if stops:
                memory.refused(fault)
            raise
        memory.drain_trouble, memory.refused_by = "", None
        if stops:
            memory.jobs_due_at = trio.current_time() + SETTLE_SECONDS
        parts.teller.driven(found, step, change)

    def _aside(self, name: Name, memory: Memory, do: Callable[[], Awaitable[None]]) -> None:
        """In a task of its own: what may take long is not to be in the way of others' stops."""
        if memory.busy or self._nursery is None:
            return
        memory.busy = True

        async def doing() -> None:
            try:
                await do()
            finally:
                memory.busy = False
                self._queue.add(name)

        self._nursery.start_soon(doing)

    async def _look(self, found: BerthLease, selector: str, memory: Memory) -> None:
        assert found.target is not None
        stops = memory.stops
        try:
            async with self._looks:
                left = await self._parts.workloads.left(found.target, selector)
        except KubeFault as fault:
            memory.trouble(self._parts.logger, found.name, str(fault))
            memory.refused(fault)
            await self._tell_trouble(found.name)
            await trio.sleep(RETRY_SECONDS * self._parts.rng.uniform(0.5, 1.0))
        else:
            memory.drain_trouble = ""
            if stops == memory.stops:  # else it had to be stopped again meanwhile
                memory.left = left

    async def _release(self, lease: LeaseId, token: int, memory: Memory) -> None:
        try:
            await self._parts.tenures.release(lease, token)
            memory.released = token
        except BerthError as fault:
            self._parts.logger.warning("lease not released yet", lease=str(lease), error=str(fault))
            await trio.sleep(RETRY_SECONDS)

    async def _look_afresh(self, name: Name) -> None:
        found = self._index.get(name)
        if found is None:
            return
        try:
            await self._writing.look_afresh(found)
        except KubeFault as fault:
            self._memory(name).trouble(self._parts.logger, name, str(fault))

    async def _tell_trouble(self, name: Name) -> None:
        """What is in the way of a stop, if the cluster lets us say it."""
        found, memory = self._index.get(name), self._memory(name)
        if found is None or not memory.drain_trouble:
            return
        with suppress(KubeFault):
            await self._writing.tell(found, self._sights.sight(found, memory), found.recorded)

    def _memory(self, name: Name) -> Memory:
        return self._memories.setdefault(name, Memory())

    def _forget(self, name: Name) -> None:
        memory = self._memories.pop(name, None)
        if memory is not None and memory.lease is not None and not self._index.of_lease(memory.lease):
            self._parts.tenures.unwant(memory.lease)
