"""The statements of the PostgreSQL store.

Owns the text that is sent and the shape of its arguments. Promises that each is one statement, with one
snapshot and one instant: that of its arrival at the server, so that nobody is judged by a time before his
asking. A write locks its rows in the order of their keys, whatever the plan, so that no two can deadlock.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from berth.core.names import Key
from berth.core.records import Record, Session
from berth.store.doubts import TOKEN_JUMP
from berth.store.sql_rows import LeaseRow, SessionRow, lease_row, session_row

_LEASE_INSTANTS = (4, 5)
_SESSION_INSTANTS = (5, 6, 8)
"""Which columns are instants: they are sent as the driver has them."""

NOW = "statement_timestamp()"
"""Not now(), which stands still in a transaction, nor clock_timestamp(), which moves within a statement."""


CHANNEL = "berth_changes"
"""Where servers tell each other what they have written."""


class Statements(NamedTuple):
    """Their rows are as `sql_store` reads them.

    `read` takes the keys' namespaces and names, and session ids; `scan` a key and a limit; `sessions` an id
    and a limit. `write…` take columns.
    """

    read: str
    scan: str
    sessions: str
    write: str
    write_leases: str
    write_sessions: str
    forget: str
    ping: str
    raise_ttl: str
    facts: str
    change_incarnation: str


def statements(now: str = NOW) -> Statements:
    """`now` is the expression for the instant of a statement."""
    head = f"""SELECT 0, NULL::text, NULL::text, NULL::text, NULL::text, {now}, m.changed_at,
        NULL::timestamptz, m.ttl_max_us, m.incarnation::bigint, 0::bigint, 0::bigint FROM berth_meta AS m"""
    asked = """SELECT l.* FROM unnest($1::text::text[], $2::text::text[]) AS k (namespace, name)
        JOIN berth_leases AS l USING (namespace, name)"""
    page = """SELECT l.* FROM berth_leases AS l WHERE (l.namespace, l.name) > ($1, $2)
        ORDER BY l.namespace, l.name LIMIT $3"""
    referred = """SELECT t ->> 'session' FROM found AS f, jsonb_array_elements(f.extra -> 'tenures') AS t"""
    writing = _write_leases(now), _write_sessions(now)
    return Statements(
        read=_reading(head, asked, f"SELECT unnest($3::text::text[]) UNION {referred}"),
        scan=_reading(head, page, referred),
        sessions=f"""{head} UNION ALL SELECT * FROM (
            SELECT {_SESSION} FROM berth_sessions AS s WHERE s.id > $1 ORDER BY s.id LIMIT $2) AS page""",
        write=_writing(now, *writing, first_session=10),
        write_leases=_writing(now, writing[0]),
        write_sessions=_writing(now, writing[1], first_session=1),
        forget="DELETE FROM berth_sessions WHERE ended IS NOT NULL AND id = ANY($1::text[])",
        ping=f"""WITH pinged AS (UPDATE berth_meta SET pinged_at = {now} RETURNING pinged_at)
            SELECT pinged_at, (SELECT version FROM berth_leases LIMIT 1) FROM pinged""",
        raise_ttl="UPDATE berth_meta SET ttl_max_us = greatest(ttl_max_us, $1)",
        facts=f"""SELECT identity, incarnation, changed_at, ttl_max_us, (SELECT count(*) FROM berth_leases),
            (SELECT count(*) FROM berth_sessions WHERE ended IS NULL), {now} FROM berth_meta""",
        change_incarnation=f"""UPDATE berth_meta SET incarnation = incarnation + $1, changed_at = {now}
            RETURNING ttl_max_us""",
    )


_LEASE = """1, l.namespace, l.name, l.holder, CASE WHEN l.extra_version = l.version THEN l.extra::text END,
    l.acquired_at, l.renewed_at, NULL::timestamptz, l.ttl_ms, l.fencing_token::bigint, l.version,
    l.incarnation::bigint"""
_SESSION = """2, s.id, s.holder, s.instance, s.ended, s.opened_at, s.renewed_at, s.ended_at, s.ttl_us,
    0::bigint, s.version, 0::bigint"""


def _reading(head: str, found: str, wanted: str) -> str:
    return f"""WITH found AS MATERIALIZED ({found}), wanted (id) AS ({wanted})
        {head}
        UNION ALL SELECT {_LEASE} FROM found AS l
        UNION ALL SELECT {_SESSION} FROM wanted JOIN berth_sessions AS s USING (id)"""


def _write_leases(now: str) -> str:
    renewed = (
        f"coalesce(w.renewed_at, CASE WHEN l.holder = '' THEN {now} ELSE greatest(l.renewed_at, {now}) END)"
    )
    changed = f"""w.holder <> l.holder OR w.fencing_token <> l.fencing_token
                OR {_tokens("w.extra::jsonb")} IS DISTINCT FROM {_tokens("l.extra")}"""
    jump = f"{TOKEN_JUMP} * ((SELECT incarnation FROM berth_meta) - l.incarnation)"
    return f"""w AS (SELECT * FROM unnest($1::text::text[], $2::text::text[], $3::text::text[],
            $4::text::bigint[], $5::timestamptz[], $6::timestamptz[], $7::text::integer[], $8::text::bigint[],
            $9::text::text[])
            AS w (namespace, name, holder, ttl_ms, acquired_at, renewed_at, fencing_token, version, extra)),
        made AS (INSERT INTO berth_leases (namespace, name, holder, ttl_ms, acquired_at, renewed_at,
                fencing_token, version, extra, extra_version, incarnation)
            SELECT w.namespace, w.name, w.holder, w.ttl_ms, w.acquired_at, coalesce(w.renewed_at, {now}),
                w.fencing_token, w.version, w.extra::jsonb, w.version, (SELECT incarnation FROM berth_meta)
            FROM w WHERE w.version = 1
                AND w.fencing_token > {TOKEN_JUMP} * (SELECT incarnation FROM berth_meta)
            ON CONFLICT (namespace, name) DO NOTHING RETURNING namespace, name),
        locked AS MATERIALIZED (SELECT w.*, {changed} AS changed
            FROM w JOIN berth_leases AS l USING (namespace, name) WHERE l.version = w.version - 1
            ORDER BY l.namespace, l.name FOR NO KEY UPDATE OF l),
        kept AS (UPDATE berth_leases AS l SET holder = w.holder, ttl_ms = w.ttl_ms,
                acquired_at = w.acquired_at, renewed_at = {renewed},
                fencing_token = w.fencing_token, version = w.version, extra = w.extra::jsonb,
                extra_version = w.version,
                incarnation = CASE WHEN w.fencing_token = l.fencing_token THEN l.incarnation
                    ELSE (SELECT incarnation FROM berth_meta) END
            FROM locked AS w
            WHERE l.namespace = w.namespace AND l.name = w.name AND l.version = w.version - 1
                AND (w.fencing_token = l.fencing_token OR w.fencing_token >= l.fencing_token + {jump})
            RETURNING l.namespace, l.name, w.changed),
        won_leases (a, b, changed) AS (SELECT *, true FROM made UNION ALL SELECT * FROM kept)"""


def _write_sessions(now: str) -> str:
    """The arguments are numbered by `_writing`."""
    return f"""v AS (SELECT * FROM unnest($A::text::text[], $B::text::bigint[], $C::text::text[],
            $D::text::text[], $E::text::bigint[], $F::timestamptz[], $G::timestamptz[], $H::text::text[],
            $I::timestamptz[])
            AS v (id, version, holder, instance, ttl_us, opened_at, renewed_at, ended, ended_at)),
        opened AS (INSERT INTO berth_sessions (id, version, holder, instance, ttl_us, opened_at, renewed_at,
                ended, ended_at)
            SELECT v.id, v.version, v.holder, v.instance, v.ttl_us, v.opened_at,
                coalesce(v.renewed_at, {now}), v.ended, v.ended_at
            FROM v WHERE v.version = 1 ON CONFLICT (id) DO NOTHING RETURNING id),
        held AS MATERIALIZED (SELECT v.* FROM v JOIN berth_sessions AS s USING (id)
            WHERE s.version = v.version - 1 ORDER BY s.id FOR NO KEY UPDATE OF s),
        moved AS (UPDATE berth_sessions AS s SET version = v.version, holder = v.holder,
                instance = v.instance, ttl_us = v.ttl_us, opened_at = v.opened_at,
                renewed_at = coalesce(v.renewed_at, greatest(s.renewed_at, {now})),
                ended = v.ended, ended_at = v.ended_at
            FROM held AS v WHERE s.id = v.id AND s.version = v.version - 1
            RETURNING s.id, s.ended IS NOT NULL),
        won_sessions (a, changed) AS (SELECT id, false FROM opened UNION ALL SELECT * FROM moved)"""


def _writing(now: str, *parts: str, first_session: int = 0) -> str:
    text = ",\n".join(parts)
    for at, letter in enumerate("ABCDEFGHI"):
        text = text.replace(f"${letter}::", f"${first_session + at}::")
    won = [f"SELECT 0, NULL::text, NULL::text, {now}"]
    if "won_leases" in text:
        won.append("SELECT 1, a, b, NULL::timestamptz FROM won_leases")
        won.append(_told("a || '/' || b", "won_leases"))
    if "won_sessions" in text:
        won.append("SELECT 2, a, NULL::text, NULL::timestamptz FROM won_sessions")
        won.append(_told("a", "won_sessions"))
    return f"WITH {text}\n{' UNION ALL '.join(won)}"


def _told(what: str, won: str) -> str:
    """Tell other servers, but of no renewal: a commit that tells waits for every other that does."""
    return f"""SELECT 3, pg_notify('{CHANNEL}', {what})::text, NULL::text, NULL::timestamptz
        FROM {won} WHERE changed"""


def _tokens(extra: str) -> str:
    return f"jsonb_path_query_array({extra}, '$.tenures[*].token')"


def heard(payload: str) -> Key | str:
    """The lease or the session that another server has told of. No session's id has a slash."""
    namespace, slash, name = payload.partition("/")
    return Key(namespace, name) if slash else payload


