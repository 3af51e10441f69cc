"""Doubts: when a database's clock, or its content, is not what this process has reason to rely on.

Owns what follows from them. A clock that steps forward would end leases early: what expired only by that
clock stays closed for as long as its ttl, counted by this process's boot clock. A database that turned out
to be another than before (a standby that was promoted, a restored backup) may have lost its last writes:
nothing is granted for as long as those may still hold, and no token is given that they may have given. What
a database must have, if it is the one of before, is what this process was last told to have won.
Promises to judge each by itself alone, without talking to anybody; so a process that was started after a
step knows nothing of it. A clock that steps back only lets leases live longer.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from berth.core.names import Key
from berth.core.records import Observed, Quarantine, Record, Session, SessionSeen
from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.log import Logger
from berth.store.api import Reading, Write

STEP_US = 500_000
"""So far may a database's clock be from where it should be, before that counts as a step."""

RATE_PPM = 1_000
"""How much faster or slower than real time any of the clocks may run."""

TOKEN_JUMP = 1_000
"""More tenures of one lease than this are not lost at once."""


class Head(NamedTuple):
    """What a database tells of itself with every reading, at the instant `now_us` of its clock.

    `changed_at_us` is when the incarnation last grew, None if it never did.
    """

    now_us: int
    incarnation: int
    changed_at_us: int | None
    ttl_max_us: int


class Known(NamedTuple):
    """What a database has that did not lose anything: an incarnation no less than this one and, while it is
    this one, a lease and a session of no less than these versions; 0 stands for none.

    A lease is never deleted. A session may be, once it has ended.
    """

    incarnation: int = 0
    namespace: str = ""
    name: str = ""
    lease_version: int = 0
    session: str = ""
    session_version: int = 0


def stretched_us(duration_us: int) -> int:
    """At least `duration_us` of real time, whichever of two clocks measures it."""
    return duration_us + 2 * duration_us * RATE_PPM // MICROSECONDS + 1


class ClockWatch:
    """How far the database's clock is ahead of the boot clock: an interval that every answer narrows."""

    def __init__(self) -> None:
        self._least_us = self._most_us = 0
        self._at_us: int | None = None

    def step_us(self, sent_us: int, now_us: int, received_us: int) -> int:
        """How far the clock has stepped, at least: forward, back (negative), or not that one could tell.

        The database read `now_us` at some time between sending and receiving.
        """
        least_us, most_us = now_us - received_us, now_us - sent_us
        if self._at_us is None:
            self._set(least_us, most_us, received_us)
            return 0
        drift_us = abs(received_us - self._at_us) * RATE_PPM // MICROSECONDS
        low_us, high_us = self._least_us - drift_us, self._most_us + drift_us
        stepped_us = max(0, least_us - high_us) or min(0, most_us - low_us)
        if abs(stepped_us) > STEP_US:
            self._set(least_us, most_us, received_us)
            return stepped_us
        if not stepped_us:
            self._set(max(low_us, least_us), min(high_us, most_us), received_us)
        # Small steps in between move nothing, so that many of them add up to one that counts.
        return 0

    def _set(self, least_us: int, most_us: int, at_us: int) -> None:
        self._least_us, self._most_us, self._at_us = least_us, most_us, at_us


