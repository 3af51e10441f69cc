"""The MariaDB and MySQL store: any number of processes on one database, each call one round trip.

Promises what the contract says by the database's own clock, for a server that keeps what it has committed
(`innodb_flush_log_at_trx_commit` and, with a binary log, `sync_binlog` at 1; otherwise it warns). After a
failover to a replica that may lack the last writes, and where a new connection finds that a write of this
process is gone, nothing is granted for the longest ttl, and tokens jump (`doubts`). Does not promise to
notice a backup that was restored while no process ran, or under open connections: `berth store fence-jump`
is for that.
"""

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from secrets import randbits
from typing import Any

import msgspec
import trio

from berth.core.names import Key
from berth.core.records import Record, Session
from berth.runtime.aio import Aio, open_aio
from berth.store import mariadb_statements as sql
from berth.store.api import Changes, StoreFault, StoreRefused
from berth.store.mariadb_driver import RETRIABLE, Mariadb, code, connect
from berth.store.mariadb_dsn import Source, source
from berth.store.mariadb_schema import bring_up_to_date, recognize, warn_of_losses
from berth.store.schema import Migrate, known_migrations
from berth.store.sql_changes import HEARD_MAX, Heard, Polled
from berth.store.sql_store import Facts, Found, Settings, SqlStore, Written, found, prepared, written

POLL_SECONDS = 0.05
POLL_MOST_SECONDS = 0.6

_CALL_BITS = 62


@asynccontextmanager
async def open_mariadb(
    dsn: str, settings: Settings, *, migrate: Migrate = "auto", now: str = sql.NOW
) -> AsyncGenerator["MariadbStore"]:
    """The store in the database that `dsn` names. Raises StoreRefused before the body runs.

    `now` is the expression for the instant of a statement. What the body raises comes in an exception group,
    as out of any nursery.
    """
    where = source(dsn)
    refused: StoreRefused | None = None
    async with open_aio() as aio:
        store = MariadbStore(aio, where, settings, sql.statements(now))
        try:
            refused = await prepared(store.prepare, migrate)
            if refused is None:
                yield store
        finally:
            store.close()
    if refused is not None:
        raise refused


class MariadbStore(SqlStore[Mariadb]):
    """A `Store` in a MariaDB or MySQL database. Made by `open_mariadb`."""

    def __init__(self, aio: Aio, where: Source, settings: Settings, statements: sql.Statements) -> None:
        super().__init__(settings)
        self._aio = aio
        self._source = where
        self._sql = statements
        self._server = str(randbits(_CALL_BITS))

    async def prepare(self, migrate: Migrate) -> None:
        """Bring the schema up to date, or verify it. Raises StoreRefused, StoreFault."""
        db = await connect(self._aio, self._source)
        try:
            await bring_up_to_date(db, migrate, known_migrations("mariadb"))
            await warn_of_losses(db, self._logger)
        finally:
            db.discard()
        await self._find((), ())
        await self._find_after(None, 1)
        everything = self._sql.writing(leases=True, sessions=True)
        given = {"leases": "[]", "sessions": "[]", "call": "0", "server": self._server}
        await self._call(given, everything, writes=True)

    async def forget(self, sessions: Collection[str]) -> None:
        await self._call({"ids": _json(sessions)}, self._sql.forget, writes=True)

    async def facts(self) -> Facts:
        (row,) = await self._rows(self._sql.facts)
        return Facts(*row)

    async def change_incarnation(self, times: int) -> int:
        *_, ((ttl_max_us,),) = await self._call(
            {}, self._sql.change_incarnation.format(times=times), writes=True
        )
        return ttl_max_us

    async def changes(self) -> AsyncGenerator[Changes]:
        """See `SharedStore`. It asks often while there is something, and less often else."""
        heard, polled = Heard(), Polled()
        pause_seconds = POLL_SECONDS
        while True:
            try:
                given = {"since": str(polled.since_us), "server": self._server}
                polled.take(heard, await self._rows(self._sql.changed.format(limit=HEARD_MAX), **given))
            except StoreFault as fault:
                self._logger.warning("other servers are not heard", error=str(fault))
                heard.miss()
            else:
                changes = heard.take()
                pause_seconds = POLL_SECONDS if changes else min(POLL_MOST_SECONDS, pause_seconds * 1.5)
                if changes:
                    yield changes
            await trio.sleep(pause_seconds)

    async def _find(self, keys: Collection[Key], sessions: Collection[str]) -> Found:
        return found(await self._rows(self._sql.read, keys=_json(keys), ids=_json(sessions)))

    async def _find_after(self, after: Key | None, limit: int) -> Found:
        namespace, name = after or ("", "")
        return found(await self._rows(self._sql.scan.format(limit=limit), namespace=namespace, name=name))

    async def _find_sessions_after(self, after: str | None, limit: int) -> Found:
        return found(await self._rows(self._sql.sessions.format(limit=limit), id=after or ""))

    async def _put(self, leases: Sequence[Record], sessions: Sequence[Session]) -> Written:
        try:
            return await self._put_all(leases, sessions)
        except StoreFault as fault:
            if code(fault.__cause__) not in RETRIABLE:
                raise
            return await self._put_all(leases, sessions)

    async def _put_all(self, leases: Sequence[Record], sessions: Sequence[Session]) -> Written:
        given = {"call": str(randbits(_CALL_BITS)), "server": self._server}
        if leases:
            given["leases"] = sql.lease_rows(leases)
        if sessions:
            given["sessions"] = sql.session_rows(sessions)
        text = self._sql.writing(leases=bool(leases), sessions=bool(sessions))
        *_, rows, _ = await self._call(given, f"START TRANSACTION; {text}; COMMIT", writes=True)
        return written(sql.decoded(rows))

    async def _rows(self, text: str, **given: str) -> list[Sequence[Any]]:
        *_, rows = await self._call(given, text, writes=False)
        return sql.decoded(rows)

    async def _call(self, given: Mapping[str, str], text: str, *, writes: bool) -> list[Sequence[Any]]:
        """The rows of each statement in `text`, for which the variables that are `given` are set."""
        async with self._pool.connection() as db:
            if given:
                variables = ", ".join(f"@{name} = {db.quoted(value)}" for name, value in given.items())
                text = f"SET {variables}; {text}"
            return await db.call(text, writes=writes)

    async def _write_ping(self) -> int:
        *_, ((now_us, _),) = await self._call({}, self._sql.ping, writes=True)
        return now_us

    async def _write_ttl_max(self, ttl_us: int) -> None:
        await self._call(
            {}, f"UPDATE berth_meta SET ttl_max_us = GREATEST(ttl_max_us, {ttl_us})", writes=True
        )

    async def _connect(self) -> Mariadb:
        db = await connect(self._aio, self._source)
        try:
            await recognize(db, lossy=self._lossy, known=self._doubts.known, ttl_max_us=self._ttl_max_us)
        except BaseException:
            db.discard()
            raise
        return db


def _json(values: Iterable[str | Key]) -> str:
    return msgspec.json.encode([*values]).decode()
