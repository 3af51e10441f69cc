"""What the stores on database servers have in common: the contract, in terms of a few calls to a server.

Owns a bounded pool of connections, what is doubted of the database, and the note, made before the first
grant of so long a ttl, for how long a lost grant may hold. Promises that every answer's clock is looked at,
and every reading judged. Knows no dialect: who inherits says how things are read and written.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import trio

from berth.core.names import Key
from berth.core.records import Observed, Record, Session
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.store.api import Reading, StoreFault, StoreRefused, Write
from berth.store.doubts import Doubts, Head
from berth.store.marks import Instant, reading
from berth.store.schema import Migrate
from berth.store.sql_pool import Connection, Pool
from berth.store.sql_rows import LeaseRow, SessionRow, longest_us, record, session

POOL_SIZE = 8
OPEN_SECONDS = 30.0
_PAGE = 500

Durability = Literal["async", "sync"]
"""Whether a failover of the database may lose what was committed last."""

ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Settings(NamedTuple):
    """What every store on a server is told."""

    clock: Clock
    logger: Logger
    pool_size: int = POOL_SIZE
    durability: Durability = "async"


class Found(NamedTuple):
    """What a reading's rows say. `issued` is the incarnation in which each lease's token was given."""

    head: Head
    records: dict[Key, Record]
    issued: dict[Key, int]
    sessions: list[Session]


class Facts(NamedTuple):
    """What a database says of itself."""

    identity: str
    incarnation: int
    changed_at_us: int | None
    ttl_max_us: int
    leases: int
    sessions: int
    now_us: int


class Written(NamedTuple):
    """What of a write won, and the database's clock."""

    won: set[Key | str]
    now_us: int


class SqlStore(ABC, Generic[ConnectionT]):
    """A `Store` on a database server."""

    def __init__(self, settings: Settings) -> None:
        self._lossy = settings.durability == "async"
        self._logger = settings.logger
        self._doubts = Doubts(settings.clock, settings.logger)
        self._pool = Pool(self._connect, settings.pool_size)
        self._ttl_max_us = 0

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        sent_us = self._doubts.boot_us()
        return self._judged(sent_us, await self._find(keys, sessions), keys)

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        if not writes:
            await trio.lowlevel.checkpoint()
            return set()
        await self._allow_ttl(longest_us(writes))
        leases = [each for each in writes if isinstance(each, Record)]
        sessions = [each for each in writes if isinstance(each, Session)]
        sent_us, known = self._doubts.boot_us(), self._doubts.known
        written = await self._put(leases, sessions)
        self._doubts.note_clock(sent_us, written.now_us)
        self._doubts.note_won(known, writes, written.won)
        return written.won

    async def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        while limit > 0:
            sent_us = self._doubts.boot_us()
            found = await self._find_after(after, min(limit, _PAGE))
            page = self._judged(sent_us, found, sorted(found.records))
            for observed in page.leases.values():
                yield observed
                after = observed.key
            if len(page.leases) < _PAGE:
                return
            limit -= _PAGE

    async def sessions(self, after: str | None, limit: int) -> Reading:
        sent_us = self._doubts.boot_us()
        return self._judged(sent_us, await self._find_sessions_after(after, limit), ())

    async def ping(self) -> None:
        """Write the smallest thing there is, and reach for a lease."""
        sent_us = self._doubts.boot_us()
        self._doubts.note_clock(sent_us, await self._write_ping())

    def close(self) -> None:
        self._pool.close()

    def _judged(self, sent_us: int, found: Found, keys: Collection[Key]) -> Reading:
        self._ttl_max_us = max(self._ttl_max_us, found.head.ttl_max_us)
        self._doubts.note(sent_us, found.head)
        now_us = found.head.now_us
        ids = [each.id for each in found.sessions]
        plain = reading(Instant(now_us, now_us), keys, found.records, ids, lambda _: found.sessions)
        return self._doubts.judged(plain, found.issued)

    async def _allow_ttl(self, ttl_us: int) -> None:
        """Write down, in steps so that it is rarely written, that so long a ttl is granted."""
        if ttl_us > self._ttl_max_us:
            step_us = 1 << max(0, ttl_us.bit_length() - 4)
            ceiling_us = -(-ttl_us // step_us) * step_us
            await self._write_ttl_max(ceiling_us)
            self._ttl_max_us = max(self._ttl_max_us, ceiling_us)

    @abstractmethod
    async def facts(self) -> Facts:
        """What there is to know about the database. Goes through all of it."""

    @abstractmethod
    async def change_incarnation(self, times: int) -> int:
        """Take the database for another, so often: tokens jump, and nothing is granted for the longest ttl,
        which is returned in microseconds.
        """

    @abstractmethod
    async def forget(self, sessions: Collection[str]) -> None: ...

    @abstractmethod
    async def _connect(self) -> ConnectionT:
        """A connection that is set up, to a server that has been recognized. Raises StoreFault."""

    @abstractmethod
    async def _find(self, keys: Collection[Key], sessions: Collection[str]) -> Found: ...

    @abstractmethod
    async def _find_after(self, after: Key | None, limit: int) -> Found: ...

    @abstractmethod
    async def _find_sessions_after(self, after: str | None, limit: int) -> Found: ...

    @abstractmethod
    async def _put(self, leases: Sequence[Record], sessions: Sequence[Session]) -> Written: ...

    @abstractmethod
    async def _write_ping(self) -> int:
        """The database's clock, once something was written."""

    @abstractmethod
    async def _write_ttl_max(self, ttl_us: int) -> None: ...


def found(rows: Iterable[Sequence[Any]]) -> Found:
    """What the rows of a reading say: kind, four texts, three instants, four numbers.

    0: the head; 1: a lease; 2: a session.
    """
    head: Head | None = None
    records: dict[Key, Record] = {}
    issued: dict[Key, int] = {}
    sessions: list[Session] = []
    for kind, a, b, c, d, first_us, second_us, third_us, ttl, token, version, incarnation in rows:
        if kind == 1:
            read = record(LeaseRow(a, b, c, ttl, first_us, second_us, token, version, d))
            records[read.key] = read
            issued[read.key] = incarnation
        elif kind == 2:
            sessions.append(session(SessionRow(a, version, b, c, ttl, first_us, second_us, d, third_us)))
        else:
            head = Head(first_us, token, second_us, ttl)
    assert head is not None, "berth_meta has its row"
    return Found(head, records, issued, sessions)


def written(rows: Iterable[Sequence[Any]]) -> Written:
    """What the rows of a write say. 0: the clock; 1: a lease won; 2: a session won; others: nothing."""
    won: set[Key | str] = set()
    now_us = 0
    for kind, first, second, at_us in rows:
        if kind == 1:
            won.add(Key(first, second))
        elif kind == 2:
            won.add(first)
        elif kind == 0:
            now_us = at_us
    return Written(won, now_us)


async def prepared(prepare: Callable[[Migrate], Awaitable[None]], migrate: Migrate) -> StoreRefused | None:
    """Carry out the `prepare` of a store in time; why the database cannot be used, None where it can."""
    try:
        with trio.fail_after(OPEN_SECONDS):
            await prepare(migrate)
    except (StoreFault, StoreRefused) as error:
        return StoreRefused(f"cannot use the database: {error}")
    except trio.TooSlowError:
        return StoreRefused(f"the database was not ready within {OPEN_SECONDS:g} s")
    return None
