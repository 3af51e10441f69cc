"""The schema of an SQLite database: what the file is, and how it becomes what this berth needs.

Owns the numbered migrations and the record of those that were applied. Promises that a file which is not
berth's, or not this berth's, or whose tables are not what its migrations made, is refused untouched. A
migration is one transaction: it is there, or it is not. Does not mind tables that others keep in the file.
"""

import sqlite3
from collections import defaultdict
from contextlib import closing

from berth.store.api import StoreRefused
from berth.store.schema import Migrate, Migration, missing_migrations, refuse_foreign

_APPLICATION_ID = 0x42525448


def bring_up_to_date(db: sqlite3.Connection, migrate: Migrate, known: list[Migration]) -> None:
    """Apply what is missing (`auto`), or refuse a schema that lacks something (`off`).

    Raises StoreRefused for a file that is somebody else's, newer, or altered; sqlite3.Error.
    """
    applied = _applied(db)
    refuse_foreign(applied, known)
    _refuse_altered(db, known[: len(applied)])
    for migration in missing_migrations(applied, known, migrate):
        _apply(db, migration)


def _applied(db: sqlite3.Connection) -> dict[int, str]:
    """The checksum of each migration that the file has had; none for a new file."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    if application_id == _APPLICATION_ID and "berth_schema" in tables:
        return dict(db.execute("SELECT version, checksum FROM berth_schema ORDER BY version"))
    if "berth_leases" in tables:
        raise StoreRefused(
            "it was written by another implementation of the lease API, whose files cannot be taken over: "
            "start with a new file while no lease is held"
        )
    if tables or application_id:
        raise StoreRefused("it is the database of another application: give the path of a new file")
    return {}


def _refuse_altered(db: sqlite3.Connection, applied: list[Migration]) -> None:
    """Compare the tables with what `applied` makes of an empty database: a record alone proves nothing."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        for migration in applied:
            _apply(model, migration)
        expected = _definitions(model)
    found = _definitions(db)
    altered = [
        f"{table} {'differs' if table in found else 'is missing'}"
        for table, definition in expected.items()
        if found.get(table) != definition
    ]
    if altered:
        raise StoreRefused(
            f"its schema was altered ({', '.join(altered)}): "
            "undo that, restore a backup, or start with a new file while no lease is held"
        )


def _definitions(db: sqlite3.Connection) -> dict[str, set[tuple[str, str, str]]]:
    """By table: type, name and SQL of the table itself, its indexes and its triggers."""
    found: defaultdict[str, set[tuple[str, str, str]]] = defaultdict(set)
    # What has no SQL is an index that SQLite derives from the table's.
    rows = db.execute("SELECT tbl_name, type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    for table, kind, name, sql in rows:
        found[table].add((kind, name, sql))
    return dict(found)


def _apply(db: sqlite3.Connection, migration: Migration) -> None:
    try:
        db.executescript(f"BEGIN IMMEDIATE;\n{migration.sql}")
        row = (migration.version, migration.name, migration.checksum)
        db.execute("INSERT INTO berth_schema (version, name, checksum) VALUES (?, ?, ?)", row)
        db.commit()
    except BaseException:
        db.rollback()
        raise
