"""Workloads: the targets of leases in one cluster.

Owns what is followed, every write to a target, and the look at what is left of it. Promises that a stop is
one request while what was seen is what is there, that no write touches another object than the one that was
seen, and that what is told to be gone was seen to be gone by a quorum, after its controllers had seen the
stop. Decides nothing: `core.targets` says what to write.
"""

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from math import inf
from random import Random

import trio

from berth.core.targets import Change, Left, TargetSeen, TargetState, Unseen, is_stop, made
from berth.kube.api import KubeClient
from berth.kube.faults import Conflict, Invalid, NotFound, Unavailable
from berth.kube.workloads.changing import read, write
from berth.kube.workloads.following import Following
from berth.kube.workloads.kinds import Kind, TargetRef
from berth.kube.workloads.leftover import Leftover
from berth.kube.workloads.pressing import pressed
from berth.runtime.clock import Clock
from berth.runtime.log import Logger

KINDS_MAX = 100
"""Each that is named costs a watch, or a search now and then."""

IN_DOUBT_SECONDS = 60.0
"""A kube-apiserver gives no request longer than this."""

STOP_LATE_SECONDS = 0.5
STOPS_PRESSED_MAX = 20


class Workloads:
    """Run it with `run`. `namespaces` are those that are looked at; none: all.

    `on_change` is called at once, and must not wait, whenever `state` of a target that was asked for changes
    in more than its version; of targets that nobody has asked for it may be called too.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        namespaces: Collection[str],
        clock: Clock,
        rng: Random,
        logger: Logger,
        on_change: Callable[[TargetRef], None],
    ) -> None:
        self._client = client
        self._namespaces = namespaces
        self._rng = rng
        self._logger = logger
        self._on_change = on_change
        self._followed: dict[tuple[str, str], Following] = {}
        self._leftover = Leftover(client, clock)
        self._in_doubt: dict[TargetRef, tuple[str, float]] = {}
        self._stopping = 0
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as self._nursery:
            for following in self._followed.values():
                self._nursery.start_soon(following.run)
            await trio.sleep_forever()

    def seen(self, target: TargetRef) -> TargetState:
        """How it stands, as far as is known. A kind is followed from the first question on."""
        following = self._following(target)
        if following is None:
            return Unseen(f"targets of more than {KINDS_MAX} kinds are named; no more are looked at")
        return following.state(target)

    async def change(self, target: TargetRef, seen: TargetSeen, change: Change) -> TargetSeen:
        """Make the change to that very target; how it stands then.

        Raises KubeFault. Where it is not as it was seen, it is read again, and once more written to if the
        change is as right as before; else that is a Conflict: look again.
        """
        following, kind = self._known(target)
        try:
            written = await self._write(kind, target, seen, change)
        except (Conflict, Invalid) as fault:
            fresh = await read(self._client, kind, target)
            following.observe(target, fresh)
            if fresh.uid != seen.uid:
                raise Conflict(f"{target} was made anew") from fault
            if isinstance(fault, Invalid):
                raise
            if made(fresh, change):
                return fresh
            if not is_stop(change) and not seen.same_but_version(fresh):
                raise Conflict(f"{target} was changed meanwhile") from fault
            written = await self._write(kind, target, fresh, change)
        except NotFound:
            if kind.read is not None:
                following.observe_gone(target, seen.uid)
            raise
        following.observe(target, written)
        return written

    async def left(self, target: TargetRef, selector: str) -> Left:
        """What of a stopped workload still runs; `selector` is what was seen of it, also when it is gone.

        Raises KubeFault: then it is not known.
        """
        _, kind = self._known(target)
        version, until = self._in_doubt.get(target, ("", 0.0))
        in_doubt = version if trio.current_time() < until else ""
        return await self._leftover.left(target, kind, selector, in_doubt=in_doubt)

    async def end_jobs(self, target: TargetRef) -> int:
        """Ask for a CronJob's unfinished Jobs to be deleted, pods first; how many. Raises KubeFault."""
        return await self._leftover.end_jobs(target)

    def _following(self, target: TargetRef) -> Following | None:
        key = (target.api_version, target.kind)
        following = self._followed.get(key)
        if following is None and len(self._followed) < KINDS_MAX:
            following = self._followed[key] = Following(
                self._client,
                *key,
                namespaces=self._namespaces,
                on_change=self._on_change,
                rng=self._rng,
                logger=self._logger,
            )
            if self._nursery is not None:
                self._nursery.start_soon(following.run)
        return following

    def _known(self, target: TargetRef) -> tuple[Following, Kind]:
        following = self._following(target)
        if following is None or following.kind is None:
            raise NotFound(f"{target}: it is not known whether the cluster has its kind")
        return following, following.kind

    async def _write(self, kind: Kind, target: TargetRef, seen: TargetSeen, change: Change) -> TargetSeen:
        ask = partial(write, self._client, kind, target, seen, change)
        try:
            return await (self._pressed(ask) if is_stop(change) else ask())
        except (Unavailable, trio.Cancelled) as fault:
            known = isinstance(fault, Unavailable) and fault.outcome_known
            if not known and not is_stop(change):
                self._doubt(target, seen.resource_version)
            raise

    async def _pressed(self, ask: Callable[[], Awaitable[TargetSeen]]) -> TargetSeen:
        """Of many stops at once each may take its time, and none is asked for twice."""
        self._stopping += 1
        try:
            late_seconds = STOP_LATE_SECONDS if self._stopping <= STOPS_PRESSED_MAX else inf
            return await pressed(ask, late_seconds=late_seconds)
        finally:
            self._stopping -= 1

    def _doubt(self, target: TargetRef, version: str) -> None:
        """A start for that version may be made yet."""
        now = trio.current_time()
        self._in_doubt = {key: doubt for key, doubt in self._in_doubt.items() if doubt[1] > now}
        self._in_doubt[target] = (version, now + IN_DOUBT_SECONDS)
