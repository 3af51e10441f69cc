"""Renewing: many leases kept alive at once, which is nearly all that a server ever does.

Owns the short way for a large batch of nothing but renewals: a round of its own, which waits for no other
and mixes with none. What it promises is what `Rounds` promises. Each renewal comes to what `decide` says, on
a reading that began after it was asked, and none is answered before its write is known to have won; those
that lose go through the rounds as if they had been asked alone.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import trio
from msgspec import Struct

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import Record, Tenure
from berth.core.renewals import decide_renewals, told
from berth.core.requests import Decision, Renew
from berth.service.asking import Answer, OnRenewals, Operation
from berth.service.rounds import GIVE_WAY_EVERY, Rounds
from berth.store.api import Reading, Store, StoreFault

WORTH_IT = 64
"""Fewer go with the rounds, where all callers share a transaction."""


class AllRenewed(Struct, frozen=True, gc=False):
    """Each of the leases was renewed, all by a reading of `at_us`. The tenures are in the order asked."""

    at_us: int
    tenures: list[Tenure]


class Renewing:
    """`on_renewals` is told of what has been renewed."""

    def __init__(self, store: Store, rounds: Rounds, *, on_renewals: OnRenewals) -> None:
        self._store = store
        self._rounds = rounds
        self._on_renewals = on_renewals
        self._under_way: list[Mapping[Key, Renew]] = []

    def is_writing(self, key: Key) -> bool:
        """Whether a renewal of the lease is under way."""
        return any(key in asked for asked in self._under_way)

    async def renew(self, asked: Mapping[Key, Renew]) -> AllRenewed | list[Answer]:
        """What came of each, in order. A fault is an answer too."""
        self._under_way.append(asked)
        try:
            return await self._renewed(asked)
        finally:
            self._under_way[:] = [each for each in self._under_way if each is not asked]

    async def _renewed(self, asked: Mapping[Key, Renew]) -> AllRenewed | list[Answer]:
        try:
            reading = await self._store.read(asked.keys())
            writes, renewed = await _decided(asked, reading)
            others = _decide_others(asked, reading, renewed) if len(writes) < len(asked) else {}
            writes += [each.write for each in others.values() if each.write is not None]
            won = await self._store.write(writes)
        except StoreFault as fault:
            answers: list[Answer] = [fault] * len(asked)
            return answers
        if len(won) == len(asked) and not others:
            tenures = cast("list[Tenure]", renewed)
            self._on_renewals(asked.keys(), tenures)
            return AllRenewed(reading.at_us, tenures)
        # Told before the others are asked again: by then what was won here may be another's.
        still = [(key, kept) for key, kept in zip(asked, renewed, strict=True) if kept and key in won]
        self._on_renewals([key for key, _ in still], [kept for _, kept in still])
        lost = {write.key for write in writes} - won
        again = iter(await self._rounds.submit([Operation(key, asked[key]) for key in asked if key in lost]))
        return [
            next(again) if key in lost else told(kept, reading.at_us) if kept else others[key].outcome
            for key, kept in zip(asked, renewed, strict=True)
        ]


async def _decided(asked: Mapping[Key, Renew], reading: Reading) -> tuple[list[Record], list[Tenure | None]]:
    """The writes, and the tenure that each request plainly renews."""
    writes: list[Record] = []
    renewed: list[Tenure | None] = []
    requests, records, idles_us = list(asked.values()), list(reading.records.values()), reading.sole_idles_us
    for start in range(0, len(asked), GIVE_WAY_EVERY):
        if start:
            await trio.lowlevel.checkpoint()
        part = slice(start, start + GIVE_WAY_EVERY)
        more_writes, more_renewed = decide_renewals(requests[part], records[part], idles_us[part])
        writes += more_writes
        renewed += more_renewed
    return writes, renewed


def _decide_others(
    asked: Mapping[Key, Renew], reading: Reading, renewed: Sequence[Tenure | None]
) -> dict[Key, Decision]:
    """What is not plainly renewed: refused, or one of several holders. These are not told of as renewed:
    the first of several to expire is to be looked at, and that may be another.
    """
    return {
        key: decide(reading.leases[key], request)
        for (key, request), kept in zip(asked.items(), renewed, strict=True)
        if kept is None
    }
