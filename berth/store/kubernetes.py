"""The Kubernetes store: leases and sessions as Lease objects of one namespace of a cluster.

Owns the calls. One watch fills the memory; a renewal is one PUT with the resourceVersion that is remembered,
and what somebody else has made of an object's metadata meanwhile costs one more try, never a lease. Promises
what the contract does, with these two differences: lists are of what is remembered, which lags by as much as
the watch, and a clock is never asked for, see `kubernetes_memory`. A large batch is bounded in time.
"""

from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from random import Random

import trio

from berth.core.names import Key
from berth.core.records import Observed, Record, Session
from berth.kube.api import KubeClient, Selector
from berth.kube.faults import AlreadyExists, Conflict, KubeFault, NotFound
from berth.kube.informer import Informer
from berth.kube.objects import LEASES, Name, Object, name_of, newer, uid_of, version_of
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.store.api import Changes, PartlyRead, PartlyWritten, Reading, StoreFault, Write
from berth.store.kubernetes_memory import Memory
from berth.store.kubernetes_objects import (
    SELECTOR,
    NoRoom,
    NotOurs,
    lease_object,
    object_name,
    session_in,
    session_name,
    session_object,
    trial_object,
    version_in,
)
from berth.store.kubernetes_reading import (
    AT_ONCE,
    CALL_SECONDS,
    TRIES_MAX,
    Failed,
    Reader,
    Unreadable,
    restless,
    store_fault,
)
from berth.store.sql_changes import Heard

ROUND_SECONDS = 4.0
"""All of one reading, or of one batch of writes. Callers wait 10 s, and may wait for another round before
theirs."""

TOO_LONG = f"the cluster did not do all of it within {ROUND_SECONDS:g} s"

NO_ROOM = "a Lease object has no room for {} holders whose names are this long: release some"

_SCAN_CHUNK = 500


