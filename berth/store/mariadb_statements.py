"""The statements of the MariaDB store.

Owns the text that is sent. A reading is one statement, with one snapshot and one instant. A write is one
transaction in one round trip: keys are gone through in order, so that no two writers deadlock, and what won
is what carries the number of this very call afterwards; how many rows a statement says to have changed is no
proof.

In a SET, what needs the old row comes first: MariaDB assigns from left to right, and an assignment sees what
those before it made. MySQL promises no order where several tables are joined; whether it goes from left to
right as well, or shows all assignments the old row, comes to the same here. `STRAIGHT_JOIN` keeps the given
keys on the outside, and their index is forced: where a table is small MariaDB would rather go through all of
it, and lock every row that it passes. Text is compared as bytes: every collation takes some different texts
for the same. Numbers are read as bigint: JSON_TABLE cuts what is too large for its type down to the largest,
without a word.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from berth.core.records import Record, Session
from berth.store.doubts import TOKEN_JUMP
from berth.store.sql_rows import LeaseRow, SessionRow, lease_row, session_row

NOW = "UTC_TIMESTAMP(6)"
"""The instant of the statement, whatever the session's time zone."""

_TEXT = "CHARACTER SET utf8mb4"
_EPOCH = "TIMESTAMP'1970-01-01 00:00:00'"

_KEYS = f"""JSON_TABLE(@keys, '$[*]' COLUMNS (namespace varchar(253) {_TEXT} PATH '$[0]',
    name varchar(253) {_TEXT} PATH '$[1]')) AS w"""
_IDS = f"JSON_TABLE(@ids, '$[*]' COLUMNS (id varchar(253) {_TEXT} PATH '$')) AS w"
_LEASES = f"""JSON_TABLE(@leases, '$[*]' COLUMNS (namespace varchar(253) {_TEXT} PATH '$[0]',
    name varchar(253) {_TEXT} PATH '$[1]', holder varchar(253) {_TEXT} PATH '$[2]', ttl_ms bigint PATH '$[3]',
    acquired_us bigint PATH '$[4]', renewed_us bigint PATH '$[5]', fencing_token bigint PATH '$[6]',
    version bigint PATH '$[7]', extra longtext {_TEXT} PATH '$[8]')) AS w"""
_SESSIONS = f"""JSON_TABLE(@sessions, '$[*]' COLUMNS (id varchar(253) {_TEXT} PATH '$[0]',
    version bigint PATH '$[1]', holder varchar(253) {_TEXT} PATH '$[2]',
    instance varchar(253) {_TEXT} PATH '$[3]', ttl_us bigint PATH '$[4]',
    opened_us bigint PATH '$[5]', renewed_us bigint PATH '$[6]',
    ended varchar(10) {_TEXT} PATH '$[7]', ended_us bigint PATH '$[8]')) AS w"""

_FORCED = "FORCE INDEX (PRIMARY) ON"
_BY_KEY = f"{_FORCED} l.namespace = w.namespace AND l.name = w.name"
_BY_ID = f"{_FORCED} s.id = w.id"


class Statements(NamedTuple):
    """They take user variables, and their rows are as `sql_store` reads them. `write_leases` and
    `write_sessions` are the steps of a write, `won…` say what carries its number.
    """

    read: str
    scan: str
    sessions: str
    write_leases: str
    write_sessions: str
    won: str
    won_leases: str
    won_sessions: str
    forget: str
    ping: str
    changed: str
    facts: str
    change_incarnation: str

    def writing(self, *, leases: bool, sessions: bool) -> str:
        """A write of what there is, and what of it has won: the rows of the last statement."""
        steps = [
            step for step, there in ((self.write_leases, leases), (self.write_sessions, sessions)) if there
        ]
        won = [part for part, there in ((self.won_leases, leases), (self.won_sessions, sessions)) if there]
        return "; ".join([*steps, " UNION ALL ".join([self.won, *won])])


