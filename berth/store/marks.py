"""Store time: the timeline that renewal marks are made of, and what follows from a mark.

Owns the one instant of a reading, the marking of a write and the idle times of what is read, for every store
whose own process says what time it is. Promises that time never goes back, and that a wall clock that steps
changes no idle time. Does not keep anything: a store that lives on says where its timeline resumes.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import force_setattr

from berth.core.names import Key
from berth.core.records import Observed, Quarantine, Record, Session, SessionSeen
from berth.runtime.clock import Clock
from berth.store.api import Reading

_WALL_TOLERANCE_US = 50_000


class Instant(NamedTuple):
    """One reading of a store's time: marks are made of `now_us`, people are told `at_us`."""

    now_us: int
    at_us: int


class StoreTime:
    """A timeline in microseconds that begins at `start_us` and is moved by the boot clock alone."""

    def __init__(self, clock: Clock, start_us: int = 0) -> None:
        self._clock = clock
        self._ahead_of_boot_us = start_us - clock.boot_us()
        self._wall_ahead_us = clock.wall_us() - start_us

    def read(self) -> Instant:
        """The present instant.

        `at_us` follows the wall clock only when that has moved away noticeably: otherwise a renewal, which is
        `at_us` less the idle time, would be told with other microseconds in every reading.
        """
        now_us = self._clock.boot_us() + self._ahead_of_boot_us
        moved_us = self._clock.wall_us() - (now_us + self._wall_ahead_us)
        if abs(moved_us) > _WALL_TOLERANCE_US:
            self._wall_ahead_us += moved_us
        return Instant(now_us, now_us + self._wall_ahead_us)


def marked(record: Record, now_us: int) -> Record:
    """The record as it is stored: what it renews is marked with `now_us`, other marks stay.

    It is completed in place: it was made for this write, and a copy of every renewal costs more than all
    else.
    """
    for tenure in record.tenures:
        if tenure.mark is None:
            force_setattr(tenure, "mark", now_us)
    return record


def marked_session(session: Session, now_us: int) -> Session:
    """The session as it is stored, likewise."""
    if session.mark is None:
        force_setattr(session, "mark", now_us)
    return session


def reading(
    instant: Instant,
    keys: Collection[Key],
    records: Mapping[Key, Record],
    sessions: Iterable[str],
    find: Callable[[Collection[str]], Iterable[Session]],
    quarantine: Quarantine | None = None,
    token_floor: int = 0,
) -> Reading:
    """What was read at `instant`: all of `keys`, stored or not, `sessions`, and those that tenures refer to.

    `find` looks sessions up, as far as they exist.
    """
    now_us, at_us = instant
    seen: dict[str, SessionSeen] = {}
    wanted = dict.fromkeys(sessions)
    found = dict(zip(keys, map(records.get, keys), strict=True))
    sole_idles_us: list[int] = []
    for record in found.values():
        tenures = record.tenures if record is not None else ()
        if len(tenures) == 1 and tenures[0].session is None:
            mark = tenures[0].mark
            sole_idles_us.append(now_us - mark if mark is not None and mark < now_us else 0)
            continue
        sole_idles_us.append(-1)
        for tenure in tenures:
            if tenure.session is not None:
                wanted[tenure.session] = None
    if wanted:
        for session in find(wanted):
            seen[session.id] = SessionSeen(session, _idle_us(session.mark, now_us))
    leases = _Leases(found, instant, seen, quarantine, token_floor)
    return Reading(at_us, leases, seen, found, sole_idles_us)


class _Leases(Mapping[Key, Observed]):
    """Records as what was observed of each, which is only made of those that are looked at."""

    def __init__(
        self,
        records: Mapping[Key, Record | None],
        instant: Instant,
        sessions: Mapping[str, SessionSeen],
        quarantine: Quarantine | None,
        token_floor: int,
    ) -> None:
        self._records = records
        self._instant = instant
        self._seen = (sessions, quarantine, token_floor)

    def __getitem__(self, key: Key) -> Observed:
        record = self._records[key]
        tenures = record.tenures if record is not None else ()
        idles_us = tuple([_idle_us(tenure.mark, self._instant.now_us) for tenure in tenures])
        return Observed(key, self._instant.at_us, record, idles_us, *self._seen)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)


def _idle_us(mark: int | None, now_us: int) -> int:
    assert mark is not None, "everything that is stored is marked"
    idle_us = now_us - mark
    return idle_us if idle_us > 0 else 0
