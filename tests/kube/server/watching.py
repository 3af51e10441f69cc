"""Watches on the test API server: what has changed since, and what changes from now on."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import trio

from berth.runtime.asgi import CutOff
from tests.kube.server.kinds import Kind
from tests.kube.server.refusing import expired
from tests.kube.server.selecting import Test
from tests.kube.server.storage import Event, Storage

Object = dict[str, Any]

QUEUE_MAX = 1000
BOOKMARK_SECONDS = 60.0
BEFORE_END_SECONDS = 2.0


@dataclass
class Terms:
    """What is watched: one kind, what meets `test`, from after `since` on; None: from what is there."""

    kind: Kind
    namespace: str
    test: Test
    since: int | None
    bookmarks: bool
    lasting_seconds: float
    scripted: bool = True
    """Whether it is a client's, and not the cluster's own."""


@dataclass(eq=False)
class Watch:
    """One that is open. A test may `cut` it as a connection breaks, `end` it, `freeze` it, or speak."""

    terms: Terms
    queue: list[bytes] = field(default_factory=list)
    more: trio.Event = field(default_factory=trio.Event)
    frozen: bool = False
    cut_off: bool = False
    ended: bool = False

    def say(self, data: bytes) -> None:
        if not self.frozen:
            self.queue.append(data)
        if len(self.queue) > QUEUE_MAX:
            self.ended = True
        self.more.set()

    def say_event(self, kind: str, obj: Object) -> None:
        self.say(line(kind, obj))

    def cut(self) -> None:
        self.cut_off = True
        self.more.set()

    def end(self) -> None:
        self.ended = True
        self.more.set()

    def freeze(self) -> None:
        self.frozen = True

    def hear(self, event: Event) -> None:
        if self.terms.since is not None and event.version <= self.terms.since:
            return
        told = _told(event, self.terms)
        if told:
            self.say_event(*told)

    def bookmark(self, version: int) -> None:
        if self.terms.since is not None and version < self.terms.since:
            return  # a watch may begin in the future, and is told nothing until then
        resource = self.terms.kind.resource
        metadata = {"resourceVersion": str(version), "creationTimestamp": None}
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        self.say_event("BOOKMARK", obj)


class Watches:
    """Those that are open."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.open: set[Watch] = set()
        self.begun = 0

    def cut_clients(self) -> None:
        """All of them break at once, but for the cluster's own."""
        for watch in tuple(self.open):
            if watch.terms.scripted:
                watch.cut()

    def stream(self, terms: Terms) -> "WatchStream":
        """It hears from now on; whoever has it closes it."""
        watch = Watch(terms)
        self.open.add(watch)
        self.begun += 1
        if terms.since is not None and terms.since < self._storage.forgotten:
            watch.say_event("ERROR", expired(f"too old resource version: {terms.since}").body)
            watch.end()
        else:
            self._begin(watch)
        return WatchStream(self, watch, self._storage)

    def close(self, watch: Watch) -> None:
        self.open.discard(watch)
        self._storage.listeners.discard(watch.hear)

    def _begin(self, watch: Watch) -> None:
        self._storage.listeners.add(watch.hear)
        terms = watch.terms
        if terms.since is None:
            for address, obj in self._storage.of(terms.kind.resource.plural, terms.namespace):
                watch.hear(Event(0, address, None, obj))
            return
        for event in self._storage.history:
            watch.hear(event)


class WatchStream:
    """What is said on a watch, as it is said."""

    def __init__(self, watches: Watches, watch: Watch, storage: Storage) -> None:
        self._watches = watches
        self._watch = watch
        self._spoken = _spoken(watch, storage)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._spoken)

    async def aclose(self) -> None:
        self._watches.close(self._watch)
        await self._spoken.aclose()


async def _spoken(watch: Watch, storage: Storage) -> AsyncGenerator[bytes]:
    end_at = trio.current_time() + watch.terms.lasting_seconds
    bookmark_at = _next_bookmark(end_at)
    while True:
        queued, watch.queue = watch.queue, []
        if queued:
            yield b"".join(queued)
        if watch.cut_off:
            raise CutOff
        if watch.ended or trio.current_time() >= end_at:
            return
        watch.more = trio.Event()
        with trio.move_on_at(min(end_at, bookmark_at)):
            await watch.more.wait()
        if trio.current_time() >= bookmark_at:
            bookmark_at = _next_bookmark(end_at)
            if watch.terms.bookmarks:
                watch.bookmark(storage.version)


def _next_bookmark(end_at: float) -> float:
    now = trio.current_time()
    before_end = end_at - BEFORE_END_SECONDS
    regular = now + BOOKMARK_SECONDS
    return min(regular, before_end) if before_end > now else regular


def _told(event: Event, terms: Terms) -> tuple[str, Object] | None:
    """What the watcher is told of an event, or None when it is none of its objects."""
    if event.address.plural != terms.kind.resource.plural:
        return None
    if terms.namespace not in {"", event.address.namespace}:
        return None
    was = event.before is not None and terms.test(event.before)
    if event.after is not None and terms.test(event.after):
        return ("MODIFIED" if was else "ADDED"), event.after
    if was and event.before is not None:
        metadata = {**event.before["metadata"], "resourceVersion": str(event.version)}
        return "DELETED", {**event.before, "metadata": metadata}
    return None


def line(kind: str, obj: Object) -> bytes:
    return msgspec.json.encode({"type": kind, "object": obj}) + b"\n"
