"""Sweeper: writes down what time has ended, some time after it has.

Nothing depends on it: a tenure ends at its instant, whether or not anybody writes so. The sweep lets whoever
reads the store itself see a free lease as free. It is told which leases have ended, and lists nothing.
"""

from collections.abc import Sequence

from msgspec import Struct

from berth.core.names import Key
from berth.core.requests import Expire, Expired, NotExpired
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.service.asking import Answer, Operation
from berth.service.rounds import Rounds
from berth.service.timers import Timers

PAGE = 500


class Sweeping(Struct, frozen=True):
    """`grace_seconds` after a tenure has ended it is due, and is swept with others every `interval_seconds`.

    An interval of 0 leaves what has ended as it is.
    """

    interval_seconds: float
    grace_seconds: float


class Sweeper:
    """`run` must be running for anything to be swept."""

    def __init__(self, rounds: Rounds, *, clock: Clock, logger: Logger, sweeping: Sweeping) -> None:
        self._rounds = rounds
        self._clock = clock
        self._logger = logger
        self._interval_us = round(sweeping.interval_seconds * 1_000_000)
        self._grace_us = round(sweeping.grace_seconds * 1_000_000)
        self._timers = Timers[Key](clock)

    def note_ended(self, key: Key) -> None:
        """A tenure has ended that the lease's record still has. A lease that waits to be swept is swept
        when it was to be.
        """
        if self._interval_us and self._timers.due_us(key) is None:
            self._set(key)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self._sweep(await self._timers.next_due(PAGE))

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
