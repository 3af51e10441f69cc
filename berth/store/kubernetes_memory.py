"""What a server has seen of a cluster's leases and sessions, and for how long it has seen them unchanged.

Owns the judgement of time where no clock is shared: a tenure has been idle for as long as this process has
itself seen the mark of its renewal unchanged, by its own boot clock. Whatever clocks the writers have, that
is never more than the time since the renewal. Another tenure's renewal in the same object changes nothing.
Promises as well that a token which it has seen is never given again, though the object is deleted or lowered
by hand, and that no version which it hands out stands for two contents: an object that was made anew, or was
changed without another version, counts as the next one. Remembers a lease for as long as the process lives,
as the cluster does.

Marks of the records that it hands out are instants of the boot clock.
"""

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from berth.core.names import Key
from berth.core.records import Record, Session
from berth.kube.informer import Changed
from berth.kube.objects import Object, uid_of
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.store.api import Reading
from berth.store.kubernetes_objects import NotOurs, is_session, lease_in, session_in
from berth.store.marks import StoreTime, reading
from berth.store.sortedkeys import SortedKeys


class _Lease(NamedTuple):
    """What an object has, and when this process first saw the mark of each tenure, by its token."""

    uid: str
    stored: Record
    since_us: dict[int, int]


class Memory:
    """Told of every change by `note`. `on_change` is told whose owners others have changed."""

    def __init__(self, clock: Clock, logger: Logger, on_change: Callable[[Key | str], None]) -> None:
        self._clock = clock
        self._time = StoreTime(clock, clock.boot_us())
        self._logger = logger
        self._on_change = on_change
        self._records: dict[Key, Record] = {}
        self._leases: dict[Key, _Lease] = {}
        self._tokens: dict[Key, int] = {}
        self._sessions: dict[str, Session] = {}
        self._stored_sessions: dict[str, tuple[str, Session]] = {}
        self._keys = SortedKeys[Key]()
        self._ids = SortedKeys[str]()

    def note_own(self, write: Record | Session, obj: Object) -> None:
        """This process has written the newest there is of an object. Others' marks stay as they were told."""
        if isinstance(write, Session):
            self._note_session(uid_of(obj), session_in(obj), own=write)
        else:
            self._note_lease(uid_of(obj), lease_in(obj), own=write)

    def note(self, change: Changed) -> None:
        """An object has appeared, changed or gone."""
        obj = change.new if change.new is not None else change.old
        assert obj is not None
        try:
            if is_session(obj):
                self._note_session(uid_of(obj), session_in(obj), gone=change.new is None)
            else:
                self._note_lease(uid_of(obj), lease_in(obj), gone=change.new is None)
        except NotOurs as fault:
            self._logger.warning("an object among the leases is passed over", error=str(fault))

    def reading(self, keys: Collection[Key], sessions: Iterable[str]) -> Reading:
        """Of what is remembered."""
        found = reading(self._time.read(), keys, self._records, sessions, self._found)
        lowered = [key for key in keys if self._token(key) < self._tokens.get(key, 0)]
        if not lowered:
            return found
        leases = {**found.leases}
        for key in lowered:
            leases[key] = replace(leases[key], token_floor=self._tokens[key])
        return replace(found, leases=leases)

    def version(self, target: Key | str) -> int:
        """The version of what is remembered, 0 for nothing. Only what is not berth's leaves it as it is."""
        known = self._records.get(target) if isinstance(target, Key) else self._sessions.get(target)
        return known.version if known is not None else 0

    def holds(self, key: Key) -> bool:
        """Whether all is remembered that the lease refers to."""
        record = self._records.get(key)
        tenures = record.tenures if record is not None else ()
        return all(tenure.session is None or tenure.session in self._sessions for tenure in tenures)

    def keys_after(self, after: Key | None, limit: int) -> list[Key]:
        return self._keys.after(after, limit)

    def ids_after(self, after: str | None, limit: int) -> list[str]:
        return self._ids.after(after, limit)

    def unheard_of(self, keys: Collection[Key]) -> dict[str, list[Key]]:
        """The sessions of which nothing is remembered, and the leases that refer to them."""
        unheard: dict[str, list[Key]] = {}
        for key in keys:
            record = self._records.get(key)
            for tenure in record.tenures if record is not None else ():
                if tenure.session is not None and tenure.session not in self._sessions:
                    unheard.setdefault(tenure.session, []).append(key)
        return unheard

    def _token(self, key: Key) -> int:
        record = self._records.get(key)
        return record.token if record is not None else 0

    def _found(self, sessions: Iterable[str]) -> list[Session]:
        return [self._sessions[each] for each in sessions if each in self._sessions]

    def _note_lease(self, uid: str, stored: Record, *, gone: bool = False, own: Record | None = None) -> None:
        key, before = stored.key, self._records.get(stored.key)
        self._tokens[key] = max(self._tokens.get(key, 0), stored.token)
        if gone:
            self._logger.error("a lease object was deleted, its tokens are remembered here", lease=str(key))
            self._forget_lease(key)
        else:
            if before is None:
                self._keys.add(key)
            known, since_us = self._leases.get(key), self._seen_since_us(stored, own)
            is_same = known is not None and (known.uid, known.stored) == (uid, stored)
            self._leases[key] = _Lease(uid, stored, since_us)
            tenures = tuple(replace(tenure, mark=since_us[tenure.token]) for tenure in stored.tenures)
            self._records[key] = replace(stored, version=_version(before, stored, is_same), tenures=tenures)
        if own is None and _owners(before) != _owners(self._records.get(key)):
            self._on_change(key)

    def _seen_since_us(self, stored: Record, own: Record | None) -> dict[int, int]:
        """Since when each tenure's mark is as it is."""
        known, now_us = self._leases.get(stored.key), self._clock.boot_us()
        marks = {each.token: each.mark for each in known.stored.tenures} if known is not None else {}
        told = {each.token: each.mark for each in own.tenures} if own is not None else {}
        since_us: dict[int, int] = {}
        for tenure in stored.tenures:
            given_us = told.get(tenure.token)
            if given_us is not None:
                since_us[tenure.token] = given_us
            elif known is not None and marks.get(tenure.token) == tenure.mark:
                since_us[tenure.token] = known.since_us[tenure.token]
            else:
                since_us[tenure.token] = now_us
        return since_us

    def _forget_lease(self, key: Key) -> None:
        if self._records.pop(key, None) is not None:
            self._keys.remove(key)
            del self._leases[key]

    def _note_session(
        self, uid: str, stored: Session, *, gone: bool = False, own: Session | None = None
    ) -> None:
        name, before = stored.id, self._sessions.get(stored.id)
        if gone:
            if before is not None:
                del self._sessions[name], self._stored_sessions[name]
                self._ids.remove(name)
        else:
            if before is None:
                self._ids.add(name)
            known = self._stored_sessions.get(name)
            since_us = before.mark if before is not None else None
            if own is not None and own.mark is not None:
                since_us = own.mark
            elif since_us is None or known is None or known[1].mark != stored.mark:
                since_us = self._clock.boot_us()
            self._stored_sessions[name] = (uid, stored)
            version = _version(before, stored, known == (uid, stored))
            self._sessions[name] = replace(stored, version=version, mark=since_us)
        ended_before = before is None or before.ended is not None
        if own is None and not ended_before and (gone or stored.ended is not None):
            self._on_change(name)


def _version(before: Record | Session | None, stored: Record | Session, is_same: bool) -> int:
    """Of what is stored now: what was decided on `before` may be written over it only if it is the same."""
    if before is None:
        return stored.version
    return before.version if is_same else max(stored.version, before.version + 1)


def _owners(record: Record | None) -> list[tuple[str, int]]:
    return [(tenure.holder, tenure.token) for tenure in record.tenures] if record is not None else []
