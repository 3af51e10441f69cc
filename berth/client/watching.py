"""Watching: changes of ownership as they happen, and the state of the leases kept up with them.

Owns how long a watch may be silent, and how it goes on after it broke. Promises that `follow` misses nothing
without telling: where it may have, it lists again. What it tells is past, and no grounds to act on a lease.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Protocol, Self

import trio

from berth.client import believe
from berth.client.errors import ApiError, BerthError, RevisionTooOld, Unreachable
from berth.runtime import http
from berth.runtime.retry import backoff_seconds
from berth.wire.routes import BOOKMARK_SECONDS, LIST_LIMIT_MAX
from berth.wire.shapes import LeaseList, WatchEvent

SILENCE_SECONDS = 2 * BOOKMARK_SECONDS + 5
"""A server that has said nothing for so long has missed two bookmarks: it is gone."""

FIRST_PAUSE_SECONDS = 0.2
PAUSE_MAX_SECONDS = 5.0
RETRY_AFTER_MAX_SECONDS = 60.0


class Events:
    """The events of one watch, bookmarks too. It ends when the server drains."""

    def __init__(self, lines: http.Lines, namespace: str | None) -> None:
        self._lines = lines
        self._namespace = namespace

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        """The next one. Raises Unreachable when the server is silent or gone, or tells nonsense."""
        try:
            return believe.event(await anext(self._lines), namespace=self._namespace)
        except http.HttpFault as fault:
            raise Unreachable(str(fault)) from fault
        except believe.Unbelievable as fault:
            raise Unreachable(f"the watch goes on, but {fault}") from fault


class Watchable(Protocol):
    """The calls that following needs; `BerthClient` has them."""

    async def list_page(
        self, namespace: str | None = None, *, limit: int | None = None, after: str | None = None
    ) -> LeaseList: ...

    def watch(
        self, namespace: str | None = None, *, revision: str | None = None
    ) -> AbstractAsyncContextManager[Events]: ...


async def list_whole(leases: Watchable, namespace: str | None = None) -> LeaseList:
    """The list as one page, with the first one's revision: a watch from there misses nothing."""
    page = first = await leases.list_page(namespace, limit=LIST_LIMIT_MAX)
    items = [*page.items]
    while page.continue_:
        page = await leases.list_page(namespace, limit=LIST_LIMIT_MAX, after=page.continue_)
        items += page.items
    return LeaseList(items, first.revision)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Nothing is heard for now: until the next sighting, what is known may be out of date."""

    fault: BerthError


Sighting = LeaseList | WatchEvent | Interrupted


@asynccontextmanager
async def follow(
    leases: Watchable, namespace: str | None = None, *, rng: Random | None = None
) -> AsyncGenerator[AsyncIterator[Sighting]]:
    """The leases of the namespace, or of all: the whole list first, then each change of one, and bookmarks.

    It goes on over restarts and broken connections, without an end. Where changes may have been missed the
    whole list comes again; it takes the place of all that was known. A change that the list has already may
    be told after it. Raises the ApiError of what no waiting mends, such as NotAllowed.
    """
    async with aclosing(_sightings(leases, namespace, rng or Random())) as sightings:
        yield sightings


def _pauses(rng: Random) -> Iterator[float]:
    return backoff_seconds(rng, first_seconds=FIRST_PAUSE_SECONDS, cap_seconds=PAUSE_MAX_SECONDS)


async def _sightings(leases: Watchable, namespace: str | None, rng: Random) -> AsyncGenerator[Sighting]:
    revision: str | None = None
    pauses = _pauses(rng)
    while True:
        least_pause_seconds, interrupted = 0.0, None
        try:
            async with leases.watch(namespace, revision=revision) as events:
                if revision is None:
                    # Listed once the watch has begun, nothing falls between, whichever server lists.
                    yield await list_whole(leases, namespace)
                async for event in events:
                    revision, pauses = event.revision, _pauses(rng)
                    yield event
        except RevisionTooOld:
            revision = None
        except Unreachable as fault:
            interrupted = fault
        except ApiError as fault:
            if fault.status != 429 and fault.status < 500:
                raise
            interrupted = fault
            least_pause_seconds = min(fault.retry_after_seconds or 0.0, RETRY_AFTER_MAX_SECONDS)
        if interrupted is not None:
            yield Interrupted(interrupted)
        await trio.sleep(max(next(pauses), least_pause_seconds))