class KubernetesStore:
    """A `SharedStore` and a `RememberingStore`. Made by `kubernetes_opening`."""

    def __init__(self, client: KubeClient, namespace: str, clock: Clock, logger: Logger, rng: Random) -> None:
        self._client = client
        self._namespace = namespace
        self._clock = clock
        self._heard = Heard()
        self._memory = Memory(clock, logger, self._heard.add)
        self._last_mark_us = 0
        self._turns = trio.CapacityLimiter(AT_ONCE)  # of all callers, who get theirs in the order they came
        self.informer = Informer(
            client,
            LEASES,
            namespace=namespace,
            selector=Selector(labels=SELECTOR),
            on_gone_back=self._memory.note_gone_back,
            rng=rng,
            logger=logger,
        )
        self.informer.listen(self._memory.note)
        self._reader = Reader(client, namespace, self.informer)

    @property
    def stale_seconds(self) -> float:
        return self.informer.behind_seconds

    def recall(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        remembered = [key for key in keys if self._memory.holds(key)]
        return self._memory.reading(remembered, sessions)

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        with trio.move_on_after(ROUND_SECONDS):
            failed = await self._reader.see([*keys, *sessions])
            # A session of which nothing has been heard yet may live.
            unheard = self._memory.unheard_of(keys)
            for session, fault in (await self._reader.see([*unheard])).items():
                failed.update(dict.fromkeys(unheard[str(session)], fault))
            return self._found(keys, sessions, failed)
        raise StoreFault(TOO_LONG, outcome_known=True)

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        won: set[Key | str] = set()
        failed: dict[Key | str, StoreFault] = {}
        left = iter(writes)
        with trio.move_on_after(ROUND_SECONDS) as patience:
            async with trio.open_nursery() as nursery:
                for _ in range(min(AT_ONCE, len(writes))):
                    nursery.start_soon(self._write_some, left, won, failed)
                await trio.lowlevel.checkpoint()
        if patience.cancelled_caught:
            for write in left:
                failed[_target(write)] = StoreFault(TOO_LONG, outcome_known=True)
        if failed:
            raise PartlyWritten(won, failed)
        return won

    async def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        while limit > 0:
            await trio.lowlevel.checkpoint()
            keys = self._memory.keys_after(after, min(limit, _SCAN_CHUNK))
            if not keys:
                return
            for observed in self._memory.reading(keys, ()).leases.values():
                yield observed
            after = keys[-1]
            limit -= len(keys)

    async def sessions(self, after: str | None, limit: int) -> Reading:
        await trio.lowlevel.checkpoint()
        return self._memory.reading((), self._memory.ids_after(after, limit))

    async def forget(self, sessions: Collection[str]) -> None:
        await trio.lowlevel.checkpoint()
        for session in sessions:
            obj = self._known(session)
            if obj is None or session_in(obj).ended is None:
                continue
            try:
                await self._client.delete(
                    LEASES,
                    session_name(session),
                    self._namespace,
                    uid=uid_of(obj),
                    resource_version=version_of(obj),
                    timeout_seconds=CALL_SECONDS,
                )
            except (NotFound, Conflict):
                continue
            except KubeFault as fault:
                raise store_fault(fault) from fault
            self.informer.observe_gone(obj)

    async def ping(self) -> None:
        try:
            trial = trial_object(self._namespace)
            await self._client.create(LEASES, trial, dry_run=True, timeout_seconds=CALL_SECONDS)
        except KubeFault as fault:
            raise store_fault(fault) from fault

    async def changes(self) -> AsyncGenerator[Changes]:
        while True:
            await self._heard.wait()
            changes = self._heard.take()
            if changes is not None:
                yield changes

    def _known(self, target: Key | str) -> Object | None:
        """The object as it was heard of last."""
        return self.informer.get(Name(self._namespace, object_name(target)))

    def _found(self, keys: Collection[Key], sessions: Collection[str], failed: Failed) -> Reading:
        """What is remembered but for what cannot be read. Raises StoreFault."""
        if not failed:
            return self._memory.reading(keys, sessions)
        found = self._memory.reading(
            [key for key in keys if key not in failed], [each for each in sessions if each not in failed]
        )
        raise PartlyRead(found, failed)

    async def _write_some(
        self, writes: Iterator[Write], won: set[Key | str], failed: dict[Key | str, StoreFault]
    ) -> None:
        for write in writes:
            target = _target(write)
            failed[target] = StoreFault(TOO_LONG, outcome_known=True)
            async with self._turns:
                failed[target] = StoreFault(TOO_LONG, outcome_known=False)
                try:
                    has_won = await self._written(write)
                except StoreFault as fault:
                    failed[target] = fault
                    continue
            del failed[target]
            if has_won:
                won.add(target)

    async def _written(self, write: Write) -> bool:
        """Whether the write has won. Raises StoreFault."""
        target = _target(write)
        name = object_name(target)
        for _ in range(TRIES_MAX):
            if write.version != self._memory.version(target) + 1:
                return False
            base = self._known(target)
            obj, after = self._object(write, base), self.informer.resource_version
            try:
                if base is None:
                    done = await self._client.create(LEASES, obj, timeout_seconds=CALL_SECONDS)
                else:
                    done = await self._client.replace(LEASES, obj, timeout_seconds=CALL_SECONDS)
            except KubeFault as fault:
                if isinstance(fault, AlreadyExists | Conflict) or (base and isinstance(fault, NotFound)):
                    # Somebody was there first, or has only touched the metadata: then once more.
                    await self._reader.see_one(target)
                    continue
                if fault.outcome_known or not await self._has_arrived(name, obj, write):
                    raise store_fault(fault) from fault
                return True
            self._own(write, done, after)
            return True
        raise restless(name)

    def _object(self, write: Write, base: Object | None) -> Object:
        """What to write. Raises StoreFault."""
        self._last_mark_us = at_us = max(self._clock.wall_us(), self._last_mark_us + 1)
        try:
            if isinstance(write, Session):
                return session_object(write, base, self._namespace, at_us)
            return lease_object(write, base, self._namespace, at_us)
        except NotOurs as fault:
            raise Unreadable(fault) from fault
        except NoRoom as fault:
            assert isinstance(write, Record)
            told = NO_ROOM.format(len(write.tenures))
            raise StoreFault(
                f"lease {write.key}: {told}", outcome_known=True, retry_after_seconds=30, told=told
            ) from fault

    async def _has_arrived(self, name: str, obj: Object, write: Write) -> bool:
        """Whether a write of unknown outcome is what is stored now. If not, it may still come."""
        try:
            found = await self._client.get(LEASES, name, self._namespace, timeout_seconds=CALL_SECONDS)
        except KubeFault:
            return False
        if found.get("spec") != obj["spec"] or version_in(found) != write.version:
            return False
        self._own(write, found)
        return True

    def _own(self, write: Write, obj: Object, after: str = "") -> None:
        """Take over what was written, unless somebody else's later write has been heard of before."""
        known = self.informer.get(name_of(obj))
        if known is None or newer(version_of(known), version_of(obj)) is not True:
            self._memory.note_own(write, obj)
        self.informer.observe(obj, after=after)


def _target(write: Write) -> Key | str:
    return write.key if isinstance(write, Record) else write.id
