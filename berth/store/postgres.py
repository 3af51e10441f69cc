"""The PostgreSQL store: any number of processes on one database, each call one statement.

Owns a bounded pool of connections. Promises what the contract says by the database's own clock, for a server
that keeps what it has committed: `fsync` and `synchronous_commit` on. After a failover to a standby that may
lack the last writes nothing is granted for the longest ttl, and tokens jump (`doubts`). Does not promise to
notice a backup that was restored into the same server: `berth store fence-jump` is for that.
"""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import trio

from berth.core.names import Key
from berth.core.records import Observed, Record, Session
from berth.runtime.aio import Aio, open_aio
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.store import postgres_statements as rows
from berth.store.api import Reading, StoreFault, StoreRefused, Write
from berth.store.doubts import Doubts
from berth.store.marks import Instant, reading
from berth.store.postgres_driver import SETTINGS, Postgres, checked_dsn, connect
from berth.store.postgres_schema import bring_up_to_date, recognize
from berth.store.schema import Migrate, known_migrations
from berth.store.sql_pool import Pool
from berth.store.sql_rows import longest_us

POOL_SIZE = 8
OPEN_SECONDS = 30.0
SETTINGS_SECONDS = 3.0
_PAGE = 500

Durability = Literal["async", "sync"]
"""Whether a failover may lose what was committed last."""


@asynccontextmanager
async def open_postgres(
    dsn: str,
    *,
    clock: Clock,
    logger: Logger,
    migrate: Migrate = "auto",
    pool_size: int = POOL_SIZE,
    durability: Durability = "async",
    statements: rows.Statements | None = None,
) -> AsyncGenerator["PostgresStore"]:
    """The store in the database that `dsn` names. Raises StoreRefused before the body runs.

    `statements` are those that the store sends, where they are not the ordinary ones.
    """
    source = checked_dsn(dsn)
    async with open_aio() as aio:
        store = PostgresStore(
            aio,
            source,
            clock=clock,
            logger=logger,
            pool_size=pool_size,
            durability=durability,
            statements=statements or rows.statements(),
        )
        try:
            with trio.move_on_after(OPEN_SECONDS) as patience:
                await store.prepare(migrate)
            if patience.cancelled_caught:
                raise StoreRefused(f"PostgreSQL was not ready within {OPEN_SECONDS:g} s")
            yield store
        finally:
            store.close()


class PostgresStore:
    """A `Store` in a PostgreSQL database. Made by `open_postgres`."""

    def __init__(
        self,
        aio: Aio,
        dsn: str,
        *,
        clock: Clock,
        logger: Logger,
        pool_size: int,
        durability: Durability,
        statements: rows.Statements,
    ) -> None:
        self._aio = aio
        self._dsn = dsn
        self._lossy = durability == "async"
        self._sql = statements
        self._doubts = Doubts(clock, logger)
        self._pool = Pool(self._connect, pool_size)
        self._ttl_max_us = 0

    async def prepare(self, migrate: Migrate) -> None:
        """Bring the schema up to date, or verify it. Raises StoreRefused."""
        try:
            db = await connect(self._aio, self._dsn)
            try:
                await bring_up_to_date(db, migrate, known_migrations("postgres"))
            finally:
                db.discard()
            async with self._pool.connection() as db:
                for statement in self._sql:
                    await db.prepare(statement)
        except StoreFault as fault:
            raise StoreRefused(f"cannot use the database: {fault}") from fault
        except StoreRefused as refused:
            raise StoreRefused(f"cannot use the database: {refused}") from None

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        namespaces, names = [key.namespace for key in keys], [key.name for key in keys]
        return await self._read(keys, self._sql.read, namespaces, names, list(sessions))

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        if not writes:
            await trio.lowlevel.checkpoint()
            return set()
        await self._allow_ttl(longest_us(writes))
        leases = [each for each in writes if isinstance(each, Record)]
        sessions = [each for each in writes if isinstance(each, Session)]
        if not sessions:
            return await self._write(self._sql.write_leases, rows.lease_columns(leases))
        if not leases:
            return await self._write(self._sql.write_sessions, rows.session_columns(sessions))
        return await self._write(self._sql.write, rows.lease_columns(leases) + rows.session_columns(sessions))

    async def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        while limit > 0:
            page = await self._read(None, self._sql.scan, *(after or ("", "")), min(limit, _PAGE))
            for observed in page.leases.values():
                yield observed
                after = observed.key
            if len(page.leases) < _PAGE:
                return
            limit -= _PAGE

    async def sessions(self, after: str | None, limit: int) -> Reading:
        return await self._read((), self._sql.sessions, after or "", limit)

    async def forget(self, sessions: Collection[str]) -> None:
        await self._fetch(self._sql.forget, list(sessions), writes=True)

    async def ping(self) -> None:
        """Write the smallest thing there is, and reach for a lease."""
        sent_us = self._doubts.boot_us()
        ((pinged_at_us, _),) = await self._fetch(self._sql.ping, writes=True)
        self._doubts.note_clock(sent_us, pinged_at_us)

    def close(self) -> None:
        self._pool.close()

    async def _read(self, keys: Collection[Key] | None, sql: str, *args: object) -> Reading:
        """The reading of `keys`, or of what was found, in order."""
        sent_us = self._doubts.boot_us()
        found = rows.found(await self._fetch(sql, *args, writes=False))
        self._ttl_max_us = max(self._ttl_max_us, found.head.ttl_max_us)
        self._doubts.note(sent_us, found.head)
        now_us = found.head.now_us
        asked = sorted(found.records) if keys is None else keys
        plain = reading(Instant(now_us, now_us), asked, found.records, found.sessions)
        return self._doubts.judged(plain, found.issued)

    async def _write(self, sql: str, columns: Sequence[object]) -> set[Key | str]:
        sent_us = self._doubts.boot_us()
        won: set[Key | str] = set()
        for kind, first, second, now_us in await self._fetch(sql, *columns, writes=True):
            if kind == 1:
                won.add(Key(first, second))
            elif kind == 2:
                won.add(first)
            else:
                self._doubts.note_clock(sent_us, now_us)
        return won

    async def _fetch(self, sql: str, *args: object, writes: bool) -> Sequence[Any]:
        async with self._pool.connection() as db:
            return await db.fetch(sql, *args, writes=writes)

    async def _allow_ttl(self, ttl_us: int) -> None:
        """Write down, before the first grant of so long a ttl, for how long a lost grant may hold.

        In powers of two, so that it is rarely written.
        """
        if ttl_us > self._ttl_max_us:
            ceiling_us = 1 << (ttl_us - 1).bit_length()
            await self._fetch(self._sql.raise_ttl, ceiling_us, writes=True)
            self._ttl_max_us = max(self._ttl_max_us, ceiling_us)

    async def _connect(self) -> Postgres:
        db = await connect(self._aio, self._dsn)
        try:
            await db.execute(SETTINGS, seconds=SETTINGS_SECONDS)
            await db.instants_as_integers()
            await recognize(db, lossy=self._lossy, ttl_max_us=self._ttl_max_us)
        except BaseException:
            db.discard()
            raise
        return db
