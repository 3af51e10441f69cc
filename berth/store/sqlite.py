"""The SQLite store: one file, one process, every acknowledged write on the disk.

Owns the connection: one call at a time, each a whole transaction on the driver's thread, with a deadline.
After a failure the next call has a new connection. Promises durability against a crash of the process, the
machine or its power (WAL, synchronous FULL), as far as the disk keeps what it has been told to, and refuses a
damaged file at the start. Does not promise to notice that the file was replaced by a backup: who does that
says so by `berth store fence-jump`.
"""

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import msgspec
import trio

from berth.core.names import Key
from berth.core.records import Observed
from berth.runtime.aio import Aio, AioTimeout, open_aio
from berth.runtime.clock import Clock
from berth.store import sqlite_rows as rows
from berth.store.api import Reading, StoreFault, StoreRefused, Write
from berth.store.marks import reading
from berth.store.schema import Migrate, known_migrations
from berth.store.sqlite_cache import Cache
from berth.store.sqlite_driver import Driver
from berth.store.sqlite_fence import Fence, fence
from berth.store.sqlite_file import advice, connect, database_path, locked
from berth.store.sqlite_rows import CommitFailed
from berth.store.sqlite_schema import bring_up_to_date
from berth.store.sqlite_time import FileTime

CALL_SECONDS = 5.0
"""How long a call waits for its turn, and then for each answer from the driver's thread."""

SAVE_SECONDS = 10.0
"""How often the time is written down: by so much a lease may outlive a crash of the machine."""

_PAGE = 500
_OLDEST = (3, 37, 0)  # the first with STRICT tables

T = TypeVar("T")
Args = TypeVarTuple("Args")


@asynccontextmanager
async def open_sqlite(
    dsn: str, *, clock: Clock, boot_id: str, migrate: Migrate = "auto"
) -> AsyncGenerator["SqliteStore"]:
    """The store in the file that `dsn` names. Raises StoreRefused before anything runs.

    `boot_id` is the name of the machine's current boot. What the body raises comes in an exception group, as
    out of any nursery.
    """
    path = database_path(dsn)
    if migrate == "off" and not path.exists():
        raise StoreRefused(f"there is no database at {path}: start once with --sql-migrate auto")
    with locked(path):
        time, fence = await trio.to_thread.run_sync(_prepared, path, clock, boot_id, migrate)
        async with open_aio() as aio:
            store = SqliteStore(aio, path, time, fence)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_keep_time, store)
                    yield store
                    nursery.cancel_scope.cancel()
            finally:
                await store.close()


def _prepared(path: Path, clock: Clock, boot_id: str, migrate: Migrate) -> tuple[FileTime, Fence]:
    """Make the file ready, in this thread, and resume its time."""
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StoreRefused(f"SQLite {sqlite3.sqlite_version} is too old: berth needs 3.37 or later")
    try:
        with closing(connect(path)) as db:
            rows.quick_check(db)
            bring_up_to_date(db, migrate, known_migrations("sqlite"))
            db.execute("PRAGMA journal_mode = WAL")
            time = FileTime(db, clock, boot_id)
            rows.save_time(db, time)
            return time, fence(db)
    except (sqlite3.Error, CommitFailed) as error:
        raise StoreRefused(f"cannot use {path}: {advice(error)}") from error
    except StoreRefused as refused:
        raise StoreRefused(f"cannot use {path}: {refused}") from None


async def _keep_time(store: "SqliteStore") -> None:
    while True:
        await trio.sleep(SAVE_SECONDS)
        with suppress(StoreFault):  # who asks the store next is told
            await store.ping()


