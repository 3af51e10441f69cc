"""The memory store: leases and sessions in dictionaries, gone with the process.

Owns nothing that lasts. Within one life of the process it promises all that the contract does; across a
restart it promises nothing, and tokens start again at 1, so that holders of before and after may overlap. A
quarantine as long as the longest ttl buys exclusion back: until it is over nothing is granted, and then
tokens begin at the number of seconds since 2024, above all of before as long as the wall clock was not set
back.
"""

from collections.abc import AsyncGenerator, Collection, Iterable, Sequence

import trio

from berth.core.names import Key
from berth.core.records import TOKEN_MAX, Observed, Quarantine, Record, Session
from berth.runtime.clock import MICROSECONDS, Clock
from berth.store.api import Reading, Write
from berth.store.marks import Instant, StoreTime, marked, marked_session, reading
from berth.store.sortedkeys import SortedKeys

_SCAN_CHUNK = 500

FLOOR_SINCE_US = 1_704_067_200 * MICROSECONDS
"""2024-01-01. Seconds since then outrun any lease's tokens, and stay below the highest for decades."""


class MemoryStore:
    """A `Store` whose time is the boot clock. Every call is one checkpoint, then one synchronous step."""

    def __init__(self, clock: Clock, *, quarantine_seconds: float = 0) -> None:
        self._time = StoreTime(clock)
        self._quarantine_until_us = self._time.read().now_us + round(quarantine_seconds * MICROSECONDS)
        # What is late from before a restart names tokens of before: those of after begin above them.
        since_floor_us = clock.wall_us() - FLOOR_SINCE_US if quarantine_seconds else 0
        self._token_floor = min(max(0, since_floor_us // MICROSECONDS), TOKEN_MAX // 2)
        self._records: dict[Key, Record] = {}
        self._sessions: dict[str, Session] = {}
        self._keys = SortedKeys[Key]()
        self._ids = SortedKeys[str]()

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        await trio.lowlevel.checkpoint()
        return self._read(keys, sessions)

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        await trio.lowlevel.checkpoint()
        now_us = self._time.read().now_us
        records = self._records
        won: set[Key | str] = set()
        for write in writes:
            if type(write) is Record:
                key = write.key
                stored = records.get(key)
                if write.version == (stored.version + 1 if stored is not None else 1):
                    if stored is None:
                        self._keys.add(key)
                    records[key] = marked(write, now_us)
                    won.add(key)
            elif type(write) is Session and self._put_session(write, now_us):
                won.add(write.id)
        return won

    async def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        while limit > 0:
            await trio.lowlevel.checkpoint()
            keys = self._keys.after(after, min(limit, _SCAN_CHUNK))
            if not keys:
                return
            for observed in self._read(keys, ()).leases.values():
                yield observed
            after = keys[-1]
            limit -= len(keys)

    async def sessions(self, after: str | None, limit: int) -> Reading:
        await trio.lowlevel.checkpoint()
        return self._read((), self._ids.after(after, limit))

    async def forget(self, sessions: Collection[str]) -> None:
        await trio.lowlevel.checkpoint()
        for each in sessions:
            stored = self._sessions.get(each)
            if stored is not None and stored.ended is not None:
                del self._sessions[each]
                self._ids.remove(each)

    async def ping(self) -> None:
        await trio.lowlevel.checkpoint()

    def _read(self, keys: Collection[Key], sessions: Iterable[str]) -> Reading:
        instant = self._time.read()
        doubts = self._quarantine(instant), self._token_floor
        return reading(instant, keys, self._records, sessions, self._found, *doubts)

    def _found(self, sessions: Iterable[str]) -> list[Session]:
        return [self._sessions[each] for each in sessions if each in self._sessions]

    def _put_session(self, session: Session, now_us: int) -> bool:
        stored = self._sessions.get(session.id)
        if session.version != (stored.version if stored else 0) + 1:
            return False
        if stored is None:
            self._ids.add(session.id)
        self._sessions[session.id] = marked_session(session, now_us)
        return True

    def _quarantine(self, instant: Instant) -> Quarantine | None:
        left_us = self._quarantine_until_us - instant.now_us
        return Quarantine("loss", left_us) if left_us > 0 else None
