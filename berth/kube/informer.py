"""What a cluster has of one resource, kept at hand.

Owns the cache. Promises that it only goes forward: neither a late event nor a relist puts an older version of
an object in the place of a newer one, and a deletion that was missed is told after the next list. Its size is
what the cluster holds. Objects in it are shared: whoever wants to change one makes a copy. Handlers run off
`work`, not here: listeners are called at once and must not wait.
"""

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import NamedTuple

import trio

from berth.kube.api import ALL, KubeClient, Selector
from berth.kube.listwatch import Change, Progress, Put, Removed, Snapshot
from berth.kube.objects import Name, Object, Resource, name_of, newer, uid_of, version_of
from berth.kube.reflector import Reflector
from berth.runtime.log import Logger


class Changed(NamedTuple):
    """One object before and after; None where it is not there. Another uid is another object."""

    name: Name
    old: Object | None
    new: Object | None


Listener = Callable[[Changed], None]


class Informer(Mapping[Name, Object]):
    """Run it with `run`; read it as a mapping. `trim` leaves out of an object what nobody here will read.

    `on_standing` is called whenever `ready` or `trouble` has changed, `on_gone_back` before listeners are
    told that the cluster has an older state than it had.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        *,
        namespace: str = "",
        selector: Selector = ALL,
        trim: Callable[[Object], Object] | None = None,
        on_standing: Callable[[], None] | None = None,
        on_gone_back: Callable[[], None] | None = None,
        rng: Random,
        logger: Logger,
    ) -> None:
        self.namespace = namespace
        self._trim = trim
        self._on_gone_back = on_gone_back
        self._objects: dict[Name, Object] = {}
        self._listeners: list[Listener] = []
        self._reflector = Reflector(
            client,
            resource,
            namespace=namespace,
            selector=selector,
            deliver=self._apply,
            trim=trim,
            on_standing=on_standing,
            rng=rng,
            logger=logger,
        )
        self.synced = trio.Event()
        """Set once the first list is in."""

    def __getitem__(self, name: Name) -> Object:
        return self._objects[name]

    def __iter__(self) -> Iterator[Name]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def watching(self) -> bool:
        """Whether a watch is open now."""
        return self._reflector.watching

    @property
    def ready(self) -> bool:
        """Whether there has been a list, and a watch after it."""
        return self._reflector.has_watched

    @property
    def trouble(self) -> str:
        """Why nothing can be heard now, for people; "" when all is well."""
        return self._reflector.trouble

    @property
    def behind_seconds(self) -> float:
        """For how long nothing can be heard."""
        return self._reflector.behind_seconds

    @property
    def resource_version(self) -> str:
        """Up to where the cache has been told everything."""
        return self._reflector.resource_version

    def listen(self, listener: Listener) -> None:
        """Calls it for every change from now on, in order, as soon as it is in the cache."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._reflector.run()

    def observe(self, obj: Object, *, after: str = "") -> None:
        """Takes over what a write, or a read, of our own has answered, ahead of the watch.

        A cluster that answers with less than `after`, a resourceVersion, has gone back: of a read it is the
        object's that was known when it was sent, of a write the last that was heard of at all.
        """
        if newer(after, version_of(obj)) is True:
            self._reflector.doubt()
        elif newer(version_of(obj), self.resource_version) is not False:
            self._put(obj)

    def observe_gone(self, obj: Object) -> None:
        """Takes over that this very object is no longer there."""
        name = name_of(obj)
        known = self._objects.get(name)
        if known is not None and uid_of(known) == uid_of(obj):
            self._remove(name)

    def _apply(self, change: Change) -> None:
        match change:
            case Snapshot():
                self._replace(change)
            case Put(obj):
                self._put(obj)
            case Removed(obj):
                name = name_of(obj)
                known = self._objects.get(name)
                if known is not None and newer(version_of(known), version_of(obj)) is not True:
                    self._remove(name)
            case Progress():
                pass

    def _replace(self, snapshot: Snapshot) -> None:
        listed = {name_of(obj): obj for obj in snapshot.objects}
        # What we wrote while the list was on its way is newer than it, and stays.
        judged = {
            name: known
            for name, known in self._objects.items()
            if snapshot.rolled_back or newer(version_of(known), snapshot.resource_version) is not True
        }
        gone_back = snapshot.rolled_back or any(
            newer(version_of(known), version_of(listed[name])) is True
            for name, known in judged.items()
            if name in listed
        )
        if gone_back and self._on_gone_back is not None:
            self._on_gone_back()
        for name in judged:
            if name not in listed:
                self._remove(name)
        for name, obj in listed.items():
            if name in judged or name not in self._objects:
                self._set(name, obj)
        self.synced.set()

    def _put(self, obj: Object) -> None:
        name = name_of(obj)
        known = self._objects.get(name)
        if known is None or newer(version_of(obj), version_of(known)) is not False:
            self._set(name, obj)

    def _set(self, name: Name, obj: Object) -> None:
        old = self._objects.get(name)
        if old is None or version_of(old) != version_of(obj) or uid_of(old) != uid_of(obj):
            obj = self._trim(obj) if self._trim is not None else obj
            self._objects[name] = obj
            self._tell(Changed(name, old, obj))

    def _remove(self, name: Name) -> None:
        self._tell(Changed(name, self._objects.pop(name), None))

    def _tell(self, change: Changed) -> None:
        for listener in self._listeners:
            listener(change)
