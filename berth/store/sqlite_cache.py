"""What an SQLite store has last read and written, so that it need not be read again.

Sound because the file is one process's, which writes it through one store, one call at a time: what was
committed last is what a read would find. Whatever is not certain is forgotten. Holds a bounded number of
leases and sessions; it knows nothing of those that do not exist.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from berth.core.names import Key
from berth.core.records import Record, Session
from berth.store.api import Reading, Write

LEASES_MAX = 50_000
SESSIONS_MAX = 10_000

NameT = TypeVar("NameT")
ValueT = TypeVar("ValueT")


class Cache:
    """Leases and sessions as they stand in the file."""

    def __init__(self) -> None:
        self._records: dict[Key, Record] = {}
        self._sessions: dict[str, Session] = {}

    @property
    def records(self) -> Mapping[Key, Record]:
        return self._records

    def found(self, sessions: Iterable[str]) -> list[Session]:
        return [self._sessions[each] for each in sessions]

    def has(self, keys: Collection[Key], sessions: Collection[str]) -> bool:
        """Whether all of these are known, with the sessions that the leases refer to."""
        if not all(session in self._sessions for session in sessions):
            return False
        for key in keys:
            record = self._records.get(key)
            if record is None:
                return False
            for tenure in record.tenures:
                if tenure.session is not None and tenure.session not in self._sessions:
                    return False
        return True

    def note_read(self, reading: Reading) -> None:
        for key, record in reading.records.items():
            if record is not None:
                _keep(self._records, key, record, LEASES_MAX)
        for name, seen in reading.sessions.items():
            _keep(self._sessions, name, seen.session, SESSIONS_MAX)

    def note_written(self, writes: Sequence[Write], won: Collection[Key | str]) -> None:
        """What lost its compare-and-swap was not what was known: the next read looks for itself."""
        for write in writes:
            if isinstance(write, Record):
                if write.key in won:
                    _keep(self._records, write.key, write, LEASES_MAX)
                else:
                    self._records.pop(write.key, None)
            elif write.id in won:
                _keep(self._sessions, write.id, write, SESSIONS_MAX)
            else:
                self._sessions.pop(write.id, None)

    def forget(self, sessions: Iterable[str]) -> None:
        for session in sessions:
            self._sessions.pop(session, None)

    def clear(self) -> None:
        """Nothing is certain any more."""
        self._records.clear()
        self._sessions.clear()


def _keep(kept: dict[NameT, ValueT], name: NameT, value: ValueT, limit: int) -> None:
    kept[name] = value
    if len(kept) > limit:
        del kept[next(iter(kept))]
