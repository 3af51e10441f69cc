"""The PostgreSQL store: any number of processes on one database, each call one statement.

Promises what the contract says by the database's own clock, for a server that keeps what it has committed:
`fsync` and `synchronous_commit` on. After a failover to a standby that may lack the last writes, and where a
new connection finds that a write of this process is gone, nothing is granted for the longest ttl, and tokens
jump (`doubts`). Does not promise to notice a backup that was restored while no process ran, or under open
connections: `berth store fence-jump` is for that.
"""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from berth.core.names import Key
from berth.core.records import Record, Session
from berth.runtime.aio import Aio, open_aio
from berth.store import postgres_statements as sql
from berth.store.api import Changes, StoreFault, StoreRefused
from berth.store.postgres_driver import SETTINGS, Postgres, checked_dsn, connect
from berth.store.postgres_schema import bring_up_to_date, recognize, warn_of_losses
from berth.store.schema import Migrate, known_migrations
from berth.store.sql_changes import Heard
from berth.store.sql_store import Facts, Found, Settings, SqlStore, Written, found, prepared, written

SETTINGS_SECONDS = 3.0
LISTEN_SECONDS = 5.0
"""How long nothing is heard before it is seen whether the connection is still there."""
RELISTEN_SECONDS = 0.3


@asynccontextmanager
async def open_postgres(
    dsn: str, settings: Settings, *, migrate: Migrate = "auto", now: str = sql.NOW
) -> AsyncGenerator["PostgresStore"]:
    """The store in the database that `dsn` names. Raises StoreRefused before the body runs.

    `now` is the expression for the instant of a statement. What the body raises comes in an exception group,
    as out of any nursery.
    """
    source = checked_dsn(dsn)
    refused: StoreRefused | None = None
    async with open_aio() as aio:
        store = PostgresStore(aio, source, settings, sql.statements(now))
        try:
            refused = await prepared(store.prepare, migrate)
            if refused is None:
                yield store
        finally:
            store.close()
    if refused is not None:
        raise refused


class PostgresStore(SqlStore[Postgres]):
    """A `Store` in a PostgreSQL database. Made by `open_postgres`."""

    def __init__(self, aio: Aio, dsn: str, settings: Settings, statements: sql.Statements) -> None:
        super().__init__(settings)
        self._aio = aio
        self._dsn = dsn
        self._sql = statements
        self._own: dict[int, Postgres] = {}

    async def prepare(self, migrate: Migrate) -> None:
        """Bring the schema up to date, or verify it. Raises StoreRefused, StoreFault."""
        db = await connect(self._aio, self._dsn)
        try:
            await bring_up_to_date(db, migrate, known_migrations("postgres"))
            await warn_of_losses(db, self._logger)
        finally:
            db.discard()
        async with self._pool.connection() as db:
            for statement in self._sql:
                await db.prepare(statement)

    async def forget(self, sessions: Collection[str]) -> None:
        await self._fetch(self._sql.forget, list(sessions), writes=True)

    async def facts(self) -> Facts:
        (row,) = await self._fetch(self._sql.facts, writes=False)
        return Facts(*row)

    async def change_incarnation(self, times: int) -> int:
        ((ttl_max_us,),) = await self._fetch(self._sql.change_incarnation, times, writes=True)
        return ttl_max_us

    async def changes(self) -> AsyncGenerator[Changes]:
        """See `SharedStore`. It has a connection of its own, beside the pool's."""
        heard = Heard()
        while True:
            heard.miss()
            try:
                async with self._listening(heard) as db:
                    while db.sound:
                        with trio.move_on_after(LISTEN_SECONDS) as quiet:
                            await heard.wait()
                        if quiet.cancelled_caught:
                            await db.fetch("SELECT 1", writes=False)
                        elif db.sound and (changes := heard.take()) is not None:
                            yield changes
            except StoreFault as fault:
                self._logger.warning("other servers are not heard", error=str(fault))
            await trio.sleep(RELISTEN_SECONDS)

    @asynccontextmanager
    async def _listening(self, heard: Heard) -> AsyncGenerator[Postgres]:
        def hear(pid: int, payload: str) -> None:
            own = self._own.get(pid)
            if own is None or not own.sound:
                heard.add(sql.heard(payload))

        db = await self._connect()
        try:
            await db.listen(sql.CHANNEL, hear, heard.miss)
            yield db
        finally:
            db.discard()

    async def _find(self, keys: Collection[Key], sessions: Collection[str]) -> Found:
        columns = [key.namespace for key in keys], [key.name for key in keys], list(sessions)
        arrays = map(sql.array, columns)
        return found(await self._fetch(self._sql.read, *arrays, writes=False))

    async def _find_after(self, after: Key | None, limit: int) -> Found:
        return found(await self._fetch(self._sql.scan, *(after or ("", "")), limit, writes=False))

    async def _find_sessions_after(self, after: str | None, limit: int) -> Found:
        return found(await self._fetch(self._sql.sessions, after or "", limit, writes=False))

    async def _put(self, leases: Sequence[Record], sessions: Sequence[Session]) -> Written:
        if not sessions:
            text, columns = self._sql.write_leases, sql.lease_columns(leases)
        elif not leases:
            text, columns = self._sql.write_sessions, sql.session_columns(sessions)
        else:
            text, columns = self._sql.write, sql.lease_columns(leases) + sql.session_columns(sessions)
        return written(await self._fetch(text, *columns, writes=True))

    async def _write_ping(self) -> int:
        ((pinged_at_us, _),) = await self._fetch(self._sql.ping, writes=True)
        return pinged_at_us

    async def _write_ttl_max(self, ttl_us: int) -> None:
        await self._fetch(self._sql.raise_ttl, ttl_us, writes=True)

    async def _fetch(self, text: str, *args: object, writes: bool) -> Sequence[Any]:
        async with self._pool.connection() as db:
            return await db.fetch(text, *args, writes=writes)

    async def _connect(self) -> Postgres:
        db = await connect(self._aio, self._dsn)
        try:
            await db.execute(SETTINGS, seconds=SETTINGS_SECONDS)
            await db.instants_as_integers()
            await recognize(db, lossy=self._lossy, known=self._doubts.known, ttl_max_us=self._ttl_max_us)
        except BaseException:
            db.discard()
            raise
        self._own = {pid: own for pid, own in self._own.items() if own.sound} | {db.pid: db}
        return db