def statements(now: str = NOW) -> Statements:
    """`now` is the expression for the instant of a statement."""
    head = f"""SELECT 0, NULL, NULL, NULL, NULL, {_us(now)}, {_us("m.changed_at")}, NULL, m.ttl_max_us,
        m.incarnation, 0, 0 FROM berth_meta AS m"""
    asked = f"{_KEYS} STRAIGHT_JOIN berth_leases AS l {_BY_KEY}"
    page = """(SELECT l.* FROM berth_leases AS l WHERE l.namespace > @namespace
        OR (l.namespace = @namespace AND l.name > @name) ORDER BY l.namespace, l.name LIMIT {limit}) AS l"""
    return Statements(
        read=f"""{head} UNION ALL SELECT {_LEASE} FROM {asked}
            UNION ALL SELECT {_SESSION}
                FROM (SELECT CAST(w.id AS BINARY) AS id FROM {_IDS} UNION {_referred(asked)}) AS w
                STRAIGHT_JOIN berth_sessions AS s {_BY_ID}""",
        scan=f"""{head} UNION ALL SELECT {_LEASE} FROM {page}
            UNION ALL SELECT {_SESSION} FROM ({_referred(page)}) AS w
                STRAIGHT_JOIN berth_sessions AS s {_BY_ID}""",
        sessions=f"""{head} UNION ALL (SELECT {_SESSION} FROM berth_sessions AS s WHERE s.id > @id
            ORDER BY s.id LIMIT {{limit}})""",
        write_leases=_write_leases(now),
        write_sessions=_write_sessions(now),
        won=f"SELECT 0, NULL, NULL, {_us(now)}",
        won_leases=f"""SELECT 1, l.namespace, l.name, 0
            FROM {_LEASES} STRAIGHT_JOIN berth_leases AS l {_BY_KEY}
            WHERE l.written_by = @call AND l.version = w.version""",
        won_sessions=f"""SELECT 2, s.id, NULL, 0
            FROM {_SESSIONS} STRAIGHT_JOIN berth_sessions AS s {_BY_ID}
            WHERE s.written_by = @call AND s.version = w.version""",
        forget=f"""DELETE s FROM {_IDS} STRAIGHT_JOIN berth_sessions AS s {_BY_ID}
            WHERE s.ended IS NOT NULL""",
        ping=f"""UPDATE berth_meta SET pinged_at = {now};
            SELECT {_us(now)}, (SELECT version FROM berth_leases LIMIT 1)""",
        facts=f"""SELECT identity, incarnation, {_us("changed_at")}, ttl_max_us,
            (SELECT COUNT(*) FROM berth_leases), (SELECT COUNT(*) FROM berth_sessions WHERE ended IS NULL),
            {_us(now)} FROM berth_meta""",
        change_incarnation=f"""UPDATE berth_meta
            SET incarnation = incarnation + {{times}}, changed_at = {now};
            SELECT ttl_max_us FROM berth_meta""",
        changed=f"""SELECT 0, NULL, NULL, {_us(now)} UNION ALL (SELECT 1, namespace, name, {_us("changed_at")}
            FROM berth_leases FORCE INDEX (changed_at) WHERE {_SINCE} LIMIT {{limit}})
            UNION ALL (SELECT 2, id, NULL, {_us("changed_at")}
            FROM berth_sessions FORCE INDEX (changed_at) WHERE {_SINCE}
            AND ended IS NOT NULL LIMIT {{limit}})""",
    )


def _us(instant: str) -> str:
    return f"TIMESTAMPDIFF(MICROSECOND, {_EPOCH}, {instant})"


def _at(column: str) -> str:
    return f"({_EPOCH} + INTERVAL w.{column} MICROSECOND)"


_SINCE = f"changed_at > {_EPOCH} + INTERVAL @since MICROSECOND AND changed_by <> @server"

_LEASE = f"""1, l.namespace, l.name, l.holder, IF(l.extra_version = l.version, l.extra, NULL),
    {_us("l.acquired_at")}, {_us("l.renewed_at")}, NULL, l.ttl_ms, l.fencing_token, l.version,
    l.incarnation"""
_SESSION = f"""2, s.id, s.holder, s.instance, s.ended, {_us("s.opened_at")}, {_us("s.renewed_at")},
    {_us("s.ended_at")}, s.ttl_us, 0, s.version, 0"""


def _referred(leases: str) -> str:
    """The sessions that the tenures of these leases hang on."""
    return f"""SELECT CAST(t.session AS BINARY) AS id FROM {leases} JOIN JSON_TABLE(l.extra, '$.tenures[*]'
        COLUMNS (session varchar(253) {_TEXT} PATH '$.session')) AS t WHERE t.session IS NOT NULL"""


