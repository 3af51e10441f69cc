"""What PostgreSQL and MariaDB get wrong by default, on real servers."""

from collections.abc import Iterator

import pytest

from berth.runtime.aio import open_aio
from berth.store import mariadb_driver, mariadb_statements, postgres_driver, postgres_statements
from berth.store.mariadb import open_mariadb
from berth.store.mariadb_dsn import source
from berth.store.postgres import open_postgres
from tests.store.samples import held
from tests.store.sql_faults import quiet
from tests.store.sql_traps import PAUSE_SECONDS, SqlTraps
from tests.support.mariadb import Mariadb
from tests.support.postgres import Postgres


class TestPostgres(SqlTraps):
    @pytest.fixture
    def server(self, postgres_server: Postgres) -> Iterator[Postgres]:
        yield postgres_server
        postgres_server.empty()

    def opened(self, server: Postgres):
        return open_postgres(server.source, quiet()[0])

    async def clocks(self, server: Postgres) -> tuple[list[int], int]:
        sql = postgres_statements.statements()
        async with open_aio() as aio:
            db = await postgres_driver.connect(aio, server.source)
            try:
                await db.instants_as_integers()
                await db.execute(f"BEGIN; SELECT pg_sleep({PAUSE_SECONDS})", seconds=5)
                columns = postgres_statements.lease_columns([held()])
                told = await db.fetch(sql.write_leases, *columns, writes=True)
                ((pinged_us, _),) = await db.fetch(sql.ping, writes=True)
                none = postgres_statements.array([])
                head = (await db.fetch(sql.read, none, none, none, writes=False))[0]
                ((renewed_us,),) = await db.fetch("SELECT renewed_at FROM berth_leases", writes=False)
                ((clock_us,),) = await db.fetch("SELECT clock_timestamp()", writes=False)
                return [told[0][3], pinged_us, head[5], renewed_us], clock_us
            finally:
                db.discard()


class TestMariadb(SqlTraps):
    @pytest.fixture
    def server(self, mariadb_server: Mariadb) -> Iterator[Mariadb]:
        yield mariadb_server
        mariadb_server.empty()

    def opened(self, server: Mariadb):
        return open_mariadb(server.source, quiet()[0])

    async def clocks(self, server: Mariadb) -> tuple[list[int], int]:
        sql = mariadb_statements.statements()
        microseconds = "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', {})"
        async with open_aio() as aio:
            db = await mariadb_driver.connect(aio, source(server.source))
            try:
                leases = db.quoted(mariadb_statements.lease_rows([held()]))
                writing = sql.writing(leases=True, sessions=False)
                *_, told, stored, clock = await db.call(
                    f"""SET @leases = {leases}, @call = 1, @server = 1; START TRANSACTION;
                        DO SLEEP({PAUSE_SECONDS}); {writing};
                        SELECT {microseconds.format("renewed_at")} FROM berth_leases;
                        SELECT {microseconds.format("SYSDATE(6)")}""",
                    writes=True,
                )
                instants = [row[3] for row in told if row[0] == 0] + [stored[0][0]]
                return instants, clock[0][0]
            finally:
                db.discard()


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([], "{}"),
        (["a", "b c"], '{"a","b c"}'),
        (["NULL", "{x,y}", ""], '{"NULL","{x,y}",""}'),
        (['a"b'], r'{"a\"b"}'),
        ([r"a\b", "c"], r'{"a\\b","c"}'),
        ([None, "a"], '{NULL,"a"}'),
        ([1, 2147483647], '{"1","2147483647"}'),
    ],
)
def test_an_array_is_written_as_postgres_reads_it(values: list[str | int | None], written: str) -> None:
    assert postgres_statements.array(values) == written
