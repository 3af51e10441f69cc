"""The MariaDB store: the contract, on a real server of its own, and on one that is given."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import pymysql
import pytest

from berth.store.mariadb import MariadbStore, open_mariadb
from berth.store.sql_store import Durability
from tests.store.conformance import StoreConformance
from tests.store.moved import MovedClock
from tests.store.sql_doubts import SqlDoubts
from tests.store.sql_faults import quiet
from tests.support.mariadb import MariadbDatabase

MOVED_NOW = "(UTC_TIMESTAMP(6) + INTERVAL (SELECT ahead_us FROM movable) MICROSECOND)"


@pytest.fixture(params=["mariadb_server", "mysql_given"])
def server(request: pytest.FixtureRequest) -> Iterator[MariadbDatabase]:
    server: MariadbDatabase = request.getfixturevalue(request.param)
    yield server
    server.empty()


@pytest.fixture
def clock(server: MariadbDatabase) -> Iterator[MovedClock]:
    with closing(pymysql.connect(**server.options, autocommit=True)) as db:
        cursor = db.cursor()
        cursor.execute("CREATE TABLE movable (ahead_us bigint NOT NULL)")
        cursor.execute("INSERT INTO movable VALUES (0)")
        yield MovedClock(
            lambda ahead_us: cursor.execute("UPDATE movable SET ahead_us = %s", [ahead_us]) and None
        )


def moved(server: MariadbDatabase, clock: MovedClock, durability: Durability = "async"):
    settings = quiet(clock=clock, durability=durability)[0]
    return open_mariadb(server.source, settings, now=MOVED_NOW)


@pytest.fixture
async def store(server: MariadbDatabase, clock: MovedClock) -> AsyncIterator[MariadbStore]:
    async with moved(server, clock) as store:
        yield store


class TestMariadbStore(StoreConformance):
    slack_us = 900_000


class TestMariadbDoubts(SqlDoubts):
    def another(self, server: MariadbDatabase, clock: MovedClock, durability: Durability = "async"):
        return moved(server, clock, durability)