class SqliteStore:
    """A `Store` in an SQLite file that is locked and prepared."""

    def __init__(self, aio: Aio, path: Path, time: FileTime, fence: Fence) -> None:
        self._aio = aio
        self._path = path
        self._time = time
        self._fence = fence
        self._turn = trio.Lock()
        self._driver = Driver(path)
        self._cache = Cache()

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        async with self._my_turn():
            if self._cache.has(keys, sessions):
                instant = self._time.read()
                known, doubts = self._cache, self._fence.doubts(instant.now_us)
                return reading(instant, keys, known.records, sessions, known.found, *doubts)
            found = await self._carried_out(
                lambda db: rows.read(db, self._time, self._fence, keys, sessions), writes=False
            )
            self._cache.note_read(found)
            return found

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        async with self._my_turn():
            won = await self._carried_out(lambda db: rows.write(db, self._time, writes), writes=True)
            self._cache.note_written(writes, won)
            return won

    async def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        while limit > 0:
            page = await self._scan_page(after, min(limit, _PAGE))
            for observed in page:
                yield observed
            if len(page) < _PAGE:
                return
            after = page[-1].key
            limit -= len(page)

    async def sessions(self, after: str | None, limit: int) -> Reading:
        return await self._call(lambda db: rows.sessions(db, self._time, after, limit), writes=False)

    async def forget(self, sessions: Collection[str]) -> None:
        async with self._my_turn():
            self._cache.forget(sessions)
            await self._carried_out(lambda db: rows.forget(db, sessions), writes=True)

    async def ping(self) -> None:
        await self._call(lambda db: rows.ping(db, self._time), writes=True)

    async def change_incarnation(self, times: int) -> int:
        """Take the file for another, so often: tokens jump, and nothing is granted for the longest ttl, which
        is returned in microseconds.
        """
        async with self._my_turn():
            closed_us = await self._carried_out(lambda db: rows.jump(db, self._time, times), writes=True)
            self._cache.clear()
            self._fence = await self._carried_out(fence, writes=False)
            return closed_us

    async def close(self) -> None:
        """Write the time down if that is possible, and close the file."""
        with trio.CancelScope(shield=True):
            with suppress(StoreFault):
                await self.ping()
            with suppress(AioTimeout):
                await self._aio.run(self._driver.end, timeout_seconds=CALL_SECONDS)

    async def _scan_page(self, after: Key | None, limit: int) -> list[Observed]:
        found = await self._call(
            lambda db: rows.scan(db, self._time, self._fence, after, limit), writes=False
        )
        return list(found.leases.values())

    async def _call(self, fn: Callable[[sqlite3.Connection], T], *, writes: bool) -> T:
        async with self._my_turn():
            return await self._carried_out(fn, writes=writes)

    @asynccontextmanager
    async def _my_turn(self) -> AsyncGenerator[None]:
        """One call at a time. Raises StoreFault when the turn does not come."""
        with trio.move_on_after(CALL_SECONDS) as patience:
            await self._turn.acquire()
        if patience.cancelled_caught:
            raise StoreFault(f"{self._path} is busy with earlier calls", outcome_known=True)
        try:
            yield
        finally:
            self._turn.release()

    async def _carried_out(self, fn: Callable[[sqlite3.Connection], T], *, writes: bool) -> T:
        """`fn` on the driver's thread. Raises StoreFault, and then nothing that was known is certain."""
        try:
            driver = await self._sound_driver()
            return await self._run(driver.run, fn, outcome_known=not writes)
        except BaseException:
            self._cache.clear()
            raise

    async def _sound_driver(self) -> Driver:
        if self._driver.busy:
            raise StoreFault(f"{self._path} has not answered an earlier call yet", outcome_known=True)
        if not self._driver.sound:
            unsound, self._driver = self._driver, Driver(self._path)
            await self._run(unsound.end, outcome_known=True)
            await self._run(self._driver.open, outcome_known=True)
        return self._driver

    async def _run(self, async_fn: Callable[[*Args], Awaitable[T]], *args: *Args, outcome_known: bool) -> T:
        """One step on the driver. `outcome_known`: it writes nothing, even if it does not answer in time."""
        try:
            return await self._aio.run(async_fn, *args, timeout_seconds=CALL_SECONDS)
        except AioTimeout as error:
            raise StoreFault(f"{self._path}: {error}", outcome_known=outcome_known) from None
        except CommitFailed as failed:
            raise StoreFault(f"{self._path}: {advice(failed)}", outcome_known=False) from failed
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise StoreFault(f"{self._path}: {advice(error)}", outcome_known=True) from error
