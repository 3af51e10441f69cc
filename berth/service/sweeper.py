"""Sweeper: writes down what time has ended, some time after it has.

Nothing depends on it: a tenure ends at its instant, whether or not anybody writes so. The sweep lets whoever
reads the store itself see a free lease as free. It reads each lease once at the start and from then on knows
from the changes when to look again; it never lists everything a second time.
"""

from collections.abc import Sequence
from contextlib import aclosing

import trio
from msgspec import Struct

from berth.core.names import Key
from berth.core.records import Record
from berth.core.requests import Expire, Expired, NotExpired
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.service.rounds import Answer, Change, Operation, Rounds
from berth.service.timers import Timers
from berth.store.api import Store, StoreFault

PAGE = 500


class Sweeping(Struct, frozen=True):
    """`grace_seconds` after a tenure has ended it is due, and is swept with others every `interval_seconds`.

    An interval of 0 leaves what has ended as it is.
    """

    interval_seconds: float
    grace_seconds: float


class Sweeper:
    """`run` must be running for anything to be swept."""

    def __init__(
        self,
        store: Store,
        rounds: Rounds,
        *,
        clock: Clock,
        logger: Logger,
        sweeping: Sweeping,
    ) -> None:
        assert sweeping.interval_seconds > 0
        self._store = store
        self._rounds = rounds
        self._clock = clock
        self._logger = logger
        self._interval_us = round(sweeping.interval_seconds * 1_000_000)
        self._grace_us = round(sweeping.grace_seconds * 1_000_000)
        self._timers = Timers(clock)

    def note(self, change: Change) -> None:
        """A lease was written: look at it again once what it holds may have ended."""
        self._note_record(change.record)

    async def run(self) -> None:
        """Sweep until cancelled."""
        await self._note_all()
        while True:
            await self._sweep(await self._timers.next_due(PAGE))

    async def _note_all(self) -> None:
        after: Key | None = None
        while True:
            try:
                async with aclosing(self._store.scan(after, PAGE)) as leases:
                    page = [observed async for observed in leases]
            except StoreFault as fault:
                self._logger.warning("leases could not be listed for the sweep", error=str(fault))
                await trio.sleep(self._interval_us / 1_000_000)
                continue
            for observed in page:
                if observed.record is not None:
                    self._note_record(observed.record)
            if len(page) < PAGE:
                return
            after = page[-1].key
            await trio.lowlevel.checkpoint()

    async def _sweep(self, keys: Sequence[Key]) -> None:
        answers = await self._rounds.submit([Operation(key, Expire()) for key in keys])
        swept = sum(isinstance(answer, Expired) for answer in answers)
        for key, answer in zip(keys, answers, strict=True):
            self._note_answer(key, answer)
        self._logger.debug("swept expired leases", looked_at=len(keys), swept=swept)

    def _note_answer(self, key: Key, answer: Answer) -> None:
        if isinstance(answer, NotExpired) and answer.due_in_us is not None:
            self._set(key, answer.due_in_us)
        elif isinstance(answer, Exception):
            self._logger.warning("an expired lease could not be swept", lease=str(key), error=str(answer))
            self._set(key, 0)

    def _note_record(self, record: Record) -> None:
        if record.tenures:
            self._set(record.key, min(tenure.ttl_us for tenure in record.tenures))
        else:
            self._timers.drop(record.key)

    def _set(self, key: Key, in_us: int) -> None:
        """Due times are whole intervals, so that one sweep takes all that fell due within one."""
        due_us = self._clock.boot_us() + in_us + self._grace_us
        self._timers.set(key, -(-due_us // self._interval_us) * self._interval_us)
