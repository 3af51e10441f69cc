"""Register: tells every change of who holds a lease, once, in order, and at its instant.

Owns, for all that is held, when to look at it again: leases that live by a ttl one by one, those under
sessions by their session, so that a session's renewal costs the same for one lease as for thousands. What
ends by itself is noticed by a timer and a read, never by a write and never by a tick. Promises nothing to
safety: a grant rests on the store alone.

It reads each lease once at its start; what ended before that is not told.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import aclosing, contextmanager
from typing import NamedTuple, TypeVar

import trio

from berth.core.names import Key
from berth.core.ownership import Ownership, ended_by_now, ownership
from berth.core.records import Observed, Session, Tenure
from berth.core.standing import lives
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.service.asking import NOBODY, Change, LeaseChange, Origin
from berth.service.rounds import Recall
from berth.service.timers import Timers
from berth.store.api import PartlyRead, Reading, Store, StoreFault

PAGE = 500
RETRY_US = 1_000_000
UNDER_WAY_US = 50_000

TargetT = TypeVar("TargetT", Key, str)


class _Looked(NamedTuple):
    """What was read, the leases that were judged by it, and those that could not be read."""

    reading: Reading
    judged: set[Key]
    unread: list[Key]


class Register:
    """`run` must be running for anything to be noticed that ends by itself.

    What `is_writing` says to be under way may have been renewed in time, and is looked at again.
    `on_found` is told of each lease as it was before any change; `on_change` of each change and on whose
    behalf it was made; `on_opening` of each lease that somebody may be able to take now; `on_left_over` of
    each whose record still has a tenure that has ended.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        logger: Logger,
        on_found: Callable[[Observed], None],
        on_change: Callable[[Ownership, Origin], None],
        on_opening: Callable[[Key], None],
        on_left_over: Callable[[Key], None],
        is_writing: Callable[[Key | str], bool],
        recall: Recall | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._logger = logger
        self._on_found = on_found
        self._on_change = on_change
        self._on_opening = on_opening
        self._on_left_over = on_left_over
        self._is_writing = is_writing
        self._recall = recall
        self._leases = Timers[Key](clock)
        self._sessions = Timers[str](clock)
        self._under: defaultdict[str, set[Key]] = defaultdict(set)
        self._ended_by: dict[str, Origin] = {}
        self._told: dict[Key, set[int]] = {}
        """Tokens whose end was told while the record still has them."""
        self._noted: dict[int, set[Key]] = {}
        """For each look under way, the leases that were written meanwhile: what it reads of them may be
        old.
        """
        self._unlisted: Key | None = Key("", "")
        """How far the leases have been listed; None when all are known."""
        self._early: set[Key] = set()
        """Leases that were written before they were listed."""
        self.listed = trio.Event()
        """Set when all leases that there were are known."""

    def note(self, change: Change) -> None:
        """A lease or a session was written."""
        if not isinstance(change, LeaseChange):
            self._note_session(change.session, change.origin)
            return
        record, turns, origins = change.record, change.turns, change.origins
        for noted in self._noted.values():
            noted.add(record.key)
        if self._unlisted is not None and record.key > self._unlisted and record.key not in self._early:
            self._early.add(record.key)
            self._take_up(turns[0].before)
        for turn, origin in zip(turns, origins, strict=False):
            for each in ownership(*turn):
                if each.kind == "acquired" or each.token not in self._told.get(record.key, ()):
                    self._on_change(each, origin)
        self._follow(turns[-1].after, before=turns[0].before)
        self._on_opening(record.key)

    def note_renewals(self, renewed: Collection[Key], tenures: Sequence[Tenure]) -> None:
        """Leases live on by these tenures, and nothing else: by far the most frequent news."""
        after_us = self._clock.boot_us() + 1
        for noted in self._noted.values():
            noted.update(renewed)
        self._leases.put_off(renewed, [after_us + each.ttl_us for each in tenures])

    def look(self, key: Key, in_us: int) -> None:
        """Look at the lease in so long, if it is not to be looked at before."""
        due_us = self._clock.boot_us() + in_us
        before_us = self._leases.due_us(key)
        if before_us is None or due_us < before_us:
            self._leases.set(key, due_us)

    def look_under(self, sessions: Collection[str]) -> None:
        """These sessions may have ended elsewhere."""
        for session in sessions:
            if session in self._under:
                self._set(self._sessions, session, 0)

    def take_in(self, observed: Observed) -> None:
        """Another server has made this of the lease, and what changed was told."""
        over = {life.tenure.token for life in lives(observed) if life.state != "live"}
        if over:
            self._told.setdefault(observed.key, set()).update(over)
        self._follow(observed)
        self._on_opening(observed.key)

    async def run(self) -> None:
        """Look at what is due until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_at_all)
            nursery.start_soon(self._look_at_leases)
            nursery.start_soon(self._look_at_sessions)

    def _note_session(self, session: Session, origin: Origin) -> None:
        if session.id not in self._under:
            return
        if session.ended is None:
            self._set(self._sessions, session.id, session.ttl_us + 1)
        else:
            self._ended_by[session.id] = origin
            self._set(self._sessions, session.id, 0)

    async def _look_at_all(self) -> None:
        while self._unlisted is not None:
            try:
                async with aclosing(self._store.scan(self._unlisted, PAGE)) as leases:
                    page = [observed async for observed in leases]
            except StoreFault as fault:
                self._logger.warning("leases could not be listed at the start", error=str(fault))
                await trio.sleep(RETRY_US / 1_000_000)
                continue
            for observed in page:
                if observed.key not in self._early:
                    self._take_up(observed)
            self._unlisted = page[-1].key if len(page) == PAGE else None
            await trio.lowlevel.checkpoint()
        self._early.clear()
        self.listed.set()

    def _take_up(self, observed: Observed) -> None:
        """Know of a lease as it was found; what had ended by then is old news."""
        self._on_found(observed)
        for old in ended_by_now(observed, ()):
            self._told.setdefault(observed.key, set()).add(old.token)
            self._on_left_over(observed.key)
        self._follow(observed)

    async def _look_at_leases(self) -> None:
        while True:
            keys = await self._leases.next_due(PAGE)
            looked = await self._look(keys)
            for key in keys if looked is None else looked.unread:
                self._set(self._leases, key, RETRY_US)

    async def _look_at_sessions(self) -> None:
        while True:
            for session in await self._sessions.next_due(PAGE):
                await self._look_under(session)

    async def _look_under(self, session: str) -> None:
        """A session may be over: then so is all under it."""
        looked = await self._look((), session)
        if looked is None:
            self._set(self._sessions, session, RETRY_US)
            return
        seen = looked.reading.sessions.get(session)
        if seen is not None and seen.session.ended is None and seen.idle_us <= seen.session.ttl_us:
            self._set(self._sessions, session, seen.session.ttl_us - seen.idle_us + 1)
            return
        if seen is not None and seen.session.ended is None and self._is_writing(session):
            self._set(self._sessions, session, UNDER_WAY_US)
            return
        origin = self._ended_by.get(session, NOBODY)
        keys, again_us = sorted(self._under[session]), 0
        for start in range(0, len(keys), PAGE):
            looked = await self._look(keys[start : start + PAGE], session, origin)
            if looked is None:
                self._set(self._sessions, session, RETRY_US)
                return
            self._under[session] -= looked.judged
            again_us = RETRY_US if looked.unread else again_us
        if self._under[session]:
            # Written while it was read; the next look sees what became of it.
            self._set(self._sessions, session, again_us)
        else:
            del self._under[session]
            self._ended_by.pop(session, None)

    async def _look(
        self, keys: Collection[Key], session: str | None = None, origin: Origin = NOBODY
    ) -> "_Looked | None":
        """Read, and tell what has ended by now; None where the store could not be read."""
        with self.noting() as noted:
            try:
                reading = await self._read(keys, () if session is None else (session,))
            except PartlyRead as partly:
                self._logger.warning("some of what may have expired cannot be read", error=str(partly))
                if session in partly.failed:
                    return None
                reading = partly.reading
            except StoreFault as fault:
                self._logger.warning("what may have expired could not be read", error=str(fault))
                return None
        judged = reading.leases.keys() - noted
        for observed in reading.leases.values():
            if observed.key in judged:
                self._judge(observed, origin)
        return _Looked(reading, judged, [key for key in keys if key not in reading.leases])

    async def _read(self, keys: Collection[Key], sessions: Collection[str]) -> Reading:
        """What is remembered, as long as all of it lives: nothing is told to have ended by that.

        What hangs on sessions ends with them, and then it is enough to see these as they are now.
        """
        if self._recall is not None:
            remembered = self._recall(keys, sessions)
            if _all_live(remembered, sessions):
                await trio.lowlevel.checkpoint()
            elif sessions:
                await self._store.read((), sessions)
                remembered = self._recall(keys, sessions)
            else:
                return await self._store.read(keys, sessions)
            if len(remembered.leases) == len(keys):
                return remembered
        return await self._store.read(keys, sessions)

    def _judge(self, observed: Observed, origin: Origin) -> None:
        if self._is_writing(observed.key):
            self._set(self._leases, observed.key, UNDER_WAY_US)
            return
        told = self._told.get(observed.key, ())
        for each in ended_by_now(observed, told):
            self._told.setdefault(observed.key, set()).add(each.token)
            self._on_change(each, origin)
        self._follow(observed)
        if any(life.state != "live" for life in lives(observed)):
            self._on_left_over(observed.key)
        self._on_opening(observed.key)

    def _follow(self, observed: Observed, before: Observed | None = None) -> None:
        """Set the timers for what the lease is now, and forget what it was."""
        key, judged = observed.key, lives(observed)
        self._forget(key, judged_tokens={life.tenure.token for life in judged})
        under = {life.tenure.session for life in judged if life.state == "live" and life.tenure.session}
        for session in _sessions_of(before or observed) - under:
            if session in self._under:
                self._under[session].discard(key)
        for life in judged:
            session = life.tenure.session
            if session is not None and session in under:
                self._under[session].add(key)
                if self._sessions.due_us(session) is None:
                    self._set(self._sessions, session, life.left_us + 1)
        due = [
            life.left_us + 1
            for life in judged
            if life.state == "closed" or (life.state == "live" and life.tenure.session is None)
        ]
        if due:
            self._set(self._leases, key, min(due))
        else:
            self._leases.drop(key)

    def _forget(self, key: Key, judged_tokens: set[int]) -> None:
        told = self._told.get(key)
        if told is not None:
            told &= judged_tokens
            if not told:
                del self._told[key]

    def _set(self, timers: Timers[TargetT], target: TargetT, in_us: int) -> None:
        timers.set(target, self._clock.boot_us() + in_us)

    @contextmanager
    def noting(self) -> Generator[set[Key]]:
        """While the body reads, the leases that are written: what it reads of them may be old."""
        noted: set[Key] = set()
        self._noted[id(noted)] = noted
        try:
            yield noted
        finally:
            del self._noted[id(noted)]


def _all_live(reading: Reading, sessions: Collection[str]) -> bool:
    seen = [reading.sessions.get(session) for session in sessions]
    return all(
        each is not None and each.session.ended is None and each.idle_us <= each.session.ttl_us
        for each in seen
    ) and all(life.state == "live" for observed in reading.leases.values() for life in lives(observed))


def _sessions_of(observed: Observed) -> set[str]:
    if observed.record is None:
        return set()
    return {tenure.session for tenure in observed.record.tenures if tenure.session is not None}
