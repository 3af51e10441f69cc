"""Renewing: many leases kept alive at once, which is nearly all that a server ever does.

Owns the short way for a large batch of nothing but renewals: a round of its own, which waits for no other
and mixes with none. What it promises is what `Rounds` promises. Each renewal is decided by the same
function, on a reading that began after it was asked, and none is answered before its write is known to have
won; those that lose go through the rounds as if they had been asked alone.
"""

from collections.abc import Callable, Mapping

import trio

from berth.core.decide import decide_renewal
from berth.core.names import Key
from berth.core.records import Record
from berth.core.requests import Renew, Renewed
from berth.service.asking import Answer, Operation, Renewal
from berth.service.rounds import GIVE_WAY_EVERY, Rounds
from berth.store.api import Reading, Store, StoreFault

WORTH_IT = 64
"""Fewer go with the rounds, where all callers share a transaction."""


class Renewing:
    """`on_renewals` is told of what has been renewed."""

    def __init__(self, store: Store, rounds: Rounds, *, on_renewals: Callable[[list[Renewal]], None]) -> None:
        self._store = store
        self._rounds = rounds
        self._on_renewals = on_renewals
        self._under_way: list[Mapping[Key, Renew]] = []

    def is_writing(self, key: Key) -> bool:
        """Whether a renewal of the lease is under way."""
        return any(key in asked for asked in self._under_way)

    async def renew(self, asked: Mapping[Key, Renew]) -> list[Answer]:
        """What came of each, in order. A fault is an answer too."""
        self._under_way.append(asked)
        try:
            return await self._renewed(asked)
        finally:
            self._under_way[:] = [each for each in self._under_way if each is not asked]

    async def _renewed(self, asked: Mapping[Key, Renew]) -> list[Answer]:
        try:
            reading = await self._store.read(asked.keys())
            answers, writes, renewals = await _decided(asked, reading)
            won = await self._store.write(writes)
        except StoreFault as fault:
            return [fault] * len(asked)
        if len(won) == len(writes):
            self._on_renewals(renewals)
            return answers
        # Told before the others are asked again: by then what was won here may be another's.
        self._on_renewals([each for each in renewals if each[0] in won])
        lost = {write.key for write in writes} - won
        again = await self._rounds.submit([Operation(key, asked[key]) for key in asked if key in lost])
        others = iter(again)
        return [next(others) if key in lost else answer for key, answer in zip(asked, answers, strict=True)]


async def _decided(
    asked: Mapping[Key, Renew], reading: Reading
) -> tuple[list[Answer], list[Record], list[Renewal]]:
    """What each comes to once its write has won, the writes, and what they renew."""
    answers: list[Answer] = []
    writes: list[Record] = []
    renewals: list[Renewal] = []
    leases = reading.leases
    for count, (key, request) in enumerate(asked.items()):
        if count % GIVE_WAY_EVERY == GIVE_WAY_EVERY - 1:
            await trio.lowlevel.checkpoint()
        observed = leases[key]
        decision = decide_renewal(observed, request)
        outcome = decision.outcome
        answers.append(outcome)
        if decision.write is not None:
            writes.append(decision.write)
            # Where several hold, the first of them to expire is to be looked at, and that may be another.
            if type(outcome) is Renewed and len(observed.idle_us) == 1:
                renewals.append((key, outcome.view.remaining_us))
    return answers, writes, renewals
