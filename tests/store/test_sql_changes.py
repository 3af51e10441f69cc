"""Servers that share a database hear of each other, on real servers."""

from collections.abc import Iterator

import pytest
import trio
import trio.testing

from berth.core.names import Key
from berth.store.api import Changes
from berth.store.mariadb import open_mariadb
from berth.store.postgres import open_postgres
from berth.store.sql_changes import HEARD_MAX, OVERLAP_US, Heard, Polled
from tests.store.samples import KEY
from tests.store.sql_changes import SqlChanges
from tests.store.sql_faults import quiet
from tests.support.mariadb import Mariadb
from tests.support.postgres import Postgres


class TestPostgres(SqlChanges):
    @pytest.fixture
    def server(self, postgres_server: Postgres) -> Iterator[Postgres]:
        yield postgres_server
        postgres_server.empty()

    def opened(self, server: Postgres):
        return open_postgres(server.source, quiet()[0])


class TestMariadb(SqlChanges):
    @pytest.fixture
    def server(self, mariadb_server: Mariadb) -> Iterator[Mariadb]:
        yield mariadb_server
        mariadb_server.empty()

    def opened(self, server: Mariadb):
        return open_mariadb(server.source, quiet()[0])


def test_what_is_heard_is_bounded() -> None:
    heard = Heard()
    assert heard.take() == Changes(everything=True)
    assert heard.take() is None
    for n in range(HEARD_MAX):
        heard.add(str(n))
    heard.add(KEY)
    heard.add("one more")
    assert heard.take() == Changes(sessions=frozenset(["one more"]), everything=True)


async def test_who_waits_is_woken() -> None:
    heard = Heard()
    heard.take()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heard.wait)
        await trio.testing.wait_all_tasks_blocked()
        heard.add(KEY)
    assert heard.take() == Changes(frozenset([KEY]))


def test_a_change_that_is_committed_late_is_found_once() -> None:
    heard, polled = Heard(), Polled()
    heard.take()
    at_us, late = 10**15, Key("default", "late")
    polled.take(heard, [(0, None, None, at_us)])
    assert polled.since_us == at_us - OVERLAP_US
    polled.take(heard, [(0, None, None, at_us + 9), (1, *KEY, at_us + 5)])
    assert heard.take() == Changes(frozenset([KEY]))
    polled.take(heard, [(0, None, None, at_us + 20), (1, *late, at_us + 1), (1, *KEY, at_us + 5)])
    assert heard.take() == Changes(frozenset([late]))
    polled.take(heard, [(0, None, None, at_us + 20), (1, *late, at_us + 1), (1, *KEY, at_us + 5)])
    assert heard.take() is None
    polled.take(heard, [(0, None, None, at_us - 1)])
    assert heard.take() == Changes(everything=True)
