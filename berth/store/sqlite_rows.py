"""The transactions on an SQLite database: each call of a store as one function of a connection.

Owns the statements and the mapping of records to rows. Promises that a function has left its transaction when
it returns or raises, and that a write which is told to have won is on the disk. Knows no threads and no
waiting: who calls brings a connection that nobody else uses meanwhile.
"""

import sqlite3
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from berth.core.names import Key
from berth.core.records import Ended, Record, Session, Tenure
from berth.store.api import Reading, Write
from berth.store.marks import marked, marked_session, reading
from berth.store.sql_rows import longest_us
from berth.store.sqlite_fence import Fence, note_ttl
from berth.store.sqlite_fence import jump as fence_jump
from berth.store.sqlite_time import FileTime

_LEASE = """l.namespace, l.name, l.version, l.token, l.semantics, l.max_holders, l.lock_delay_us, l.tenures,
    l.ended_acquired_at_us, l.ended_at_us, l.ended_clean"""
_SESSION = "s.id, s.version, s.holder, s.instance, s.ttl_us, s.opened_at_us, s.mark, s.ended, s.ended_at_us"

# One statement for any number of keys; CROSS JOIN keeps the keys on the outside and the index within.
_READ_LEASES = f"""SELECT {_LEASE} FROM json_each(?) AS k CROSS JOIN berth_leases AS l
    ON l.namespace = json_extract(k.value, '$[0]') AND l.name = json_extract(k.value, '$[1]')"""
_READ_SESSIONS = f"SELECT {_SESSION} FROM json_each(?) AS k CROSS JOIN berth_sessions AS s ON s.id = k.value"
_SCAN = f"""SELECT {_LEASE} FROM berth_leases AS l
    WHERE (l.namespace, l.name) > (?, ?) ORDER BY l.namespace, l.name LIMIT ?"""

_SCAN_SESSIONS = f"SELECT {_SESSION} FROM berth_sessions AS s WHERE s.id > ? ORDER BY s.id LIMIT ?"

_INSERT_LEASE = """INSERT INTO berth_leases (version, token, semantics, max_holders, lock_delay_us, tenures,
    ended_acquired_at_us, ended_at_us, ended_clean, namespace, name)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, name) DO NOTHING"""
_UPDATE_LEASE = """UPDATE berth_leases SET version = ?, token = ?, semantics = ?, max_holders = ?,
    lock_delay_us = ?, tenures = ?, ended_acquired_at_us = ?, ended_at_us = ?, ended_clean = ?
    WHERE namespace = ? AND name = ? AND version = ?"""
_INSERT_SESSION = """INSERT INTO berth_sessions (version, holder, instance, ttl_us, opened_at_us, mark, ended,
    ended_at_us, id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""
_UPDATE_SESSION = """UPDATE berth_sessions SET version = ?, holder = ?, instance = ?, ttl_us = ?,
    opened_at_us = ?, mark = ?, ended = ?, ended_at_us = ? WHERE id = ? AND version = ?"""
_FORGET_SESSIONS = """DELETE FROM berth_sessions
    WHERE ended IS NOT NULL AND id IN (SELECT value FROM json_each(?))"""

_encode = msgspec.json.Encoder().encode
_decode_tenures = msgspec.json.Decoder(tuple[Tenure, ...]).decode


class CommitFailed(Exception):
    """The commit raised: the transaction may or may not be on the disk. The cause is SQLite's error."""


def read(
    db: sqlite3.Connection, time: FileTime, fence: Fence, keys: Collection[Key], sessions: Collection[str]
) -> Reading:
    with _transaction(db, "BEGIN"):
        rows = db.execute(_READ_LEASES, (_json(list(keys)),))
        return _reading(db, time, fence, keys, [_record(row) for row in rows], sessions)


def scan(db: sqlite3.Connection, time: FileTime, fence: Fence, after: Key | None, limit: int) -> Reading:
    """The next `limit` leases beyond `after`, in order."""
    with _transaction(db, "BEGIN"):
        records = [_record(row) for row in db.execute(_SCAN, (*(after or ("", "")), limit))]
        return _reading(db, time, fence, [record.key for record in records], records, ())


def sessions(db: sqlite3.Connection, time: FileTime, after: str | None, limit: int) -> Reading:
    """The next `limit` sessions beyond `after`, in order."""
    with _transaction(db, "BEGIN"):
        found = {row[0]: _session(row) for row in db.execute(_SCAN_SESSIONS, (after or "", limit))}
        return reading(time.read(), (), {}, found, lambda _: found.values())