class Doubts:
    """What one process knows against one database."""

    def __init__(self, clock: Clock, logger: Logger) -> None:
        self._clock = clock
        self._logger = logger
        self._watch = ClockWatch()
        self._stepped_at_us: int | None = None
        self._incarnation = 0
        self._lost_until_us = 0
        self._known = Known()

    @property
    def known(self) -> Known:
        """What the database must have. What was written in an earlier incarnation may have been lost."""
        if self._known.incarnation < self._incarnation:
            self._known = Known(self._incarnation)
        return self._known

    def note_won(self, before: Known, writes: Sequence[Write], won: Collection[Key | str]) -> None:
        """Keep the last of what has won in mind. `before` is what was `known` when it was sent."""
        known = self.known
        if before.incarnation != known.incarnation:
            return
        lease = next(
            (each for each in reversed(writes) if isinstance(each, Record) and each.key in won), None
        )
        session = next(
            (each for each in reversed(writes) if isinstance(each, Session) and each.id in won), None
        )
        if lease is not None:
            known = known._replace(namespace=lease.key[0], name=lease.key[1], lease_version=lease.version)
        if session is not None:
            known = known._replace(session=session.id, session_version=session.version)
        self._known = known

    def boot_us(self) -> int:
        """The present, to be read before a call is sent."""
        return self._clock.boot_us()

    def note_clock(self, sent_us: int, now_us: int) -> None:
        """Compare the database's clock, as the answer to a call told it, with the boot clock."""
        received_us = self._clock.boot_us()
        step_us = self._watch.step_us(sent_us, now_us, received_us)
        if step_us:
            self._logger.error("the database's clock has stepped", seconds=step_us / MICROSECONDS)
        if step_us > 0:
            self._stepped_at_us = received_us

    def note(self, sent_us: int, head: Head) -> None:
        """Take in what a database told with a reading."""
        self.note_clock(sent_us, head.now_us)
        if head.incarnation > self._incarnation:
            self._incarnation = head.incarnation
            assert head.changed_at_us is not None
            left_us = head.changed_at_us + stretched_us(head.ttl_max_us) - head.now_us
            self._lost_until_us = max(self._lost_until_us, self._clock.boot_us() + left_us)
            if left_us > 0:
                self._logger.error(
                    "the database is not the one it was, its last writes may be lost: nothing is granted",
                    seconds=left_us / MICROSECONDS,
                    incarnation=head.incarnation,
                )

    def judged(self, reading: Reading, issued: Mapping[Key, int]) -> Reading:
        """The reading, with what speaks against it. `issued` has the incarnation of each lease's token."""
        loss = self._loss()
        stepped_at_us = self._stepped_at_us
        if loss is None and stepped_at_us is None and not self._incarnation:
            return reading
        sessions = reading.sessions
        if stepped_at_us is not None:
            sessions = {each: self._spared(seen) for each, seen in sessions.items()}
        leases: dict[Key, Observed] = {}
        for key, observed in reading.leases.items():
            leases[key] = replace(
                observed,
                sessions=sessions,
                quarantine=loss or self._quarantine(observed),
                token_floor=self._floor(observed, issued.get(key, 0)),
            )
        return replace(reading, leases=leases, sessions=sessions)

    def _loss(self) -> Quarantine | None:
        left_us = self._lost_until_us - self._clock.boot_us()
        return Quarantine("loss", left_us) if left_us > 0 else None

    def _since_step_us(self) -> int:
        assert self._stepped_at_us is not None
        return self._clock.boot_us() - self._stepped_at_us

    def _quarantine(self, observed: Observed) -> Quarantine | None:
        """As long as what was renewed just before the step may live, the lease's own lock delay included."""
        record = observed.record
        if self._stepped_at_us is None or record is None or not record.tenures:
            return None
        under = [observed.sessions.get(tenure.session or "") for tenure in record.tenures]
        longest_us = max(
            tenure.ttl_us if seen is None else seen.session.ttl_us
            for tenure, seen in zip(record.tenures, under, strict=True)
        )
        left_us = stretched_us(longest_us + record.lock_delay_us) - self._since_step_us()
        return Quarantine("clock", left_us) if left_us > 0 else None

    def _spared(self, seen: SessionSeen) -> SessionSeen:
        """A session is not ended on the word of a clock that has stepped."""
        ttl_us = seen.session.ttl_us
        if seen.idle_us <= ttl_us or stretched_us(ttl_us) <= self._since_step_us():
            return seen
        return SessionSeen(seen.session, ttl_us)

    def _floor(self, observed: Observed, issued: int) -> int:
        token = observed.record.token if observed.record is not None else 0
        behind = self._incarnation - (issued if observed.record is not None else 0)
        if behind <= 0:
            return 0
        return token + TOKEN_JUMP * behind - (1 if observed.record is not None else 0)
