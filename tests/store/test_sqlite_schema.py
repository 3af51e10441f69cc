"""Migrations: what a file needs is applied, or refused, and never half of it."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from berth.runtime.clock import ManualClock
from berth.store.api import StoreRefused
from berth.store.schema import Migrate, Migration, known_migrations
from berth.store.sqlite import open_sqlite
from berth.store.sqlite_schema import bring_up_to_date

KNOWN = known_migrations("sqlite")
NEXT = Migration(len(KNOWN) + 1, "next", "CREATE TABLE berth_next (id INTEGER) STRICT; -- more")
BROKEN = Migration(
    len(KNOWN) + 1, "broken", "CREATE TABLE berth_next (id INTEGER); CREATE TABLE berth_next (x);"
)
MODEL = Path(__file__).with_name("sqlite_model.sql")


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        yield db


def tables(db: sqlite3.Connection) -> dict[str, str]:
    """Each table's definition, without comments and spacing."""
    rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {name: re.sub(r"--[^\n]*|\s+", "", sql) for name, sql in rows}


def versions(db: sqlite3.Connection) -> list[int]:
    return [version for (version,) in db.execute("SELECT version FROM berth_schema ORDER BY version")]


def test_migrations_are_numbered_from_one_without_a_gap():
    assert [migration.version for migration in KNOWN] == list(range(1, len(KNOWN) + 1))


def test_the_migrations_lead_to_the_model(db: sqlite3.Connection):
    bring_up_to_date(db, "auto", KNOWN)
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(MODEL.read_text(encoding="utf-8"))
        assert tables(db) == tables(model)


def test_what_is_applied_is_not_applied_again(db: sqlite3.Connection):
    bring_up_to_date(db, "auto", KNOWN)
    bring_up_to_date(db, "auto", KNOWN)
    bring_up_to_date(db, "off", KNOWN)
    bring_up_to_date(db, "auto", [*KNOWN, NEXT])
    assert versions(db) == list(range(1, len(KNOWN) + 2))
    assert "berth_next" in tables(db)


def test_without_leave_to_migrate_a_new_or_older_file_is_refused(db: sqlite3.Connection):
    with pytest.raises(StoreRefused, match="start once with --sql-migrate auto"):
        bring_up_to_date(db, "off", KNOWN)
    assert tables(db) == {}
    bring_up_to_date(db, "auto", KNOWN)
    with pytest.raises(StoreRefused, match=r"is at 2 and must be at 3: start once with --sql-migrate auto"):
        bring_up_to_date(db, "off", [*KNOWN, NEXT])
    assert versions(db) == [1, 2]


@pytest.mark.parametrize("migrate", ["auto", "off"])
def test_a_newer_schema_is_refused(db: sqlite3.Connection, migrate: str):
    bring_up_to_date(db, "auto", [*KNOWN, NEXT])
    with pytest.raises(StoreRefused, match=r"written by a newer berth \(schema 3; this one knows 2\)"):
        bring_up_to_date(db, "off" if migrate == "off" else "auto", KNOWN)


@pytest.mark.parametrize("migrate", ["auto", "off"])
def test_a_changed_migration_is_refused(db: sqlite3.Connection, migrate: str):
    bring_up_to_date(db, "auto", KNOWN)
    changed = [KNOWN[0]._replace(sql=KNOWN[0].sql + "\n"), *KNOWN[1:]]
    with pytest.raises(StoreRefused, match=r"\(migration 0001_leases differs\)"):
        bring_up_to_date(db, "off" if migrate == "off" else "auto", changed)


@pytest.mark.parametrize("migrate", ["auto", "off"])
@pytest.mark.parametrize(
    ("statement", "altered"),
    [
        ("DROP TABLE berth_sessions", "berth_sessions is missing"),
        ("ALTER TABLE berth_leases ADD COLUMN note TEXT", "berth_leases differs"),
        ("CREATE UNIQUE INDEX one_each ON berth_sessions (holder)", "berth_sessions differs"),
        (
            "CREATE TRIGGER keep BEFORE UPDATE ON berth_clock BEGIN SELECT RAISE(IGNORE); END",
            "berth_clock differs",
        ),
        (
            "DROP TABLE berth_clock; ALTER TABLE berth_leases RENAME TO leases",
            "berth_leases is missing, berth_clock is missing",
        ),
    ],
)
def test_an_altered_schema_is_refused_untouched(
    db: sqlite3.Connection, migrate: Migrate, statement: str, altered: str
):
    bring_up_to_date(db, "auto", KNOWN)
    db.executescript(statement)
    before = tables(db)
    with pytest.raises(StoreRefused, match=rf"altered \({altered}\): undo that, restore a backup"):
        bring_up_to_date(db, migrate, [*KNOWN, NEXT] if migrate == "auto" else KNOWN)
    assert tables(db) == before


def test_what_others_keep_beside_it_does_not_matter(db: sqlite3.Connection):
    bring_up_to_date(db, "auto", KNOWN)
    db.executescript("CREATE TABLE _replica (id INTEGER); CREATE INDEX _ids ON _replica (id); ANALYZE")
    bring_up_to_date(db, "off", KNOWN)


def test_a_migration_that_fails_leaves_nothing(db: sqlite3.Connection):
    bring_up_to_date(db, "auto", KNOWN)
    before = tables(db)
    with pytest.raises(sqlite3.OperationalError):
        bring_up_to_date(db, "auto", [*KNOWN, BROKEN])
    assert not db.in_transaction
    assert tables(db) == before
    assert versions(db) == [1, 2]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE berth_leases SET token = 2147483648",
        "UPDATE berth_leases SET token = 0",
        "UPDATE berth_leases SET token = 1.5",
        "UPDATE berth_leases SET version = 0",
        "UPDATE berth_leases SET semantics = 'sometimes'",
        "UPDATE berth_leases SET tenures = NULL",
        "INSERT INTO berth_clock VALUES (2, 'boot', 0, 0, 0)",
        "UPDATE berth_fence SET token_floor = 2147483648",
    ],
)
def test_the_schema_refuses_what_no_record_may_be(db: sqlite3.Connection, statement: str):
    bring_up_to_date(db, "auto", KNOWN)
    db.execute(
        "INSERT INTO berth_leases (namespace, name, version, token, semantics, lock_delay_us, tenures)"
        " VALUES ('n', 'a', 1, 2147483647, 'at-most-once', 0, '[]')"
    )
    with pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)


async def test_the_refusal_names_the_file(path: Path, clock: ManualClock):
    await trio.Path(path).touch()
    with pytest.raises(StoreRefused, match=re.escape(f"cannot use {path}: its schema is at 0")):
        async with open_sqlite(str(path), clock=clock, boot_id="boot-1", migrate="off"):
            pass
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1", migrate="auto"):
        pass
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1", migrate="off"):
        pass
