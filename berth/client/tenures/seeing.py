"""Seeing: what becomes of the leases in the hands of others, and whether anything is heard of it.

Owns the one watch for all leases that are wanted. What it tells is past: the book judges what it is worth.
"""

from math import inf

import trio
from msgspec import UNSET

from berth.client.errors import ApiError
from berth.client.tenures.book import Book
from berth.client.tenures.calls import Calls
from berth.client.tenures.orphans import Orphans
from berth.client.tenures.pauses import asked_pause_seconds
from berth.client.watching import Interrupted, follow
from berth.runtime.log import Logger
from berth.wire.routes import BOOKMARK_SECONDS
from berth.wire.shapes import LeaseList, LeaseObject

SILENT_SECONDS = BOOKMARK_SECONDS + 5.0
"""A watch that has told nothing for so long has missed a bookmark."""

AT_ONCE = 1_000
"""How many leases of a list are looked at before other tasks have their turn."""


class Seeing:
    """`run` must be running for anything to be heard."""

    def __init__(self, client: Calls, book: Book, orphans: Orphans, *, logger: Logger) -> None:
        self._client = client
        self._book = book
        self._orphans = orphans
        self._logger = logger
        self._heard_at = -inf
        self._interrupted = True

    def is_deaf(self, heartbeat_seconds: float) -> bool:
        """Whether changes may have gone unheard for longer than a heartbeat."""
        patience_seconds = heartbeat_seconds if self._interrupted else max(heartbeat_seconds, SILENT_SECONDS)
        return trio.current_time() - self._heard_at > patience_seconds

    async def run(self) -> None:
        while True:
            grown = self._book.grown
            if not self._book.groups:
                await grown.wait()
            try:
                await self._follow()
            except ApiError as fault:
                self._interrupted = True
                self._logger.warning("the leases cannot be watched", error=str(fault))
                await trio.sleep(max(asked_pause_seconds(fault), 1.0))

    async def _follow(self) -> None:
        async with follow(self._client, rng=self._book.rng) as sightings:
            async for sighting in sightings:
                if isinstance(sighting, Interrupted):
                    self._interrupted = True
                    continue
                self._interrupted, self._heard_at = False, trio.current_time()
                if isinstance(sighting, LeaseList):
                    for number, lease in enumerate(sighting.items, 1):
                        self._sighted(lease)
                        if number % AT_ONCE == 0:
                            await trio.lowlevel.checkpoint()
                elif sighting.object is not UNSET:
                    self._sighted(sighting.object)

    def _sighted(self, lease: LeaseObject) -> None:
        self._book.sighted(lease)
        self._orphans.sighted(lease)