def _tokens(extra: str) -> str:
    return f"JSON_EXTRACT({extra}, '$.tenures[*].token')"


def _write_leases(now: str) -> str:
    incarnation = "(SELECT incarnation FROM berth_meta)"
    changed = f"""w.holder <> l.holder OR w.fencing_token <> l.fencing_token
        OR NOT ({_tokens("w.extra")} <=> {_tokens("l.extra")})"""
    return f"""UPDATE {_LEASES} STRAIGHT_JOIN berth_leases AS l {_BY_KEY}
        SET l.changed_by = IF({changed}, @server, l.changed_by),
            l.changed_at = IF({changed}, {now}, l.changed_at),
            l.incarnation = IF(w.fencing_token = l.fencing_token, l.incarnation, {incarnation}),
            l.renewed_at = COALESCE({_at("renewed_us")},
                IF(l.holder = '', {now}, GREATEST(l.renewed_at, {now}))),
            l.holder = w.holder, l.ttl_ms = w.ttl_ms, l.acquired_at = {_at("acquired_us")},
            l.fencing_token = w.fencing_token, l.extra = w.extra, l.extra_version = w.version,
            l.written_by = @call, l.version = w.version
        WHERE l.version = w.version - 1 AND (w.fencing_token = l.fencing_token
            OR w.fencing_token >= l.fencing_token + {TOKEN_JUMP} * ({incarnation} - l.incarnation));
        INSERT INTO berth_leases (namespace, name, holder, ttl_ms, acquired_at, renewed_at, fencing_token,
            version, extra, extra_version, incarnation, written_by, changed_at, changed_by)
        SELECT w.namespace, w.name, w.holder, w.ttl_ms, {_at("acquired_us")},
            COALESCE({_at("renewed_us")}, {now}), w.fencing_token, w.version, w.extra, w.version,
            {incarnation}, @call, {now}, @server
        FROM {_LEASES} WHERE w.version = 1 AND w.fencing_token > {TOKEN_JUMP} * {incarnation}
        ON DUPLICATE KEY UPDATE berth_leases.version = berth_leases.version"""


def _write_sessions(now: str) -> str:
    return f"""UPDATE {_SESSIONS} STRAIGHT_JOIN berth_sessions AS s {_BY_ID}
        SET s.changed_by = IF(w.ended IS NULL, s.changed_by, @server),
            s.changed_at = IF(w.ended IS NULL, s.changed_at, {now}),
            s.renewed_at = COALESCE({_at("renewed_us")}, GREATEST(s.renewed_at, {now})),
            s.holder = w.holder, s.instance = w.instance, s.ttl_us = w.ttl_us,
            s.opened_at = {_at("opened_us")}, s.ended = w.ended, s.ended_at = {_at("ended_us")},
            s.written_by = @call, s.version = w.version
        WHERE s.version = w.version - 1;
        INSERT INTO berth_sessions (id, version, holder, instance, ttl_us, opened_at, renewed_at, ended,
            ended_at, written_by, changed_at, changed_by)
        SELECT w.id, w.version, w.holder, w.instance, w.ttl_us, {_at("opened_us")},
            COALESCE({_at("renewed_us")}, {now}), w.ended, {_at("ended_us")}, @call, {now}, @server
        FROM {_SESSIONS} WHERE w.version = 1
        ON DUPLICATE KEY UPDATE berth_sessions.version = berth_sessions.version"""


def decoded(rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """The rows with text where MariaDB has bytes."""
    return [[each.decode() if isinstance(each, bytes) else each for each in row] for row in rows]


def lease_rows(records: Iterable[Record]) -> str:
    """What `@leases` is for a write, in the order of the keys."""
    return _encode(sorted([lease_row(each) for each in records], key=_by_key)).decode()


def session_rows(sessions: Iterable[Session]) -> str:
    """What `@sessions` is for a write, likewise."""
    return _encode(sorted([session_row(each) for each in sessions], key=_by_id)).decode()


_encode = msgspec.json.Encoder().encode


def _by_key(row: LeaseRow) -> tuple[str, str]:
    return row[0], row[1]


def _by_id(row: SessionRow) -> str:
    return row[0]
