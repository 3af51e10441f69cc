"""The PostgreSQL store: the contract, on a real server of its own, and on one that is given."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from berth.store.postgres import PostgresStore, open_postgres
from berth.store.sql_store import Durability
from tests.store.conformance import StoreConformance
from tests.store.moved import MovedClock
from tests.store.sql_doubts import SqlDoubts
from tests.store.sql_faults import quiet
from tests.support.postgres import PostgresDatabase

MOVED_NOW = "movable_now()"


@pytest.fixture(params=["postgres_server", "postgres_given"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresDatabase]:
    server: PostgresDatabase = request.getfixturevalue(request.param)
    yield server
    server.empty()


@pytest.fixture
def clock(server: PostgresDatabase) -> Iterator[MovedClock]:
    with psycopg.connect(server.dsn, autocommit=True) as db:
        db.execute(
            """CREATE TABLE movable AS SELECT 0::bigint AS ahead_us;
            CREATE FUNCTION movable_now() RETURNS timestamptz STABLE LANGUAGE sql AS
            'SELECT statement_timestamp() + ahead_us * interval ''1 microsecond'' FROM movable'"""
        )
        yield MovedClock(lambda ahead_us: db.execute("UPDATE movable SET ahead_us = %s", [ahead_us]) and None)


def moved(server: PostgresDatabase, clock: MovedClock, durability: Durability = "async"):
    settings = quiet(clock=clock, durability=durability)[0]
    return open_postgres(server.source, settings, now=MOVED_NOW)


@pytest.fixture
async def store(server: PostgresDatabase, clock: MovedClock) -> AsyncIterator[PostgresStore]:
    async with moved(server, clock) as store:
        yield store


class TestPostgresStore(StoreConformance):
    slack_us = 900_000


class TestPostgresDoubts(SqlDoubts):
    def another(self, server: PostgresDatabase, clock: MovedClock, durability: Durability = "async"):
        return moved(server, clock, durability)
