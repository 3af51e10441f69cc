"""Databases of skaphos/berth are taken over in place, on real servers."""

from collections.abc import Iterator

import pytest

from berth.store.mariadb import open_mariadb
from berth.store.postgres import open_postgres
from berth.store.schema import Migrate
from tests.store.sql_adoption import SqlAdoption
from tests.store.sql_faults import quiet
from tests.support.mariadb import Mariadb
from tests.support.postgres import Postgres


class TestPostgres(SqlAdoption):
    create_reference = """CREATE TABLE berth_leases (namespace text NOT NULL, name text NOT NULL,
        holder text NOT NULL, ttl_ms bigint NOT NULL, acquired_at timestamptz NOT NULL,
        renewed_at timestamptz NOT NULL, fencing_token integer NOT NULL, version bigint NOT NULL DEFAULT 1,
        PRIMARY KEY (namespace, name))"""
    present, past = "now()", "timestamptz '2024-01-01 00:00:00+00'"

    @pytest.fixture
    def server(self, postgres_server: Postgres) -> Iterator[Postgres]:
        yield postgres_server
        postgres_server.empty()

    def opened(self, server: Postgres, migrate: Migrate = "auto"):
        return open_postgres(server.source, quiet()[0], migrate=migrate)


class TestMariadb(SqlAdoption):
    create_reference = """CREATE TABLE berth_leases (namespace varchar(253) NOT NULL,
        name varchar(253) NOT NULL, holder varchar(253) NOT NULL, ttl_ms bigint NOT NULL,
        acquired_at datetime(6) NOT NULL,
        renewed_at datetime(6) NOT NULL, fencing_token int NOT NULL, version bigint NOT NULL DEFAULT 1,
        PRIMARY KEY (namespace, name)) ENGINE = InnoDB"""
    present, past = "UTC_TIMESTAMP(6)", "'2024-01-01 00:00:00'"

    @pytest.fixture
    def server(self, mariadb_server: Mariadb) -> Iterator[Mariadb]:
        yield mariadb_server
        mariadb_server.empty()

    def more_to_remove(self, script: str) -> str:
        return script

    def opened(self, server: Mariadb, migrate: Migrate = "auto"):
        return open_mariadb(server.source, quiet()[0], migrate=migrate)
