"""Stores: a real memory store at the end of a way that takes time and fails, with an audit of its writes.

A call takes its time before and after the store does its part. It may fail without having been carried out,
or after, or be carried out later, when whoever asked is gone.
"""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from random import Random

import trio
from msgspec.structs import replace

from berth.core.names import Key
from berth.core.records import Observed, Record
from berth.store.api import Reading, Store, StoreFault, Write
from tests.sim.audit import Audit
from tests.sim.engine import Process
from tests.sim.ledger import Ledger


class Trouble:
    """What is wrong with a store at the moment."""

    def __init__(self) -> None:
        self.latency_seconds = 0.0
        self.fault_rate = 0.0


class AuditedStore:
    """A `Store` around a real one."""

    def __init__(
        self,
        inner: Store,
        audit: Audit,
        *,
        trouble: Trouble,
        rng: Random,
        ledger: Ledger,
        nursery: trio.Nursery,
        machine: Process,
    ) -> None:
        self._inner = inner
        self.audit = audit
        self._trouble = trouble
        self._rng = rng
        self._ledger = ledger
        self._nursery = nursery
        self._machine = machine

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        await self._way()
        self._perhaps_fail()
        reading = await self._inner.read(keys, sessions)
        await self._way()
        return reading

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        await self._way()
        if self._rng.random() < self._trouble.fault_rate:
            return await self._write_in_doubt(writes)
        won = await self._write(writes)
        await self._way()
        return won

    async def _write_in_doubt(self, writes: Sequence[Write]) -> set[Key | str]:
        how = self._rng.choice(("not done", "lost", "done", "done later"))
        self._ledger.faults[f"store write {how}"] += 1
        if how == "done":
            await self._write(writes)
        elif how == "done later":
            # As a statement that goes on in the database while the connection, or the server, is gone.
            self._machine.spawn(self._nursery, self._write_later, writes)
        raise StoreFault(f"simulated: {how}", outcome_known=how == "not done")

    async def _write_later(self, writes: Sequence[Write]) -> None:
        await trio.sleep(self._rng.uniform(0, 1.0))
        await self._write(writes)

    async def _write(self, writes: Sequence[Write]) -> set[Key | str]:
        asked = [_copy(write) for write in writes]  # a store may complete in place what it is given
        won = await self._inner.write(writes)
        for write in asked:
            if (write.key if isinstance(write, Record) else write.id) in won:
                self.audit.wrote(write)
        return won

    async def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        await self._way()
        self._perhaps_fail()
        async with aclosing(self._inner.scan(after, limit)) as leases:
            async for observed in leases:
                yield observed

    async def sessions(self, after: str | None, limit: int) -> Reading:
        await self._way()
        self._perhaps_fail()
        return await self._inner.sessions(after, limit)

    async def forget(self, sessions: Collection[str]) -> None:
        await self._inner.forget(sessions)

    async def ping(self) -> None:
        await self._inner.ping()

    async def _way(self) -> None:
        if self._trouble.latency_seconds:
            await trio.sleep(self._rng.uniform(0, self._trouble.latency_seconds))

    def _perhaps_fail(self) -> None:
        if self._rng.random() < self._trouble.fault_rate:
            self._ledger.faults["store read failed"] += 1
            raise StoreFault("simulated", outcome_known=True)


def _copy(write: Write) -> Write:
    if isinstance(write, Record):
        return replace(write, tenures=tuple(replace(tenure) for tenure in write.tenures))
    return replace(write)
