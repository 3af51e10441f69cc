"""What a store on a database server owes when the database's time or its content is in doubt, as tests.

Inherit `SqlDoubts` beside fixtures named `server`, `clock` (a `MovedClock`) and `store`.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import Observed
from berth.core.requests import Acquire, Acquired, NotAcquired, Refused, Renew
from berth.store.api import Store, StoreFault
from berth.store.sql_store import Durability
from tests.store.conformance import must_win, read_one
from tests.store.moved import MovedClock
from tests.store.samples import KEY, SECOND, held

NEW = Key("default", "new")
TTL = SECOND


async def granted(store: Store, key: Key, holder: str) -> int:
    """The token of a grant for so short a time."""
    decision = decide((await store.read([key])).leases[key], Acquire(holder, TTL))
    assert isinstance(decision.outcome, Acquired)
    assert decision.write is not None
    await must_win(store, decision.write)
    return decision.outcome.view.token


async def answered(store: Store) -> Observed:
    """The lease as it is read once a server is there."""
    with trio.fail_after(5):
        while True:
            try:
                return await read_one(store)
            except StoreFault:
                await trio.sleep(0.05)


class SqlDoubts:
    def another(
        self, server: Any, clock: MovedClock, durability: Durability = "async"
    ) -> "AbstractAsyncContextManager[Store]":
        """One more store on the same database."""
        raise NotImplementedError

    async def test_what_expired_by_a_step_of_the_database_s_clock_stays_closed(
        self, store: Store, clock: MovedClock
    ):
        await must_win(store, held())
        clock.step_database(3_600)
        outcome = decide(await read_one(store), Acquire("other", SECOND)).outcome
        assert isinstance(outcome, NotAcquired)
        assert outcome.reason == "quarantine"
        clock.advance(31)
        assert isinstance(decide(await read_one(store), Acquire("other", SECOND)).outcome, Acquired)

    async def test_a_clock_that_went_back_moves_no_expiry_back(self, store: Store, clock: MovedClock):
        await must_win(store, held())
        before = (await read_one(store)).record
        clock.step_database(-3_600)
        await must_win(store, held(version=2))
        after = (await read_one(store)).record
        assert before is not None
        assert after is not None
        assert (after.tenures[0].mark or 0) >= (before.tenures[0].mark or 0)

    async def test_another_server_grants_nothing_and_then_tokens_that_are_new(
        self, server: Any, store: Store, clock: MovedClock
    ):
        await must_win(store, held())
        stale = decide(await read_one(store), Acquire("other", SECOND))
        assert stale.write is None
        server.on("UPDATE berth_meta SET identity = 'another'")
        async with self.another(server, clock) as second:
            reading = await second.read([KEY, NEW])
            for observed in reading.leases.values():
                assert isinstance(decide(observed, Acquire("edge-1", SECOND)).outcome, Refused)
            renewal = decide(reading.leases[KEY], Renew("edge-1", 1, 30 * SECOND)).write
            assert renewal is not None
            await must_win(second, renewal)
            # Whoever decided on what was before loses, on whichever connection.
            assert await store.write([held(version=3, token=2), held(NEW)]) == set()
            clock.advance(120)
            reading = await second.read([KEY, NEW])
            for key, token in ((KEY, 1_001), (NEW, 1_001)):
                decision = decide(reading.leases[key], Acquire("other", 30 * SECOND))
                assert isinstance(decision.outcome, Acquired)
                assert decision.outcome.view.token == token
                assert decision.write is not None
                await must_win(second, decision.write)
            reading = await second.read([KEY, NEW])
            assert [observed.token_floor for observed in reading.leases.values()] == [0, 0]
            assert await second.write([held(version=4, token=1_002)]) == {KEY}

    async def test_a_server_that_loses_nothing_may_be_another(
        self, server: Any, store: Store, clock: MovedClock
    ):
        await must_win(store, held())
        server.on("UPDATE berth_meta SET identity = 'another'")
        async with self.another(server, clock, "sync") as second:
            observed = await read_one(second)
            assert (observed.quarantine, observed.token_floor) == (None, 0)

    async def test_the_longest_ttl_is_known_before_it_is_granted(self, server: Any, store: Store):
        await must_win(store, held())
        longest = "SELECT ttl_max_us FROM berth_meta"
        assert server.on(longest) == [(15 << 21,)]  # 31.5 s
        record = held(NEW)
        await must_win(store, replace(record, tenures=(replace(record.tenures[0], ttl_us=86_400 * SECOND),)))
        assert server.on(longest) == [(11 << 33,)]
        await must_win(store, held(version=2))
        assert server.on(longest) == [(11 << 33,)]
