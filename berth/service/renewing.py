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
from berth.service.asking import Answer, Operation
from berth.service.rounds import GIVE_WAY_EVERY, Recall, Rounds, written
from berth.store.api import PartlyRead, Reading, Store, StoreFault

WORTH_IT = 64
"""Fewer go with the rounds, where all callers share a transaction."""


class AllRenewed(Struct, frozen=True, gc=False):
    """Each of the leases was renewed, all by a reading of `at_us`. The tenures are in the order asked."""

    at_us: int
    tenures: list[Tenure]


class Renewing:
    """What was renewed is told as `rounds` tells it. `recall` is a `RememberingStore`'s."""

    def __init__(self, store: Store, rounds: Rounds, *, recall: Recall | None = None) -> None:
        self._store = store
        self._rounds = rounds
        self._on_renewals = rounds.on_renewals
        self._recall = recall
        self._under_way: list[Mapping[Key, Renew]] = []

    def is_writing(self, target: Key | str) -> bool:
        """Whether a renewal of the lease is under way."""
        return any(target in asked for asked in self._under_way)

    async def renew(self, asked: Mapping[Key, Renew]) -> AllRenewed | list[Answer]:
        """What came of each, in order. A fault is an answer too."""
        self._under_way.append(asked)
        try:
            return await self._renewed(asked)
        finally:
            self._under_way[:] = [each for each in self._under_way if each is not asked]

    async def _renewed(self, asked: Mapping[Key, Renew]) -> AllRenewed | list[Answer]:
        try:
            reading = await self._reading(asked)
            writes, renewed = await _decided(asked, reading)
            others = await self._decide_others(asked, reading, renewed) if len(writes) < len(asked) else {}
            writes += [each.write for each in others.values() if each.write is not None]
            won, failed = await written(self._store, writes)
        except PartlyRead:
            # Who is to be told of what cannot be read is the rounds' to find out.
            return await self._rounds.submit([Operation(key, each) for key, each in asked.items()])
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
        lost = {write.key for write in writes} - won - failed.keys()
        again = iter(await self._rounds.submit([Operation(key, asked[key]) for key in asked if key in lost]))
        return [
            next(again)
            if key in lost
            else failed.get(key) or (told(kept, reading.at_us) if kept else others[key].outcome)
            for key, kept in zip(asked, renewed, strict=True)
        ]

    async def _reading(self, asked: Mapping[Key, Renew]) -> Reading:
        """What is remembered of the leases, where a store remembers all of them; else what it reads."""
        if self._recall is not None:
            remembered = self._recall(asked.keys(), ())
            if len(remembered.records) == len(asked):
                return remembered
        return await self._store.read(asked.keys())

    async def _decide_others(
        self, asked: Mapping[Key, Renew], reading: Reading, renewed: Sequence[Tenure | None]
    ) -> dict[Key, Decision]:
        """What is not plainly renewed: refused, or one of several holders. These are not told of as renewed:
        the first of several to expire is to be looked at, and that may be another.
        """
        keys = [key for key, kept in zip(asked, renewed, strict=True) if kept is None]
        if self._recall is not None:
            reading = await self._store.read(keys)  # nobody is refused by what is only remembered
        return {key: decide(reading.leases[key], asked[key]) for key in keys}


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
