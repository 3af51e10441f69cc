"""A store that lets a test see and hold up the calls to the store behind it."""

from collections.abc import AsyncGenerator, Collection, Sequence

import trio

from berth.core.names import Key
from berth.core.records import Observed
from berth.store.api import Reading, Store, StoreFault, Write


class RecordingStore:
    """Passes every call on, and keeps what was read and written, in order.

    `gate` holds up writes while it is a fresh event; `faults` are raised by the next calls of that name;
    `losing` names keys whose writes are kept from the store, as if another writer always came first.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.reads: list[set[Key]] = []
        self.writes: list[list[Write]] = []
        self.gate: trio.Event | None = None
        self.faults: dict[str, list[Exception]] = {"read": [], "write": []}
        self.losing: set[Key] = set()

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        self.reads.append(set(keys))
        if self.faults["read"]:
            raise self.faults["read"].pop(0)
        return await self.store.read(keys, sessions)

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        self.writes.append(list(writes))
        if self.gate is not None:
            await self.gate.wait()
        if self.faults["write"]:
            raise self.faults["write"].pop(0)
        return await self.store.write(
            [write for write in writes if getattr(write, "key", None) not in self.losing]
        )

    async def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        async for observed in self.store.scan(after, limit):
            yield observed

    async def sessions(self, after: str | None, limit: int) -> Reading:
        return await self.store.sessions(after, limit)

    async def forget(self, sessions: Collection[str]) -> None:
        await self.store.forget(sessions)

    async def ping(self) -> None:
        await self.store.ping()


def down(*, outcome_known: bool) -> StoreFault:
    return StoreFault("the store is down", outcome_known=outcome_known)
