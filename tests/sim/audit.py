"""Audit: what one store was told to keep, and whether every change of it had a cause.

Owns a second opinion on each write that won, by the store's own machine clock and by the requests that had
arrived, without `berth.core`. Promises to tell the ledger when

- a token was given twice or did not grow (S2);
- a tenure ended that was neither given up, forced, nor outlived by its ttl (or by that of its session, which
  must have been ended first), or ended before its lock delay was over;
- more tenures stood than the lease has places;
- a caller was told that it holds something without a write made for that very request (S4).

It knows nothing across two lives of a memory store, each of which has an audit of its own.
"""

from collections import deque
from typing import Literal, NamedTuple

import trio

from berth.core.names import Key
from berth.core.records import Record, Session, Tenure
from berth.runtime.clock import MICROSECONDS, Clock
from tests.sim.engine import Process, current_process
from tests.sim.ledger import Ledger

Cause = Literal["release", "force", "expiry", "session expiry", "session clean", "session forced"]

TAKEN_AFTER: dict[Cause, str] = {
    "release": "a clean hand-over",
    "force": "a takeover after force",
    "expiry": "a takeover after expiry",
    "session expiry": "a takeover after the expiry of a session",
    "session clean": "a clean hand-over by the end of a session",
    "session forced": "a takeover after the forced end of a session",
}


class _Write(NamedTuple):
    """A lease write that won: the tenures in it, and those of them that it renewed."""

    at: float
    standing: frozenset[tuple[str, int]]
    renewed: frozenset[tuple[str, int]]


