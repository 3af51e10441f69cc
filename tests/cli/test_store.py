"""`berth store …`, as a person calls it, on real databases."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from berth.runtime.clock import SystemClock, boot_id
from berth.runtime.log import Logs
from berth.store.postgres import open_postgres
from berth.store.sql_store import Settings
from berth.store.sqlite import open_sqlite
from berth.store.sqlite_file import locked
from tests.cli.conftest import Berth
from tests.store.conformance import must_win
from tests.store.samples import KEY, SESSIONS, held
from tests.support.mariadb import Mariadb, mariadb
from tests.support.postgres import Postgres, postgres


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb_server() -> Iterator[Mariadb]:
    with mariadb() as server:
        yield server


@pytest.fixture
def leases(tmp_path: Path) -> Path:
    """An SQLite file with a lease that is held and a session."""
    file = tmp_path / "leases.db"

    async def fill() -> None:
        async with open_sqlite(str(file), clock=SystemClock(), boot_id=boot_id()) as store:
            await must_win(store, replace(held(token=41), version=1), SESSIONS[0])

    trio.run(fill)
    return file


def test_leases_move_from_one_store_to_the_next(
    berth: Berth, leases: Path, postgres_server: Postgres, mariadb_server: Mariadb, tmp_path: Path
):
    at = {
        "sqlite": str(leases),
        "postgres": postgres_server.source,
        "mysql": mariadb_server.source,
    }
    exports: list[str] = []
    for here, there in (("sqlite", "postgres"), ("postgres", "mysql"), ("mysql", "sqlite")):
        exported = berth("store", "export", "--sql-driver", here, "--sql-dsn", at[here])
        assert (exported.code, exported.err) == (0, "")
        exports.append(exported.out)
        file = tmp_path / f"{here}.jsonl"
        file.write_text(exported.out)
        target = at[there] if there != "sqlite" else str(tmp_path / "new.db")
        imported = berth("store", "import", str(file), "--sql-driver", there, "--sql-dsn", target)
        assert (imported.code, imported.out) == (0, "")
        assert imported.err.splitlines()[-1] == "imported 1 leases and 1 sessions"
        again = berth("store", "import", str(file), "--sql-driver", there, "--sql-dsn", target)
        assert again.code == 3
        assert f"was there already, and is as it was: {KEY}" in again.err
    assert exports[0] == exports[1] == exports[2]
    assert '"token":41' in exports[0]


def test_what_is_no_export_is_refused(berth: Berth, leases: Path, tmp_path: Path):
    file = tmp_path / "x"
    file.write_text('{"type":"begin","form":1}\n')
    asked = ("store", "import", "--sql-driver=sqlite", f"--sql-dsn={tmp_path / 'new.db'}")
    broken = berth(*asked, str(file))
    assert (broken.code, broken.err) == (2, f"error: {file}: it breaks off: its last line is missing\n")
    absent = berth(*asked, str(tmp_path / "absent"))
    assert (absent.code, absent.err) == (2, f"error: {tmp_path / 'absent'}: No such file or directory\n")
    assert not (tmp_path / "new.db").exists()


def test_check_and_migrate(berth: Berth, postgres_server: Postgres, mariadb_server: Mariadb):
    for driver, server in (("postgres", postgres_server), ("mysql", mariadb_server)):
        server.empty()
        database = (f"--sql-driver={driver}", f"--sql-dsn={server.source}")
        unready = berth("store", "check", *database)
        assert unready.code == 1
        assert "start once with --sql-migrate auto" in unready.err
        assert berth("store", "migrate", *database).code == 0
        checked = berth("store", "check", "-o", "json", *database)
        assert (checked.code, checked.err) == (0, "")
        found = json.loads(checked.out)
        assert (found["driver"], found["leases"], found["incarnation"]) == (driver, 0, 0)
        assert abs(found["clockAheadSeconds"]) < 5


def test_a_jump_says_what_it_costs_and_wants_leave(berth: Berth, postgres_server: Postgres):
    database = ("--sql-driver=postgres", f"--sql-dsn={postgres_server.source}")
    postgres_server.empty()

    async def fill() -> None:
        settings = Settings(SystemClock(), Logs().logger("test"))
        async with open_postgres(postgres_server.source, settings) as store:
            await must_win(store, held())

    trio.run(fill)
    asked = berth("store", "fence-jump", *database)
    assert asked.code == 2
    assert "--yes: required" in asked.err
    assert postgres_server.on("SELECT incarnation FROM berth_meta") == [(0,)]
    done = berth("store", "fence-jump", "--yes", "--by=2500", *database)
    assert (done.code, done.err) == (0, "done; servers grant nothing for 31 s, and then higher tokens\n")
    assert postgres_server.on("SELECT incarnation FROM berth_meta") == [(3,)]


def test_a_jump_of_a_file_wants_it_alone(berth: Berth, leases: Path):
    asked = ("store", "fence-jump", "--yes", "--by=2500", "--sql-driver=sqlite", f"--sql-dsn={leases}")
    with locked(leases):
        refused = berth(*asked)
    assert refused.code == 1
    assert "another process uses" in refused.err
    done = berth(*asked)
    assert (done.code, done.err) == (0, "done; servers grant nothing for 60 s, and then higher tokens\n")

    async def token() -> int:
        async with open_sqlite(str(leases), clock=SystemClock(), boot_id=boot_id()) as store:
            record = (await store.read([KEY])).leases[KEY].record
            assert record is not None
            return record.token

    assert trio.run(token) == 3_041


def test_a_database_that_is_not_there(berth: Berth):
    nowhere = "--sql-dsn=postgres://berth:s3cret@127.0.0.1:1/berth"
    ended = berth("store", "check", "--sql-driver=postgres", nowhere)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: cannot use the database: PostgreSQL: ")
    assert "s3cret" not in ended.err


def test_all_that_is_missing_is_told_at_once(berth: Berth):
    ended = berth("store", "check")
    assert ended.code == 2
    assert "--sql-driver: required" in ended.err
    assert "--sql-dsn, --sql-dsn-file: one of them is required" in ended.err
