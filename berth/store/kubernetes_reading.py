"""Reading Lease objects of a cluster as they are now, so that they are remembered as that.

Owns how many are read at a time, one by one or in a list, and what becomes of one that is not as it should
be. Promises that an object which nobody can make sense of keeps nobody from the others, and that one whose
label was touched gets it again, since the watch would not tell of it. Decides nothing; keeps nothing: what is
read goes to the informer.
"""

from collections.abc import Iterator, Sequence

import trio

from berth.core.names import Key
from berth.kube.api import PAGE_LIMIT, KubeClient
from berth.kube.faults import Conflict, Forbidden, Invalid, KubeFault, NotFound, TooManyRequests, Unavailable
from berth.kube.informer import Informer
from berth.kube.objects import LEASES, Name, Object, name_of, version_of
from berth.store.api import StoreFault
from berth.store.kubernetes_objects import NotOurs, is_labelled, is_ours, labelled, object_name

CALL_SECONDS = 3.0
AT_ONCE = 16

PAGE_WORTH = 8
"""One page of a list costs as much as reading so many objects one by one."""

TRIES_MAX = 30
"""So often one object is tried where others only touch the metadata, if there is time."""

Failed = dict[Key | str, StoreFault]


class Unreadable(StoreFault):
    """What is in one object has to be put right by hand."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why), outcome_known=True, told=str(why))


def store_fault(fault: KubeFault) -> StoreFault:
    asked = fault.retry_after_seconds if isinstance(fault, TooManyRequests | Unavailable) else None
    return StoreFault(str(fault), outcome_known=fault.outcome_known, retry_after_seconds=asked or 1.0)


def restless(name: str) -> StoreFault:
    return StoreFault(f"lease object {name} changes faster than it can be written", outcome_known=True)


class Reader:
    """Sees the objects of leases and sessions as they are now."""

    def __init__(self, client: KubeClient, namespace: str, informer: Informer) -> None:
        self._client = client
        self._namespace = namespace
        self._informer = informer

    async def see(self, targets: Sequence[Key | str]) -> Failed:
        """See all of these; answers what of them cannot be made sense of. Raises StoreFault for all else."""
        if len(targets) >= PAGE_WORTH * (1 + len(self._informer) // PAGE_LIMIT):
            return await self._see_all(targets)
        return await self._see_each(targets)

    async def see_one(self, target: Key | str) -> None:
        """See the object as it is now. Raises StoreFault."""
        name = object_name(target)
        for _ in range(TRIES_MAX):
            known = self._known(name)
            try:
                obj = await self._client.get(LEASES, name, self._namespace, timeout_seconds=CALL_SECONDS)
            except NotFound:
                if known is not None:
                    self._informer.observe_gone(known)
                return
            except KubeFault as fault:
                raise store_fault(fault) from fault
            try:
                self._informer.observe(await self._labelled(obj), after=_version(known))
                return
            except Conflict:
                continue
        raise restless(name)

    async def _labelled(self, obj: Object) -> Object:
        """The object with its label, as it then is. Raises Conflict and StoreFault."""
        try:
            again = labelled(obj)
            if again is obj:
                return obj
            return await self._client.replace(LEASES, again, timeout_seconds=CALL_SECONDS)
        except Conflict:
            raise
        except (NotOurs, Forbidden, Invalid) as fault:
            raise Unreadable(fault) from fault
        except KubeFault as fault:
            raise store_fault(fault) from fault

    async def _see_each(self, targets: Sequence[Key | str]) -> Failed:
        left = iter(targets)
        unreadable: Failed = {}
        faults: list[StoreFault] = []
        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(targets))):
                nursery.start_soon(self._see_some, left, unreadable, faults)
            await trio.lowlevel.checkpoint()
        if faults:
            raise faults[0]
        return unreadable

    async def _see_some(
        self, targets: Iterator[Key | str], unreadable: Failed, faults: list[StoreFault]
    ) -> None:
        for target in targets:
            try:
                await self.see_one(target)
            except Unreadable as fault:
                unreadable[target] = fault
            except StoreFault as fault:
                faults.append(fault)
                return

    async def _see_all(self, targets: Sequence[Key | str]) -> Failed:
        """By a list of all there is, labelled or not."""
        wanted = {object_name(target): target for target in targets}
        known = {name: self._known(name) for name in wanted}
        try:
            page = await self._client.list_all(LEASES, self._namespace)
        except KubeFault as fault:
            raise store_fault(fault) from fault
        again: list[Key | str] = []
        for obj in page.items:
            name = name_of(obj).name
            before = known.pop(name, None)
            if is_labelled(obj) and is_ours(obj):
                self._informer.observe(obj, after=_version(before))
            elif name in wanted:
                again.append(wanted[name])
        for gone in known.values():
            if gone is not None:
                self._informer.observe_gone(gone)
        return await self._see_each(again)

    def _known(self, name: str) -> Object | None:
        return self._informer.get(Name(self._namespace, name))


def _version(known: Object | None) -> str:
    return version_of(known) if known is not None else ""
