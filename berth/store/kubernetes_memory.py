"""What a server has seen of a cluster's leases and sessions, and for how long it has seen them unchanged.

Owns the judgement of time where no clock is shared: a tenure has been idle for as long as this process has
itself seen the mark of its renewal unchanged, by its own boot clock. Whatever clocks the writers have, that
is never more than the time since the renewal. Another tenure's renewal in the same object changes nothing.
Promises as well that a token which it has seen is never given again, though the object is deleted or lowered
by hand; that what is held, and a session that lives, go on though their object is deleted; and that no
version which it hands out stands for two contents: an object that was made anew, or was changed without
another version, counts as the next one. Remembers for as long as the process lives.

Marks of the records that it hands out are instants of the boot clock.
"""

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from berth.core.names import Key
from berth.core.records import Quarantine, Record, Session
from berth.kube.informer import Changed
from berth.kube.objects import Object, uid_of
from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.log import Logger
from berth.store.api import Reading
from berth.store.doubts import TOKEN_JUMP, stretched_us
from berth.store.kubernetes_objects import NotOurs, is_session, lease_in, session_in, token_floor_in
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
        self._ttl_max_us = self._lock_delay_max_us = 0
        self._lost_until_us = 0
        self._floor = 0
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
        floor = token_floor_in(obj)
        if floor is not None:
            self._floor = max(self._floor, floor)
            return
        try:
            if is_session(obj):
                self._note_session(uid_of(obj), session_in(obj), gone=change.new is None)
            else:
                self._note_lease(uid_of(obj), lease_in(obj), gone=change.new is None)
        except NotOurs as fault:
            self._logger.warning("an object among the leases is passed over", error=str(fault))

    def note_gone_back(self) -> None:
        """The cluster was put back to an older state: what others have granted since may not have been heard
        of, so nothing is granted as long as it may hold, and no token is given that it may have.
        """
        left_us = stretched_us(self._ttl_max_us + self._lock_delay_max_us)
        self._lost_until_us = self._clock.boot_us() + left_us
        self._floor = max(self._floor, *self._tokens.values(), 0) + TOKEN_JUMP
        self._logger.error(
            "the cluster was put back to an older state, its last writes are lost: nothing is granted",
            seconds=left_us / MICROSECONDS,
        )

    def reading(self, keys: Collection[Key], sessions: Iterable[str]) -> Reading:
        """Of what is remembered."""
        left_us = self._lost_until_us - self._clock.boot_us()
        quarantine = Quarantine("loss", left_us) if left_us > 0 else None
        found = reading(
            self._time.read(), keys, self._records, sessions, self._found, quarantine, self._floor
        )
        lowered = [key for key in keys if max(self._token(key), self._floor) < self._tokens.get(key, 0)]
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
        self._lock_delay_max_us = max(self._lock_delay_max_us, stored.lock_delay_us)
        self._ttl_max_us = max(self._ttl_max_us, *[tenure.ttl_us for tenure in stored.tenures], 0)
        known = self._leases.get(key)
        if gone:
            self._logger.warning("a lease object was deleted, its tokens are remembered here", lease=str(key))
            self._note_lost_lease(key)
        else:
            if before is None:
                self._keys.add(key)
            is_same = known is not None and (known.uid, known.stored) == (uid, stored)
            self._put_lease(
                _Lease(uid, stored, self._seen_since_us(stored, own)), _version(before, stored, is_same)
            )
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

    def _note_lost_lease(self, key: Key) -> None:
        """Who holds it may be at work, and may have renewed it unheard just before: it counts as renewed now,
        and the next write makes the object anew. One that is free is of no use but for its token.
        """
        known = self._leases.get(key)
        if known is None:
            return
        if known.stored.tenures:
            now_us = self._clock.boot_us()
            since_us = dict.fromkeys(known.since_us, now_us)
            self._put_lease(known._replace(since_us=since_us), self._records[key].version + 1)
        else:
            self._keys.remove(key)
            del self._records[key], self._leases[key]

    def _put_lease(self, lease: _Lease, version: int) -> None:
        stored = lease.stored
        tenures = tuple([replace(tenure, mark=lease.since_us[tenure.token]) for tenure in stored.tenures])
        self._leases[stored.key] = lease
        self._records[stored.key] = replace(stored, version=version, tenures=tenures)

    def _note_session(
        self, uid: str, stored: Session, *, gone: bool = False, own: Session | None = None
    ) -> None:
        name, before = stored.id, self._sessions.get(stored.id)
        self._ttl_max_us = max(self._ttl_max_us, stored.ttl_us)
        if gone:
            self._note_lost_session(name)
            return
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
        if own is None and before is not None and before.ended is None and stored.ended is not None:
            self._on_change(name)

    def _note_lost_session(self, name: str) -> None:
        """One that has ended was swept. Another was deleted by hand: as with a lease that is held."""
        session = self._sessions.get(name)
        if session is None:
            return
        if session.ended is None:
            self._logger.warning("a session object was deleted, it is remembered here", session=name)
            lost = replace(session, version=session.version + 1, mark=self._clock.boot_us())
            self._sessions[name] = lost
        else:
            del self._sessions[name], self._stored_sessions[name]
            self._ids.remove(name)


def _version(before: Record | Session | None, stored: Record | Session, is_same: bool) -> int:
    """Of what is stored now: what was decided on `before` may be written over it only if it is the same."""
    if before is None:
        return stored.version
    return before.version if is_same else max(stored.version, before.version + 1)


def _owners(record: Record | None) -> list[tuple[str, int]]:
    return [(tenure.holder, tenure.token) for tenure in record.tenures] if record is not None else []
