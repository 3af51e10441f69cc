"""Users with no more rights than the manual asks for, on real servers."""

from collections.abc import AsyncGenerator

import pytest

from berth.store.api import SharedStore
from berth.store.mariadb import open_mariadb
from berth.store.postgres import open_postgres
from tests.store.conformance import must_win, read_one
from tests.store.samples import SESSIONS, held
from tests.store.sql_faults import quiet
from tests.support.mariadb import Mariadb
from tests.support.postgres import Postgres


async def uses_everything(store: SharedStore) -> None:
    await must_win(store, held(), SESSIONS[0])
    await must_win(store, held(version=2))
    assert (await read_one(store)).quarantine is None
    await store.ping()
    await store.forget(["nobody"])
    changes: AsyncGenerator[object] = store.changes()
    await anext(changes)
    await changes.aclose()


@pytest.fixture
def ordinary_postgres(postgres_server: Postgres):
    postgres_server.on("CREATE ROLE ordinary LOGIN")
    postgres_server.on("GRANT CREATE, USAGE ON SCHEMA public TO ordinary")
    yield postgres_server
    postgres_server.on("DROP OWNED BY ordinary")
    postgres_server.on("DROP ROLE ordinary")
    postgres_server.empty()


async def test_an_ordinary_user_of_postgres(ordinary_postgres: Postgres):
    source = ordinary_postgres.source.replace("berth@", "ordinary@")
    async with open_postgres(source, quiet()[0]) as store:
        await uses_everything(store)
        ((identity,),) = ordinary_postgres.on("SELECT identity FROM berth_meta")
        assert identity.endswith("/00000001"), "it may see the timeline"
    ordinary_postgres.on("REVOKE CREATE ON SCHEMA public FROM ordinary")
    async with open_postgres(source, quiet()[0], migrate="off") as store:
        await must_win(store, held(version=3))
    async with open_postgres(source, quiet()[0]) as store:
        await must_win(store, held(version=4))


@pytest.fixture
def ordinary_mariadb(mariadb_server: Mariadb):
    mariadb_server.on("CREATE USER ordinary@'127.0.0.1' IDENTIFIED BY 'x'")
    mariadb_server.on(
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX ON berth.* TO ordinary@'127.0.0.1'"
    )
    yield mariadb_server
    mariadb_server.on("DROP USER ordinary@'127.0.0.1'")
    mariadb_server.empty()


async def test_an_ordinary_user_of_mariadb(ordinary_mariadb: Mariadb):
    source = ordinary_mariadb.source.replace("berth:berth@", "ordinary:x@")
    async with open_mariadb(source, quiet()[0]) as store:
        await uses_everything(store)
    ordinary_mariadb.on("REVOKE CREATE, ALTER, INDEX ON berth.* FROM ordinary@'127.0.0.1'")
    async with open_mariadb(source, quiet()[0]) as store:
        await must_win(store, held(version=3))
