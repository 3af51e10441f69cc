"""Sweeper: writes down what time has ended, some time after it has, and forgets sessions long after their
end.

Nothing depends on it: a tenure ends at its instant, whether or not anybody writes so. The sweep lets
whoever reads the store itself see a free lease as free. Leases are kept for ever, with their tokens; a
session is of no use once the leases under it have been swept. It is told which leases have ended, and lists
the sessions once.
"""

from collections.abc import Sequence

import trio
from msgspec import Struct

from berth.core.names import Key
from berth.core.records import Session, SessionSeen
from berth.core.requests import Expire, Expired, NotExpired
from berth.core.sessions import EndSession
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.service.asking import Answer, Operation
from berth.service.rounds import Rounds, readable
from berth.service.timers import Timers
from berth.store.api import Store, StoreFault

PAGE = 500

FORGET_US = 3_600_000_000
"""So long after its last sign of life a session can still be looked up; far longer than any lock delay."""


class Sweeping(Struct, frozen=True):
    """`grace_seconds` after a tenure has ended it is due, and is swept with others every `interval_seconds`.

    An interval of 0 leaves what has ended as it is.
    """

    interval_seconds: float
    grace_seconds: float


class Sweeper:
    """`run` must be running for anything to be swept."""

    def __init__(
        self, store: Store, rounds: Rounds, *, clock: Clock, logger: Logger, sweeping: Sweeping
    ) -> None:
        self._store = store
        self._rounds = rounds
        self._clock = clock
        self._logger = logger
        self._interval_us = round(sweeping.interval_seconds * 1_000_000)
        self._grace_us = round(sweeping.grace_seconds * 1_000_000)
        # The leases under it are swept before it is forgotten.
        self._forget_us = max(FORGET_US, 2 * (self._grace_us + self._interval_us))
        self._timers = Timers[Key](clock)
        self._sessions = Timers[str](clock)

    def note_ended(self, key: Key) -> None:
        """A tenure has ended that the lease's record still has. A lease that waits to be swept is swept
        when it was to be.
        """
        if self._interval_us and self._timers.due_us(key) is None:
            self._set(key)

    def note_session(self, session: Session) -> None:
        """A session was written: look at it again once it has to be ended, or forgotten."""
        if not self._interval_us:
            return
        in_us = session.ttl_us + self._grace_us if session.ended is None else self._forget_us
        self._sessions.set(session.id, self._clock.boot_us() + in_us)

    async def run(self) -> None:
        """Sweep until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._interval_us:
                nursery.start_soon(self._list_sessions)
            nursery.start_soon(self._sweep_sessions)
            while True:
                await self._sweep(await self._timers.next_due(PAGE))

    async def _list_sessions(self) -> None:
        after = ""
        while True:
            try:
                page = (await self._store.sessions(after, PAGE)).sessions
            except StoreFault as fault:
                self._logger.warning("sessions could not be listed for the sweep", error=str(fault))
                await trio.sleep(self._interval_us / 1_000_000)
                continue
            for seen in page.values():
                if self._sessions.due_us(seen.session.id) is None:
                    self.note_session(seen.session)
            if len(page) < PAGE:
                return
            after = max(page)
            await trio.lowlevel.checkpoint()

    async def _sweep_sessions(self) -> None:
        while True:
            due = await self._sessions.next_due(PAGE)
            try:
                reading, failed = await readable(self._store, (), due)
                found = reading.sessions
                await self._store.forget([each for each in found if self._is_of_no_use(found[each])])
            except StoreFault as fault:
                self._logger.warning("sessions could not be swept", error=str(fault))
                for session in due:
                    self._sessions.set(session, self._clock.boot_us() + self._interval_us)
                continue
            for session in [each for each in due if each in failed]:
                self._sessions.set(session, self._clock.boot_us() + self._interval_us)
            for seen in found.values():
                # Where it has expired its end is written below, and noted; else it lives on.
                if not self._is_of_no_use(seen):
                    self.note_session(seen.session)
            doubtful = [each for each, seen in found.items() if seen.session.ended is None]
            await self._rounds.submit([Operation(session, EndSession("expired")) for session in doubtful])

    async def _sweep(self, keys: Sequence[Key]) -> None:
        answers = await self._rounds.submit([Operation(key, Expire()) for key in keys])
        for key, answer in zip(keys, answers, strict=True):
            self._note_answer(key, answer)
        swept = sum(isinstance(answer, Expired) for answer in answers)
        self._logger.debug("swept expired leases", looked_at=len(keys), swept=swept)

    def _note_answer(self, key: Key, answer: Answer) -> None:
        if isinstance(answer, NotExpired) and answer.due_in_us is not None:
            self._set(key, answer.due_in_us)
        elif isinstance(answer, Exception):
            self._logger.warning("an expired lease could not be swept", lease=str(key), error=str(answer))
            self._set(key)

    def _set(self, key: Key, in_us: int = 0) -> None:
        """Due times are whole intervals, so that one sweep takes all that fell due within one."""
        due_us = self._clock.boot_us() + in_us + self._grace_us
        self._timers.set(key, -(-due_us // self._interval_us) * self._interval_us)

    def _is_of_no_use(self, seen: SessionSeen) -> bool:
        """By the store's own time, which is what lock delays go by."""
        return seen.session.ended is not None and seen.idle_us >= self._forget_us