def lease_columns(records: Iterable[Record]) -> tuple[list[int | None] | str, ...]:
    """The arguments of a write, one a column, in the order of the keys."""
    rows = sorted([lease_row(each) for each in records], key=_by_key)
    return _columns(rows, instants=_LEASE_INSTANTS)


def session_columns(sessions: Iterable[Session]) -> tuple[list[int | None] | str, ...]:
    rows = sorted([session_row(each) for each in sessions], key=_by_id)
    return _columns(rows, instants=_SESSION_INSTANTS)


def array(values: Sequence[str | int | None]) -> str:
    """The array as a text that PostgreSQL reads: at each element of any other the driver looks twice."""
    if values.count(None):
        return "{" + ",".join([_element(value) for value in values]) + "}"
    plain = '","'.join([str(value) for value in values])
    if "\\" in plain or plain.count('"') > 2 * (len(values) - 1):
        return "{" + ",".join([_element(value) for value in values]) + "}"
    return '{"' + plain + '"}' if values else "{}"


def _element(value: str | int | None) -> str:
    if value is None:
        return "NULL"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _columns(
    rows: Sequence[tuple[Any, ...]], *, instants: Collection[int]
) -> tuple[list[int | None] | str, ...]:
    columns: list[list[int | None] | str] = []
    for place, values in enumerate(zip(*rows, strict=True)):
        if values.count(None) == len(values):
            values = ()  # `unnest` fills it up beside the other columns
        columns.append([*values] if place in instants else array(values))
    return tuple(columns)


def _by_key(row: LeaseRow) -> tuple[str, str]:
    return row[0], row[1]


def _by_id(row: SessionRow) -> str:
    return row[0]
