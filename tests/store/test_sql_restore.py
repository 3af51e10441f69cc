"""A database that went back to an older copy under a running server, on real servers."""

from collections.abc import Iterator

import pytest

from berth.store.mariadb import open_mariadb
from berth.store.postgres import open_postgres
from berth.store.sql_store import Settings
from tests.store.sql_restore import SqlRestore
from tests.support.mariadb import Mariadb
from tests.support.postgres import Postgres


class TestPostgres(SqlRestore):
    @pytest.fixture
    def server(self, postgres_server: Postgres) -> Iterator[Postgres]:
        yield postgres_server
        postgres_server.empty()

    def opened(self, source: str, settings: Settings):
        return open_postgres(source, settings)


class TestMariadb(SqlRestore):
    @pytest.fixture
    def server(self, mariadb_server: Mariadb) -> Iterator[Mariadb]:
        yield mariadb_server
        mariadb_server.empty()

    def opened(self, source: str, settings: Settings):
        return open_mariadb(source, settings)
