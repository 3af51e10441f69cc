"""Moving: all that a store holds as lines of JSON, and back into another store of any kind.

Owns the form of the lines. Promises that no lease ends early and no token is given twice by a move: a tenure
and a session come back as renewed at the moment of the import, under the token and the id that their holders
know, and a lease's highest token comes with it. Promises as well that a file which breaks off is refused
before anything of it is written. It asks that no server uses either store meanwhile: what is granted after
the export is not in it.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from berth.core.names import Key
from berth.core.records import Record, Session
from berth.store.api import Store, Write

PAGE = 500


class Begin(Struct, frozen=True, tag="begin"):
    """The first line. Another `form` is another layout."""

    form: int = 1


class Lease(Struct, frozen=True, tag="lease"):
    record: Record


class Sign(Struct, frozen=True, tag="session"):
    session: Session


class End(Struct, frozen=True, tag="end"):
    """The last line: how much there was."""

    leases: int
    sessions: int


Line = Begin | Lease | Sign | End

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Unreadable(Exception):
    """What was to be imported is no whole export; the text says where and why."""


class Moved(NamedTuple):
    """`left` are leases and sessions that the store had already; they were left as they are."""

    leases: int
    sessions: int
    left: list[str]


async def exported(store: Store) -> AsyncGenerator[bytes]:
    """The lines, without their ends. Sessions come before the leases that hang on them."""
    yield _encode(Begin())
    leases = sessions = 0
    after: str | None = None
    while page := (await store.sessions(after, PAGE)).sessions:
        for seen in page.values():
            yield _encode(Sign(replace(seen.session, mark=None)))
            sessions += 1
        after = max(page)
    last: Key | None = None
    while True:
        found = 0
        async with aclosing(store.scan(last, PAGE)) as scan:
            async for observed in scan:
                found, last = found + 1, observed.key
                if observed.record is not None:
                    yield _encode(Lease(_unmarked(observed.record)))
                    leases += 1
        if found < PAGE:
            break
    yield _encode(End(leases, sessions))


async def import_lines(store: Store, lines: Iterable[bytes]) -> Moved:
    """Write what `check_lines` has found to be whole. Raises StoreFault, Unreadable."""
    leases = sessions = 0
    left: list[str] = []
    for batch in _batches(lines):
        writes = await _above_floors(store, batch)
        won = await store.write(writes)
        leases += sum(isinstance(each, Key) for each in won)
        sessions += sum(isinstance(each, str) for each in won)
        targets = [each.key if isinstance(each, Record) else each.id for each in writes]
        left += [str(target) for target in targets if target not in won]
    return Moved(leases, sessions, left)


async def _above_floors(store: Store, batch: list[Write]) -> list[Write]:
    """The writes, with no lease's highest token at or below what this store may give no more."""
    keys = [each.key for each in batch if isinstance(each, Record)]
    floors = {key: seen.token_floor for key, seen in (await store.read(keys)).leases.items()}
    return [
        replace(each, token=max(each.token, floors[each.key] + 1)) if isinstance(each, Record) else each
        for each in batch
    ]


def check_lines(lines: Iterable[bytes]) -> End:
    """Go through a whole export without writing anything. Raises Unreadable."""
    leases = sessions = 0
    end: End | None = None
    for number, line in enumerate(lines, 1):
        read = _line(number, line)
        if isinstance(read, Begin) != (number == 1) or end is not None:
            raise Unreadable(f"line {number} is out of place: it is not one export from its begin to its end")
        if isinstance(read, Begin) and read.form != Begin().form:
            raise Unreadable(f"it has form {read.form}, which this berth does not know: use a later one")
        leases += isinstance(read, Lease)
        sessions += isinstance(read, Sign)
        end = read if isinstance(read, End) else None
    if end is None:
        raise Unreadable("it breaks off: its last line is missing")
    if end != End(leases, sessions):
        once = f"it once had {end.leases} and {end.sessions}"
        raise Unreadable(f"it has {leases} leases and {sessions} sessions; {once}")
    return end


def _line(number: int, line: bytes) -> Line:
    try:
        return _decode(line)
    except msgspec.DecodeError as error:
        raise Unreadable(f"line {number} is none of an export: {error}") from error


def _batches(lines: Iterable[bytes]) -> Iterator[list[Write]]:
    batch: list[Write] = []
    for number, line in enumerate(lines, 1):
        read = _line(number, line)
        if isinstance(read, Lease):
            batch.append(replace(_unmarked(read.record), version=1))
        elif isinstance(read, Sign):
            batch.append(replace(read.session, version=1, mark=None))
        if len(batch) == PAGE:
            yield batch
            batch = []
    if batch:
        yield batch


def _unmarked(record: Record) -> Record:
    """Marks mean nothing to another store: what is without one is renewed by the write."""
    return replace(record, tenures=tuple(replace(tenure, mark=None) for tenure in record.tenures))
