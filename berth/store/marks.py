"""Store time: the timeline that renewal marks are made of, and what follows from a mark.

Owns the one instant of a reading, the marking of a write and the idle times of what is read, for every store
whose own process says what time it is. Promises that time never goes back, and that a wall clock that steps
changes no idle time. Does not keep anything: a store that lives on says where its timeline resumes.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
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
    keys: Iterable[Key],
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
    leases: dict[Key, Observed] = {}
    for key in keys:
        record = records.get(key)
        idles_us: list[int] = []
        for tenure in record.tenures if record is not None else ():
            idles_us.append(_idle_us(tenure.mark, now_us))
            if tenure.session is not None:
                wanted[tenure.session] = None
        leases[key] = Observed(key, at_us, record, tuple(idles_us), seen, quarantine, token_floor)
    if wanted:
        for session in find(wanted):
            seen[session.id] = SessionSeen(session, _idle_us(session.mark, now_us))
    return Reading(at_us, leases, seen)


def _idle_us(mark: int | None, now_us: int) -> int:
    assert mark is not None, "everything that is stored is marked"
    idle_us = now_us - mark
    return idle_us if idle_us > 0 else 0