def write(db: sqlite3.Connection, time: FileTime, writes: Sequence[Write]) -> set[Key | str]:
    with _transaction(db, "BEGIN IMMEDIATE"):
        instant = time.read()
        won: set[Key | str] = set()
        cursor = db.cursor()
        for each in writes:
            if isinstance(each, Record):
                if _put_record(cursor, marked(each, instant.now_us)):
                    won.add(each.key)
            elif _put_session(cursor, marked_session(each, instant.now_us)):
                won.add(each.id)
        if won:
            note_ttl(db, longest_us(writes))
            time.save(db, instant)
            _commit(db)
    return won


def forget(db: sqlite3.Connection, sessions: Collection[str]) -> None:
    with _transaction(db, "BEGIN IMMEDIATE"):
        db.execute(_FORGET_SESSIONS, (_json(list(sessions)),))
        _commit(db)


def jump(db: sqlite3.Connection, time: FileTime, times: int) -> int:
    """Take the file for one that has lost what was granted last; for how long it is closed."""
    with _transaction(db, "BEGIN IMMEDIATE"):
        instant = time.read()
        closed_us = fence_jump(db, times, instant.now_us)
        time.save(db, instant)
        _commit(db)
    return closed_us


def save_time(db: sqlite3.Connection, time: FileTime) -> None:
    """Write the time down: the smallest write there is."""
    with _transaction(db, "BEGIN IMMEDIATE"):
        time.save(db, time.read())
        _commit(db)


def ping(db: sqlite3.Connection, time: FileTime) -> None:
    """Write the time down, then reach for a lease: that fails where its pages are damaged."""
    save_time(db, time)
    db.execute("SELECT version FROM berth_leases LIMIT 1").fetchall()


def quick_check(db: sqlite3.Connection) -> None:
    """Go through every page. Raises sqlite3.Error, SQLITE_CORRUPT, where one is damaged."""
    (result,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        error = sqlite3.DatabaseError(" ".join(result.split()))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


@contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Generator[None]:
    """A transaction that is undone unless the body commits it."""
    db.execute(begin)
    try:
        yield
    finally:
        db.rollback()


def _commit(db: sqlite3.Connection) -> None:
    try:
        db.commit()
    except sqlite3.Error as error:
        raise CommitFailed(str(error)) from error


def _reading(
    db: sqlite3.Connection,
    time: FileTime,
    fence: Fence,
    keys: Collection[Key],
    records: list[Record],
    sessions: Collection[str],
) -> Reading:
    def find(wanted: Collection[str]) -> list[Session]:
        return [_session(row) for row in db.execute(_READ_SESSIONS, (_json(list(wanted)),))]

    found = {record.key: record for record in records}
    instant = time.read()
    return reading(instant, keys, found, sessions, find, *fence.doubts(instant.now_us))


def _put_record(cursor: sqlite3.Cursor, record: Record) -> bool:
    ended = record.ended
    row = (
        record.version,
        record.token,
        record.semantics,
        record.max_holders,
        record.lock_delay_us,
        _json(record.tenures),
        *((ended.acquired_at_us, ended.ended_at_us, ended.clean) if ended else (None, None, None)),
        *record.key,
    )
    return _put(cursor, _INSERT_LEASE, _UPDATE_LEASE, row, record.version)


def _put_session(cursor: sqlite3.Cursor, session: Session) -> bool:
    row = (
        session.version,
        session.holder,
        session.instance,
        session.ttl_us,
        session.opened_at_us,
        session.mark,
        session.ended,
        session.ended_at_us,
        session.id,
    )
    return _put(cursor, _INSERT_SESSION, _UPDATE_SESSION, row, session.version)


def _put(cursor: sqlite3.Cursor, insert: str, update: str, row: tuple[object, ...], version: int) -> bool:
    if version == 1:
        return cursor.execute(insert, row).rowcount == 1
    return cursor.execute(update, (*row, version - 1)).rowcount == 1


def _record(row: tuple[Any, ...]) -> Record:
    namespace, name, version, token, semantics, max_holders, lock_delay_us, tenures, *ended = row
    return Record(
        Key(namespace, name),
        version,
        token,
        _decode_tenures(tenures),
        semantics,
        max_holders,
        lock_delay_us,
        None if ended[0] is None else Ended(ended[0], ended[1], bool(ended[2])),
    )


def _session(row: tuple[Any, ...]) -> Session:
    return Session(*row)


def _json(value: object) -> str:
    return _encode(value).decode()
