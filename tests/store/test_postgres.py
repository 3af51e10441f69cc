"""The PostgreSQL store: the contract, on a real server."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from berth.runtime.clock import SystemClock
from berth.runtime.log import Logs
from berth.store.postgres import PostgresStore, open_postgres
from berth.store.postgres_statements import statements
from tests.store.conformance import StoreConformance
from tests.support.postgres import Postgres


class MovedClock(SystemClock):
    """This machine's clocks and the database's, both ahead by as much as has been asked for."""

    def __init__(self, db: "psycopg.Connection[tuple[object, ...]]") -> None:
        self._db = db
        self._ahead_us = self._wall_ahead_us = 0

    def boot_us(self) -> int:
        return super().boot_us() + self._ahead_us

    def wall_us(self) -> int:
        return super().wall_us() + self._ahead_us + self._wall_ahead_us

    def advance(self, seconds: float) -> None:
        self._ahead_us += round(seconds * 1e6)
        self._db.execute("UPDATE movable SET ahead_us = %s", [self._ahead_us])

    def step_wall(self, seconds: float) -> None:
        self._wall_ahead_us += round(seconds * 1e6)


@pytest.fixture
def server(postgres_server: Postgres) -> Iterator[Postgres]:
    yield postgres_server
    postgres_server.empty()


@pytest.fixture
def clock(server: Postgres) -> Iterator[MovedClock]:
    with psycopg.connect(server.dsn, autocommit=True) as db:
        db.execute(
            """CREATE TABLE movable AS SELECT 0::bigint AS ahead_us;
            CREATE FUNCTION movable_now() RETURNS timestamptz STABLE LANGUAGE sql AS
            'SELECT statement_timestamp() + ahead_us * interval ''1 microsecond'' FROM movable'"""
        )
        yield MovedClock(db)


@pytest.fixture
async def store(server: Postgres, clock: MovedClock) -> AsyncIterator[PostgresStore]:
    logger = Logs("error").logger("test")
    moved = statements("movable_now()")
    async with open_postgres(server.dsn, clock=clock, logger=logger, statements=moved) as store:
        yield store


class TestPostgresStore(StoreConformance):
    slack_us = 900_000
