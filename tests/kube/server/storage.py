"""What the test API server keeps: objects, one counter of versions, and a bounded history of events.

Stored objects are never changed in place: whoever has one may keep it.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

Object = dict[str, Any]
HISTORY_MAX = 1000


class Address(NamedTuple):
    plural: str
    namespace: str
    name: str


class Event(NamedTuple):
    """`before` and `after` are None where the object was not there; `version` is the event's."""

    version: int
    address: Address
    before: Object | None
    after: Object | None


class Storage:
    def __init__(self) -> None:
        self.objects: dict[Address, Object] = {}
        self.version = 100
        self.history: deque[Event] = deque(maxlen=HISTORY_MAX)
        self.forgotten = self.version
        """Up to this version the events are not known any more."""

        self.listeners: set[Callable[[Event], None]] = set()

    def next_version(self) -> str:
        self.version += 1
        return str(self.version)

    def put(self, address: Address, obj: Object) -> Object:
        """Stores it under a new version."""
        before = self.objects.get(address)
        stored = {**obj, "metadata": {**obj["metadata"], "resourceVersion": self.next_version()}}
        self.objects[address] = stored
        self._tell(Event(self.version, address, before, stored))
        return stored

    def remove(self, address: Address) -> Object:
        """The object as it was, under the version of its end."""
        before = self.objects.pop(address)
        ended = {**before, "metadata": {**before["metadata"], "resourceVersion": self.next_version()}}
        self._tell(Event(self.version, address, before, None))
        return ended

    def forget_history(self) -> None:
        """Compacts: no watch can begin before now, and no list can go on."""
        self.history.clear()
        self.forgotten = self.version

    def _tell(self, event: Event) -> None:
        if len(self.history) == self.history.maxlen:
            self.forgotten = self.history[0].version
        self.history.append(event)
        for listener in tuple(self.listeners):
            listener(event)

    def of(self, plural: str, namespace: str) -> list[tuple[Address, Object]]:
        """In the order in which a list has them."""
        return sorted(
            (address, obj)
            for address, obj in self.objects.items()
            if address.plural == plural and namespace in {"", address.namespace}
        )