class Audit:
    """The judgement of one store's writes."""

    def __init__(self, ledger: Ledger, clock: Clock, places: dict[Key, int]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._places = places
        self._records: dict[Key, Record] = {}
        self._sessions: dict[str, Session] = {}
        self._marks: dict[tuple[Key, int] | str, int] = {}
        self._writes: dict[Key, deque[_Write]] = {}
        self._beginnings: dict[tuple[Key, int], tuple[float, Process | None]] = {}
        self._forced_at: dict[tuple[Key, int], float] = {}
        self._session_writes: dict[str, float] = {}
        self._asked: set[tuple[object, ...]] = set()
        self._last_end: dict[Key, tuple[Cause | None, str]] = {}

    def asked(self, *what: object) -> None:
        """A request that ends something has arrived: ("release", key, holder, token) and so on."""
        self._asked.add(what)

    def wrote(self, write: Record | Session) -> None:
        """The write has won, now."""
        if isinstance(write, Record):
            self._wrote_record(write)
        else:
            self._wrote_session(write)

    def granted(self, key: Key, holder: str, token: int, since: float) -> None:
        """A caller whose request came at `since` is being told that it holds the lease."""
        record = self._records.get(key)
        tenure = next((one for one in record.tenures if one.token == token), None) if record else None
        by_session = tenure is not None and tenure.session is not None
        for write in reversed(self._writes.get(key, ())):
            if write.at < since:
                break
            if (holder, token) in (write.standing if by_session else write.renewed):
                return
            if (holder, token) not in write.standing and self._asked_to_end(key, holder, token):
                return  # one write carries all requests of a round: the grant and its end
        self._ledger.fail(
            f"S4: {holder} is told that it holds {key} by token {token}, and nothing was written"
        )

    def told_force(self, key: Key, token: int, may_act_seconds: float) -> None:
        """Somebody is being told for how long a tenure that was ended by force may still be acted on."""
        since_seconds = trio.current_time() - self._forced_at[key, token]
        self._ledger.excuse(key, token, may_act_seconds - since_seconds)

    def _asked_to_end(self, key: Key, holder: str, token: int) -> bool:
        return ("release", key, holder, token) in self._asked or ("force", key, token) in self._asked

    def is_news(self, key: Key, token: int, since: float) -> bool:
        """Whether the request that came at `since` is the first that is told of a tenure begun after that,
        by its own server.
        """
        began, process = self._beginnings.pop((key, token), (-1.0, None))
        return began >= since and process is current_process()

    def alive(self, session: str, since: float) -> None:
        """The same for a session."""
        if self._session_writes.get(session, -1.0) < since:
            self._ledger.fail(f"S4: session {session} is told to be alive, and nothing was written")

    def _wrote_record(self, record: Record) -> None:
        key, now_us = record.key, self._clock.boot_us()
        before = self._records.get(key)
        kept = {tenure.token for tenure in record.tenures}
        for tenure in before.tenures if before else ():
            if tenure.token not in kept:
                assert before is not None
                self._ended(before, tenure, now_us)
        known = {tenure.token for tenure in before.tenures} if before else set[int]()
        for tenure in record.tenures:
            if tenure.mark is None:
                self._marks[key, tenure.token] = now_us
            if tenure.token not in known:
                self._began(record, before, tenure)
        if len(record.tenures) > self._places[key]:
            self._ledger.fail(f"places: {key} has {len(record.tenures)} tenures")
        self._records[key] = record
        writes = self._writes.setdefault(key, deque(maxlen=500))
        standing = frozenset((tenure.holder, tenure.token) for tenure in record.tenures)
        renewed = frozenset((one.holder, one.token) for one in record.tenures if one.mark is None)
        writes.append(_Write(trio.current_time(), standing, renewed))

    def _began(self, record: Record, before: Record | None, tenure: Tenure) -> None:
        key = record.key
        self._ledger.note("granted", key, tenure.holder, tenure.token)
        self._beginnings[key, tenure.token] = (trio.current_time(), current_process())
        highest = before.token if before else 0
        if tenure.token <= highest:
            self._ledger.fail(f"S2: token {tenure.token} of {key} after {highest}")
        cause, holder = self._last_end.get(key, (None, ""))
        if self._places[key] == 1 and cause and holder != tenure.holder:
            self._ledger.seen[TAKEN_AFTER[cause]] += 1

    def _ended(self, before: Record, tenure: Tenure, now_us: int) -> None:
        cause = self._cause(before, tenure, now_us)
        self._ledger.note("ended", before.key, tenure.holder, tenure.token, cause or "without a cause")
        self._last_end[before.key] = (cause, tenure.holder)
        if cause is None:
            tenure_of = f"{tenure.holder} under {before.key} token {tenure.token}"
            self._ledger.fail(f"cause: the tenure of {tenure_of} ended without one")

    def _cause(self, before: Record, tenure: Tenure, now_us: int) -> Cause | None:
        key = before.key
        if ("force", key, tenure.token) in self._asked:
            # Until it is told how long: a renewal in the same round may have begun the ttl anew.
            session = self._sessions[tenure.session] if tenure.session is not None else None
            ttl_us = tenure.ttl_us if session is None else session.ttl_us
            self._ledger.excuse(key, tenure.token, ttl_us / MICROSECONDS)
            self._forced_at[key, tenure.token] = trio.current_time()
            return "force"
        if ("release", key, tenure.holder, tenure.token) in self._asked:
            return "release"
        if tenure.session is not None:
            session = self._sessions[tenure.session]
            if session.ended is None:
                return None
            if session.ended != "expired":
                return "session clean" if session.ended == "clean" else "session forced"
        over = self._left_us(key, tenure, now_us) + before.lock_delay_us < 0
        if not over:
            return None
        return "expiry" if tenure.session is None else "session expiry"

    def _left_us(self, key: Key, tenure: Tenure, now_us: int) -> int:
        if tenure.session is None:
            return tenure.ttl_us - (now_us - self._marks[key, tenure.token])
        return self._session_left_us(self._sessions[tenure.session], now_us)

    def _session_left_us(self, session: Session, now_us: int) -> int:
        return session.ttl_us - (now_us - self._marks[session.id])

    def _wrote_session(self, session: Session) -> None:
        now_us = self._clock.boot_us()
        before = self._sessions.get(session.id)
        if before is not None and before.ended is not None:
            self._ledger.fail(f"cause: session {session.id} was written after its end")
        if session.ended is not None:
            self._ledger.note("session ended", session.holder, session.ended)
            left_us = self._session_left_us(session, now_us)
            asked = session.ended == "expired" or ("end", session.id) in self._asked
            if not asked or (session.ended == "expired" and left_us >= 0):
                self._ledger.fail(f"cause: session {session.id} of {session.holder} ended without one")
            if session.ended == "forced":
                self._excuse_all(session, left_us)
        if session.mark is None:
            self._marks[session.id] = now_us
            self._session_writes[session.id] = trio.current_time()
        self._sessions[session.id] = session

    def _excuse_all(self, session: Session, left_us: int) -> None:
        for key, record in self._records.items():
            for tenure in record.tenures:
                if tenure.session == session.id:
                    self._ledger.excuse(key, tenure.token, max(0, left_us) / MICROSECONDS)
