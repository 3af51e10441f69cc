"""The door to asyncpg: connections to PostgreSQL, their settings, and what their errors mean.

Owns the reading of a DSN, which libpq's rules govern (asyncpg follows them for sslmode and the files that go
with it), and the judgement whether a call that failed may have been carried out. Promises that a call ends
within its limits, that a connection is told to be sound only when its state is known, and that no error
holds a password. Every statement commits by itself. Instants are integer microseconds since the Unix epoch.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from berth.runtime.aio import Aio, AioTimeout
from berth.store.api import StoreFault, StoreRefused

CONNECT_SECONDS = 3.0
CALL_SECONDS = 4.0
"""How long the answer to a statement may take; the server itself gives up earlier."""

SETTINGS = """
SET synchronous_commit = on;
SET lock_timeout = '1s';
SET statement_timeout = '2s';
SET idle_in_transaction_session_timeout = '5s';
SET tcp_user_timeout = '5s';
SET default_transaction_isolation = 'read committed';
SET plan_cache_mode = 'force_generic_plan';
SET jit = off;
"""
"""What was told is on the disk, whatever the database's default. Locks and statements have limits, and no
client that is gone holds a lock for longer. Plans do not depend on how many keys are asked for.
"""

# Settings of other drivers, and of libpq, for what is settled here.
_NOT_OURS = {
    "binary_parameters",
    "channel_binding",
    "connect_timeout",
    "default_query_exec_mode",
    "description_cache_capacity",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "min_read_buffer_size",
    "pool_health_check_period",
    "pool_max_conn_idle_time",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_max_conns",
    "pool_min_conns",
    "sslsni",
    "statement_cache_capacity",
    "target_session_attrs",
    "tcp_user_timeout",
}
_LIBRARY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_READ_ONLY = "25006"  # the server was a primary once
_EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from the year 2000

T = TypeVar("T")


class Postgres:
    """One connection."""

    def __init__(self, aio: Aio, raw: Any) -> None:
        self._aio = aio
        self._raw = raw
        self._unknown = False
        self._warned = False
        raw.add_log_listener(self._note)

    @property
    def sound(self) -> bool:
        return not self._unknown and not self._raw.is_closed()

    @property
    def lost(self) -> bool:
        return not self.sound

    def discard(self) -> None:
        self._raw.terminate()

    async def fetch(self, sql: str, *args: object, writes: bool) -> Sequence[Any]:
        """The rows of one statement. Raises StoreFault.

        A warning during a write means that it is committed here, and perhaps nowhere else: the wait for a
        standby was broken off.
        """
        self._warned = False
        rows = await self._call(partial(self._raw.fetch, sql, *args), writes, CALL_SECONDS)
        if self._warned and writes:
            raise StoreFault("PostgreSQL has not heard from its synchronous standby", outcome_known=False)
        return rows

    async def execute(self, script: str, *, seconds: float) -> None:
        """Any number of statements, without arguments. Raises StoreFault."""
        await self._call(partial(self._raw.execute, script), True, seconds)

    @property
    def pid(self) -> int:
        """The server's process behind it."""
        return self._raw.get_server_pid()

    async def listen(self, channel: str, heard: Callable[[int, str], None], lost: Callable[[], None]) -> None:
        """Call `heard` with the sender's process and the text of a notification, and `lost` when there will
        be no more. Raises StoreFault.
        """

        def hear(_: object, pid: int, __: object, text: str) -> None:
            heard(pid, text)

        def end(_: object) -> None:
            lost()

        self._raw.add_termination_listener(end)
        await self._call(partial(self._raw.add_listener, channel, hear), False, CALL_SECONDS)

    async def prepare(self, sql: str) -> None:
        """Check that a statement could be made. Raises StoreFault."""
        await self._call(partial(self._raw.prepare, sql), False, CALL_SECONDS)

    async def instants_as_integers(self) -> None:
        codec = partial(
            self._raw.set_type_codec,
            "timestamptz",
            schema="pg_catalog",
            encoder=_encoded,
            decoder=_decoded,
            format="tuple",
        )
        await self._call(codec, False, CALL_SECONDS)

    async def _call(self, fn: Callable[[], Awaitable[T]], writes: bool, seconds: float) -> T:
        try:
            return await self._aio.run(fn, timeout_seconds=seconds)
        except AioTimeout as error:
            self._unknown = True
            raise StoreFault(f"PostgreSQL: {error}", outcome_known=not writes) from None
        except asyncpg.PostgresError as error:
            known = _was_refused(error) and not self._raw.is_closed()
            self._unknown = not known or getattr(error, "sqlstate", None) == _READ_ONLY
            raise StoreFault(_text(error), outcome_known=known or not writes) from error
        except (*_LIBRARY, OSError) as error:
            self._unknown = True
            raise StoreFault(_text(error), outcome_known=not writes) from error

    def _note(self, _: object, message: Any) -> None:
        if message.severity_en == "WARNING":
            self._warned = True


def _encoded(instant_us: int) -> tuple[int]:
    return (instant_us - _EPOCH_US,)


def _decoded(parts: tuple[int]) -> int:
    return parts[0] + _EPOCH_US


def _was_refused(error: asyncpg.PostgresError) -> bool:
    """Whether the server has undone the statement and goes on. Else what became of it is not known."""
    fields: Any = error
    severity, code = fields.severity_en or fields.severity, fields.sqlstate or ""
    return severity == "ERROR" and not code.startswith("08") and code != "40003"


def _text(error: Exception) -> str:
    """What the server says, without the values that details may quote."""
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    code = getattr(error, "sqlstate", None)
    return f"PostgreSQL: {message} ({code})" if code else f"PostgreSQL: {message}"


def checked_dsn(dsn: str) -> str:
    """The DSN as asyncpg takes it. Raises StoreRefused, without a word of the DSN."""
    try:
        parts = urlsplit(dsn)
        _ = parts.port if "," not in parts.netloc else None
    except ValueError:
        raise StoreRefused(
            "the PostgreSQL DSN is not a URL: write postgres://USER:PASSWORD@HOST/DATABASE"
        ) from None
    if parts.scheme not in ("postgres", "postgresql"):
        raise StoreRefused("the PostgreSQL DSN must begin with postgres:// or postgresql://")
    query = [(name, value) for name, value in parse_qsl(parts.query, True) if name not in _NOT_OURS]
    return urlunsplit(parts._replace(query=urlencode(query)))


async def connect(aio: Aio, dsn: str) -> Postgres:
    """A connection to the server, of those that the DSN names, that can be written to. Raises StoreFault."""
    driver: Any = asyncpg
    connecting = partial(
        driver.connect,
        dsn,
        target_session_attrs="read-write",
        server_settings={"application_name": "berth"} if "application_name=" not in dsn else None,
    )
    try:
        raw = await aio.run(connecting, timeout_seconds=CONNECT_SECONDS)
    except AioTimeout as error:
        raise StoreFault(f"PostgreSQL: {error}", outcome_known=True) from None
    except (*_LIBRARY, OSError, ValueError, KeyError) as error:
        raise StoreFault(_text(error), outcome_known=True) from error
    return Postgres(aio, raw)
