"""Book: all leases that are kept or contended for, and what is to be done about each.

Owns the entries, the groups and the sessions, and who is told when. Promises that a change of a standing is
told at once, and none twice; that every tenure under a session learns of its end at once; and that the clocks
are looked at before anything moves a deadline. It asks no server: who does takes from here what is due.
"""

from collections.abc import Callable, Iterable, Iterator
from math import inf
from random import Random

import trio

from berth.client.keeper import LOOK_SECONDS
from berth.client.strays import LATE_SECONDS
from berth.client.tenures.agenda import Agenda
from berth.client.tenures.entry import Entry
from berth.client.tenures.session import Group, Session, Tenure
from berth.client.tenures.terms import LeaseId, Terms
from berth.core.holding import Reading
from berth.runtime.clock import MICROSECONDS
from berth.wire.shapes import AcquireReply, LeaseObject

Key = tuple[str, str]

Entries = dict[Entry, None]
"""A set that keeps its order."""


class Book:
    """The state of `Tenures`."""

    def __init__(self, now: Callable[[], Reading], rng: Random, on_change: Callable[[LeaseId], None]) -> None:
        self.now = now
        self.rng = rng
        self._on_change = on_change
        self.agenda = Agenda()
        self.groups: dict[tuple[str, int], Group] = {}
        self.sessions: dict[str, Session] = {}
        self.where: dict[LeaseId, Session] = {}
        """Leases that a process before left under another session than the one of their group."""
        self._entries: dict[LeaseId, Entry] = {}
        self._by_key: dict[Key, list[Entry]] = {}
        self._stalled: Entries = {}
        """To be asked when the session has been renewed."""
        self._unconfirmed: Entries = {}
        self._unwanted: Entries = {}
        self._overdue: Entries = {}
        """Seen to be lost by who asked, and not told yet."""
        self.sooner = trio.Event()
        """Set when a deadline may come sooner than was known; then there is a new one."""
        self.grown = trio.Event()
        """Set when there is a new group; then there is a new one."""

    def find(self, lease: LeaseId) -> Entry | None:
        return self._entries.get(lease)

    def entries(self) -> Iterable[Entry]:
        return self._entries.values()

    def enter(self, lease: LeaseId, terms: Terms) -> Entry:
        """The entry of a lease, a new one if there is none."""
        entry = self._entries.get(lease)
        if entry is None:
            entry = self._entries[lease] = Entry(lease, terms, self._group(lease.holder, terms.ttl_seconds))
            self._by_key.setdefault(lease[:2], []).append(entry)
        return entry

    def want(self, lease: LeaseId, terms: Terms, recorded_token: int) -> None:
        new = lease not in self._entries
        entry = self.enter(lease, terms)
        if new and recorded_token:
            entry.tenure = Tenure(recorded_token, None, terms.exclusive, self.now())
            self._unconfirmed[entry] = None
            if terms.resume_us < LOOK_SECONDS * MICROSECONDS:
                self._deadline_moved()
        if entry.wanted and not entry.resting and entry.terms == terms:
            return
        entry.wanted, entry.resting = True, False
        if entry.terms != terms:
            entry.change(terms, self._group(lease.holder, terms.ttl_seconds))
            self._bound(entry)
        entry.is_news()  # who wants it knows
        entry.group.want()
        for session in self._sessions_of(entry):
            if terms.heartbeat_seconds < session.heartbeat_seconds:
                session.renew_now()
        self.ask(entry)

    def leave(self, entry: Entry) -> None:
        entry.leave()
        self._unwanted[entry] = None
        entry.is_news()
        if entry.ending:
            self.ask(entry)

    def again(self, entry: Entry) -> None:
        entry.stopped()
        entry.is_news()
        entry.group.want()
        self.ask(entry)

    def give_up(self, entry: Entry, token: int) -> None:
        """Nothing runs under the tenure any more: it is to end, whatever comes of the first attempt."""
        entry.ending.add(token)
        entry.resting = True
        if not entry.wanted:
            self._unwanted[entry] = None
        if entry.tenure is not None and entry.tenure.token == token:
            entry.loss = entry.loss or "released"
            if entry.spare is not None:
                entry.ending.add(entry.spare.token)
        self.ask(entry)

    def forget_idle(self) -> None:
        """Forget what is not wanted any more, once no late request can have taken it."""
        late = trio.current_time() - LATE_SECONDS
        self._unwanted = {entry: None for entry in self._unwanted if not entry.wanted}
        for entry in [entry for entry in self._unwanted if entry.idle and entry.asked_at < late]:
            del self._unwanted[entry]
            del self._entries[entry.lease]
            self._by_key[entry.lease[:2]].remove(entry)
            if not self._by_key[entry.lease[:2]]:
                del self._by_key[entry.lease[:2]]
            self.agenda.strike(entry)
            self._stalled.pop(entry, None)

    # What is due.

    def ask(self, entry: Entry, after_seconds: float = 0.0) -> None:
        """The entry is to be seen to, then or before."""
        self.agenda.put(entry, after_seconds)

    def session_to_ask(self, entry: Entry) -> Session | None:
        """Under what to ask for the lease. None: not now; it is due again when there is something."""
        session = self._session_of(entry)
        if session is None:
            return None
        if entry.exclusive and not session.leaves_time(session.budget_us(entry.terms), self.now()):
            self.stall(entry, session)
            return None
        return session

    def stall(self, entry: Entry, session: Session) -> None:
        """Ask when the session has been renewed, which is to be now."""
        self._stalled[entry] = None
        session.renew_now()

    def wants(self, group: Group) -> bool:
        """Whether the group needs a session."""
        return any(entry.group is group and entry.wanted for entry in self._entries.values())

    def needs(self, session: Session) -> bool:
        """Whether the session is to be kept."""
        if any(entry.hangs_on(session) for entry in self._entries.values()):
            return True
        group = self.groups.get((session.holder, session.ttl_seconds))
        return group is not None and group.session is session and self.wants(group)

    def heartbeat_seconds(self, session: Session) -> float:
        """The least that is asked for by what hangs on the session or is asked for under it."""
        asked = (each.terms.heartbeat_seconds for each in self._of(session))
        return min(session.ttl_seconds / 3, *asked, inf)

    # What the server says.

    def opened(self, session: Session, group: Group | None) -> None:
        """The session can be used from now on; `group` asks under it."""
        self.sessions[session.id] = session
        if group is not None:
            group.session, group.trouble = session, ""
            self._ask_all(entry for entry in self._entries.values() if entry.group is group)
            self._settle(list(self._entries.values()))

    def renewed(self, session: Session, sent: Reading, *, confirm: bool) -> None:
        """The session was renewed by a request that was sent then. `confirm`: nothing is heard of losses."""
        self.look(self.now())
        session.renewed(sent)
        stalled = [entry for entry in self._stalled if self._session_of(entry) is session]
        for entry in stalled:
            del self._stalled[entry]
        for entry in stalled:
            if entry.claim(self.now()):
                self._bound(entry)
            else:
                self.ask(entry)
        self._settle(stalled)
        if confirm:
            self._ask_all(self._of(session))
        if session.trouble:
            session.trouble = ""
            self._settle(list(self._of(session)))

    def silent(self, session: Session, trouble: str) -> None:
        """The session could not be renewed, or nobody knows."""
        session.trouble = trouble
        self._settle(list(self._of(session)))

    def no_session(self, group: Group, trouble: str) -> None:
        group.trouble = trouble
        self._settle([entry for entry in self._entries.values() if entry.group is group])

    def over(self, session: Session) -> None:
        """The session has ended, and everything under it."""
        session.over = True
        self.dropped(session)
        touched = [entry for entry in self._entries.values() if entry.hangs_on(session)]
        for entry in touched:
            entry.over(session)
        self._ask_all(touched)
        self._settle(touched)

    def dropped(self, session: Session) -> None:
        """The session is not kept any more."""
        del self.sessions[session.id]
        session.gone.set()
        for lease in [lease for lease, each in self.where.items() if each is session]:
            del self.where[lease]
        for group in self.groups.values():
            if group.session is session:
                group.session = None
                group.want()
        self._stalled = {entry: None for entry in self._stalled if self._session_of(entry) is not None}

    def granted(
        self, entry: Entry, reply: AcquireReply, session: Session, terms: Terms, in_place_of: int | None
    ) -> None:
        if entry.granted(reply, session, terms, in_place_of, self.now()):
            self.stall(entry, session)
        else:
            self.where.pop(entry.lease, None)
        self._bound(entry)
        self._settle([entry])

    def denied(self, entry: Entry, holder: str, reason: str) -> None:
        entry.denied(holder, reason)
        self.where.pop(entry.lease, None)
        self._settle([entry])

    def troubled(self, entry: Entry, trouble: str) -> None:
        entry.trouble = trouble
        self._settle([entry])

    def asked(self, entry: Entry) -> None:
        """What was asked of the entry has been answered; what came up meanwhile is due now."""
        entry.asking = False
        if entry.ending or (entry.news and entry.tenure is None):
            self.ask(entry)

    def ended(self, entry: Entry, tokens: Iterable[int]) -> None:
        entry.ended([*tokens])
        if not entry.ending and entry.tenure is None:
            self.ask(entry)
        self._settle([entry])

    def sighted(self, seen: LeaseObject) -> None:
        """A lease stood so at some time past, as a list or a change tells."""
        for entry in [*self._by_key.get((seen.namespace, seen.name), ())]:
            ours = next((each for each in seen.holders if each.holder == entry.lease.holder), None)
            session = self.sessions.get(ours.session) if ours is not None else None
            if entry.sighted(seen, ours, session, self._session_of(entry)):
                if entry.asking:
                    entry.news = True
                else:
                    self.ask(entry)
            self._settle([entry])

    # What the clocks say.

    def look(self, now: Reading) -> None:
        """Find what is lost by now, and tell it."""
        lost, self._overdue = [*self._overdue], {}
        for session in self.sessions.values():
            if session.strictest_us is not None and session.left_us(session.strictest_us, now) <= 0:
                under = [entry for entry in self._entries.values() if entry.hangs_on(session)]
                lost += [entry for entry in under if entry.look(now)]
                session.strictest_us = None
                for entry in under:
                    self._bound(entry)
        lost += [entry for entry in self._unconfirmed if entry.look(now)]
        self._unconfirmed = {entry: None for entry in self._unconfirmed if entry.is_unconfirmed}
        self._settle(lost)

    def look_at(self, entry: Entry) -> None:
        """The same for who asks of one lease; he knows it then, and is told all the same."""
        if entry.look(self.now()):
            self._overdue[entry] = None
            self._deadline_moved()

    def next_look_us(self, now: Reading) -> float:
        """How long until a deadline passes if nothing is heard."""
        left = [
            session.left_us(session.strictest_us, now)
            for session in self.sessions.values()
            if session.strictest_us is not None
        ]
        left += [us for entry in self._unconfirmed if (us := entry.left_us(now)) is not None]
        return 0 if self._overdue else max(0, min(left, default=inf))

    # The book's own affairs.

    def _group(self, holder: str, ttl_seconds: int) -> Group:
        group = self.groups.get((holder, ttl_seconds))
        if group is None:
            group = self.groups[holder, ttl_seconds] = Group(holder, ttl_seconds)
            self.grown.set()
            self.grown = trio.Event()
        return group

    def _session_of(self, entry: Entry) -> Session | None:
        held = entry.tenure.session if entry.tenure is not None else None
        if held is not None and not held.over:
            return held
        return self.where.get(entry.lease) or entry.group.session

    def _sessions_of(self, entry: Entry) -> Iterator[Session]:
        session = self._session_of(entry)
        if session is not None:
            yield session

    def _of(self, session: Session) -> Iterator[Entry]:
        for entry in self._entries.values():
            if entry.hangs_on(session) or (entry.wanted and self._session_of(entry) is session):
                yield entry

    def _bound(self, entry: Entry) -> None:
        """See that the session knows of the entry's deadline."""
        tenure = entry.tenure
        if tenure is None or tenure.session is None or not tenure.exclusive or entry.loss is not None:
            return
        session = tenure.session
        budget_us = session.budget_us(entry.terms, tenure.budget_us)
        if session.strictest_us is None or budget_us > session.strictest_us:
            session.strictest_us = budget_us
            self._deadline_moved()

    def _deadline_moved(self) -> None:
        self.sooner.set()
        self.sooner = trio.Event()

    def _ask_all(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.ask(entry)

    def _settle(self, entries: Iterable[Entry]) -> None:
        """Tell of those whose standing is another one by now."""
        for entry in entries:
            if entry.is_news():
                self._on_change(entry.lease)
