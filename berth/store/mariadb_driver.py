"""The door to asyncmy: connections to MariaDB and MySQL, their settings, and what their errors mean.

asyncmy rather than aiomysql: both run on Trio, end a cancelled call with their connection and speak TLS;
asyncmy's reading of rows is compiled and takes a tenth of the time. It takes its text over several
statements at once, so a write of many records is one round trip.

Owns the settings of a connection and the judgement whether a call that failed may have been carried out.
Promises that a call ends within its limits, that a connection which failed in any way is not told to be
sound, and that no error holds a password.
"""

from collections.abc import Sequence
from typing import Any

import asyncmy
from asyncmy import errors

from berth.runtime.aio import Aio, AioTimeout
from berth.store.api import StoreFault
from berth.store.mariadb_dsn import Source

CONNECT_SECONDS = 3.0
CALL_SECONDS = 4.0
"""How long the answer to a call may take; the server itself gives up earlier."""

_SETTINGS = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'",
    "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 2, wait_timeout = 600",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
)
_MARIADB_SETTINGS = "SET SESSION max_statement_time = 2, idle_transaction_timeout = 5"
_MYSQL_SETTINGS = "SET SESSION max_execution_time = 2000"
"""Of readings alone: MySQL has no limit for what writes, but that for the wait for a lock."""

_UNKNOWN = {1053, 1152, 1153, 1156, 1158, 1159, 1160, 1161, 1180, 1181, 1184, 1317, 1927}
"""The server broke off, perhaps while it committed. So it is with all that the client itself reports."""

RETRIABLE = {1020, 1213}
"""Undone by the server because others were in between; the same may win a moment later."""


class Mariadb:
    """One connection."""

    def __init__(self, aio: Aio, raw: Any) -> None:
        self._aio = aio
        self._raw = raw
        self._sound = True
        self._lost = False

    @property
    def lost(self) -> bool:
        return self._lost or not self._raw.connected

    @property
    def sound(self) -> bool:
        return self._sound and bool(self._raw.connected)

    @property
    def is_mariadb(self) -> bool:
        return "MariaDB" in self._raw.get_server_info()

    def discard(self) -> None:
        self._sound = False
        self._raw.close()

    async def call(self, sql: str, *, writes: bool, seconds: float = CALL_SECONDS) -> list[Sequence[Any]]:
        """The rows of each of the statements in `sql`. Raises StoreFault.

        A statement that fails ends the call; it leaves an open transaction, so the connection is given up.
        """
        try:
            return await self._aio.run(self._query, sql, timeout_seconds=seconds)
        except AioTimeout as error:
            self._sound = False
            self._lost = True
            raise StoreFault(f"MariaDB: {error}", outcome_known=not writes) from None
        except (errors.MySQLError, OSError, EOFError, RuntimeError) as error:
            self._sound = False
            raise StoreFault(_text(error), outcome_known=not writes or was_refused(error)) from error

    def quoted(self, text: str) -> str:
        """The text as a literal in a statement."""
        return str(self._raw.escape(text))

    async def _query(self, sql: str) -> list[Sequence[Any]]:
        await self._raw.query(sql)
        found: list[Sequence[Any]] = [self._raw._result.rows or ()]
        while self._raw._result.has_next:
            await self._raw.next_result()
            found.append(self._raw._result.rows or ())
        return found


def code(error: BaseException | None) -> int:
    """The server's, or the client's, number of an error; 0 where there is none."""
    first = error.args[0] if isinstance(error, errors.MySQLError) and error.args else 0
    return first if isinstance(first, int) else 0


def was_refused(error: Exception) -> bool:
    """Whether the server itself has undone the statement. Else what became of it is not known."""
    number = code(error)
    return (1000 <= number < 2000 and number not in _UNKNOWN) or number >= 3000


def _text(error: Exception) -> str:
    """What the server says. Only its own words: they quote no values of ours but keys."""
    number = code(error)
    said = str(error.args[1]) if number and len(error.args) > 1 else str(error) or type(error).__name__
    return f"MariaDB: {said} ({number})" if number else f"MariaDB: {said}"


async def connect(aio: Aio, source: Source) -> Mariadb:
    """A connection to a server that can be written to. Raises StoreFault."""
    try:
        db = await _connect(aio, source, source.context)
    except StoreFault as fault:
        if source.tls != "preferred" or code(fault.__cause__) in range(1000, 2000):
            raise
        db = await _connect(aio, source, None)
    try:
        for name, value in source.variables.items():
            await db.call(f"SET SESSION {name} = {value}", writes=False)
        for statement in (*_SETTINGS, _MARIADB_SETTINGS if db.is_mariadb else _MYSQL_SETTINGS):
            await db.call(statement, writes=False)
        (((read_only,),),) = await db.call("SELECT @@global.read_only", writes=False)
        if read_only:
            raise StoreFault("MariaDB: the server is read-only", outcome_known=True)
    except BaseException:
        db.discard()
        raise
    return db


async def _connect(aio: Aio, source: Source, context: Any) -> Mariadb:
    driver: Any = asyncmy

    async def connecting() -> Any:
        return await driver.connect(
            user=source.user,
            password=source.password,
            host=source.host,
            port=source.port,
            unix_socket=source.unix_socket,
            database=source.database,
            charset="utf8mb4",
            autocommit=True,
            ssl=context,
        )

    try:
        return Mariadb(aio, await aio.run(connecting, timeout_seconds=CONNECT_SECONDS))
    except AioTimeout as error:
        raise StoreFault(f"MariaDB: {error}", outcome_known=True) from None
    except (errors.MySQLError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise StoreFault(_text(error), outcome_known=True) from error
