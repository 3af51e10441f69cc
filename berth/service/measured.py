"""Measured: a store whose calls are counted and timed, in the words that existing dashboards know."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import Literal, TypeVar

from berth.core.names import Key
from berth.core.records import Observed
from berth.runtime.clock import Clock
from berth.store.api import Reading, Store, Write

Call = Literal["ping", "get", "list", "put"]
Result = Literal["ok", "conflict", "notfound", "error"]
Observe = Callable[[Call, Result, float], None]
"""Told of each call: what, how it went, and how many seconds it took."""

BUCKETS_SECONDS = tuple(0.0001 * 2**power for power in range(16))

T = TypeVar("T")


class MeasuredStore:
    """Passes every call on; see `Store`. A write is a conflict when any of its records lost."""

    def __init__(self, store: Store, *, clock: Clock, observe: Observe) -> None:
        self._store = store
        self._clock = clock
        self._observe = observe

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        def result(reading: Reading) -> Result:
            found = any(record is not None for record in reading.records.values())
            return "ok" if found or reading.sessions or not keys else "notfound"

        return await self._timed("get", self._store.read(keys, sessions), result)

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        def result(won: set[Key | str]) -> Result:
            return "ok" if len(won) == len(writes) else "conflict"

        return await self._timed("put", self._store.write(writes), result)

    async def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        start_us = self._clock.boot_us()
        result: Result = "error"
        try:
            async with aclosing(self._store.scan(after, limit)) as leases:
                async for observed in leases:
                    yield observed
            result = "ok"
        finally:
            self._observe("list", result, (self._clock.boot_us() - start_us) / 1_000_000)

    async def sessions(self, after: str | None, limit: int) -> Reading:
        return await self._timed("list", self._store.sessions(after, limit), lambda _: "ok")

    async def forget(self, sessions: Collection[str]) -> None:
        await self._timed("put", self._store.forget(sessions), lambda _: "ok")

    async def ping(self) -> None:
        await self._timed("ping", self._store.ping(), lambda _: "ok")

    async def _timed(self, call: Call, doing: Awaitable[T], judge: Callable[[T], Result]) -> T:
        start_us = self._clock.boot_us()
        result: Result = "error"
        try:
            done = await doing
            result = judge(done)
            return done
        finally:
            self._observe(call, result, (self._clock.boot_us() - start_us) / 1_000_000)
