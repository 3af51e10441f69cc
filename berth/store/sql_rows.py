"""Rows: how a lease and a session stand in the tables of a database server, whichever it is.

Owns the mapping between records and columns. The first columns of a lease are those of skaphos/berth and
mean what they mean there; a lease of one exclusive tenure by ttl, or of none, is in them. What they have no
room for is JSON in `extra`, and belongs to the version that `extra_version` names: a server that knows only
the first columns may have written since. Promises that every record comes back as it was.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec import Struct

from berth.core.names import Key
from berth.core.records import Ended, Record, Semantics, Session, SessionEnd, Tenure


class LeaseRow(NamedTuple):
    """`renewed_at_us` None: the instant of the statement. Where `extra` has tenures, a mark of None there is
    `renewed_at_us`.
    """

    namespace: str
    name: str
    holder: str
    ttl_ms: int
    acquired_at_us: int
    renewed_at_us: int | None
    fencing_token: int
    version: int
    extra: str | None


class SessionRow(NamedTuple):
    """`renewed_at_us` None: the instant of the statement."""

    id: str
    version: int
    holder: str
    instance: str
    ttl_us: int
    opened_at_us: int
    renewed_at_us: int | None
    ended: SessionEnd | None
    ended_at_us: int | None


class Extra(Struct, frozen=True, gc=False, omit_defaults=True):
    """What a row has beside the columns of skaphos/berth. `tenures` None: the one in the columns, if any."""

    semantics: Semantics = "at-most-once"
    max_holders: int | None = None
    lock_delay_us: int = 0
    ended: Ended | None = None
    tenures: tuple[Tenure, ...] | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Extra).decode


def lease_row(record: Record) -> LeaseRow:
    """The row of a record that is to be written."""
    key, version = record.key, record.version
    newest = record.tenures[-1] if record.tenures else None
    fits = _fits_columns(record)
    plain = record.ended is None and not record.lock_delay_us and record.max_holders is None
    if newest is not None and fits and plain:
        times = (newest.ttl_us // 1000, newest.acquired_at_us, newest.mark)
        return LeaseRow(key[0], key[1], newest.holder, *times, record.token, version, None)
    tenures = None if fits else record.tenures
    extra = Extra(record.semantics, record.max_holders, record.lock_delay_us, record.ended, tenures)
    text = _encode(extra).decode()
    if newest is None:
        assert record.ended is not None
        ended = record.ended
        times_us = (ended.acquired_at_us, ended.ended_at_us)
        return LeaseRow(key.namespace, key.name, "", 0, *times_us, record.token, version, text)
    ttl_ms = -(-newest.ttl_us // 1000)
    times = (newest.acquired_at_us, _renewed_at_us(record.tenures))
    return LeaseRow(key.namespace, key.name, newest.holder, ttl_ms, *times, record.token, version, text)


def _fits_columns(record: Record) -> bool:
    tenures = record.tenures
    if len(tenures) != 1:
        return not tenures
    (tenure,) = tenures
    whole = tenure.ttl_us > 0 and tenure.ttl_us % 1000 == 0
    return whole and tenure.token == record.token and record.semantics == "at-most-once"


def _renewed_at_us(tenures: tuple[Tenure, ...]) -> int | None:
    marks = [tenure.mark for tenure in tenures if tenure.mark is not None]
    return max(marks) if len(marks) == len(tenures) else None


def record(row: LeaseRow) -> Record:
    """The record of a row that was read."""
    namespace, name, holder, ttl_ms, acquired_at_us, renewed_at_us, token, version, text = row
    key = Key(namespace, name)
    if text is None:
        if holder:
            tenure = Tenure(holder, token, acquired_at_us, ttl_ms * 1000, None, renewed_at_us)
            return Record(key, version, token, (tenure,))
        # Freed by a server that does not tell how: nobody may rely on a clean end.
        assert renewed_at_us is not None
        return Record(key, version, token, (), ended=Ended(acquired_at_us, renewed_at_us, False))
    extra = _decode(text)
    if extra.tenures is not None:
        tenures = tuple([_marked(tenure, renewed_at_us) for tenure in extra.tenures])
    elif holder:
        tenures = (Tenure(holder, token, acquired_at_us, ttl_ms * 1000, None, renewed_at_us),)
    else:
        tenures = ()
    terms = (extra.semantics, extra.max_holders, extra.lock_delay_us, extra.ended)
    return Record(key, version, token, tenures, *terms)


def _marked(tenure: Tenure, renewed_at_us: int | None) -> Tenure:
    if tenure.mark is not None:
        return tenure
    return Tenure(
        tenure.holder, tenure.token, tenure.acquired_at_us, tenure.ttl_us, tenure.session, renewed_at_us
    )


def session_row(session: Session) -> SessionRow:
    """The row of a session that is to be written."""
    return SessionRow(
        session.id,
        session.version,
        session.holder,
        session.instance,
        session.ttl_us,
        session.opened_at_us,
        session.mark,
        session.ended,
        session.ended_at_us,
    )


def session(row: SessionRow) -> Session:
    """The session of a row that was read."""
    return Session(*row)


def longest_us(writes: Iterable[Record | Session]) -> int:
    """The longest time for which these writes keep anybody else out, lock delay included."""
    longest = 0
    for write in writes:
        if isinstance(write, Record):
            for tenure in write.tenures:
                longest = max(longest, tenure.ttl_us + write.lock_delay_us)
        else:
            longest = max(longest, write.ttl_us)
    return longest
