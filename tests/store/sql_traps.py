"""What a database server gets wrong by default, and a store on it must not, as tests.

Inherit `SqlTraps` beside a fixture named `server`.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import TOKEN_MAX
from berth.core.requests import Acquire, Acquired, NotAcquired, Refused, Renew, Renewed
from berth.store.api import Store, StoreFault
from tests.store.conformance import acquire, must_win, read_one, release
from tests.store.samples import KEY, SECOND, held

PAUSE_SECONDS = 1.2


class SqlTraps:
    def opened(self, server: Any) -> "AbstractAsyncContextManager[Store]":
        raise NotImplementedError

    async def clocks(self, server: Any) -> tuple[list[int], int]:
        """The instants of the store's statements late in a transaction, and the server's clock after them."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, server: Any) -> AsyncGenerator[Store]:
        async with self.opened(server) as store:
            yield store

    @pytest.mark.parametrize("alike", ["edge ", "Edge", "\u00e9dge", "e\u0301dge", "edge\u00ad"])
    async def test_texts_that_a_collation_takes_for_one_are_two(self, store: Store, alike: str):
        key, twin = Key("default", "edge"), Key("default", alike)
        await must_win(store, held(key, holder="edge"))
        assert (await read_one(store, twin)).record is None
        observed = await read_one(store, key)
        assert isinstance(decide(observed, Acquire(alike, SECOND)).outcome, NotAcquired)
        assert not isinstance(decide(observed, Renew(alike, 1, SECOND)).outcome, Renewed)
        await release(store, "edge", 1, key)
        assert await acquire(store, alike, key) == 2
        await must_win(store, held(twin, token=7, holder=alike))
        first, second = (await store.read([key, twin])).leases.values()
        assert first.record is not None
        assert second.record is not None
        assert (first.record.token, first.record.tenures[0].holder) == (2, alike)
        assert (second.record.token, second.record.tenures[0].holder) == (7, alike)

    async def test_the_last_token_is_the_last(self, store: Store):
        await must_win(store, held(token=TOKEN_MAX - 1))
        await release(store, "edge-1", TOKEN_MAX - 1)
        assert await acquire(store, "edge-1") == TOKEN_MAX
        renewal = decide(await read_one(store), Renew("edge-1", TOKEN_MAX, 30 * SECOND))
        assert renewal.write is not None
        await must_win(store, renewal.write)
        await release(store, "edge-1", TOKEN_MAX)
        assert decide(await read_one(store), Acquire("edge-1", SECOND)).outcome == Refused("token_exhausted")

    async def test_a_token_beyond_the_last_is_not_stored(self, store: Store):
        await must_win(store, held(token=TOKEN_MAX))
        with pytest.raises(StoreFault):
            await store.write([held(version=2, token=TOKEN_MAX + 1)])
        record = (await read_one(store)).record
        assert record is not None
        assert (record.version, record.token) == (1, TOKEN_MAX)

    async def test_time_does_not_stand_still_in_a_transaction(self, server: Any, store: Store):
        instants, clock_us = await self.clocks(server)
        assert len(instants) > 1
        for instant_us in instants:
            assert abs(clock_us - instant_us) < PAUSE_SECONDS / 2 * SECOND

    async def test_who_has_expired_is_not_revived_by_who_follows(self, server: Any, store: Store):
        """A write that takes over leaves nothing of the one before: not its token, nor its time."""
        expired = held(holder="before")
        await must_win(store, replace(expired, tenures=(replace(expired.tenures[0], mark=1),)))
        observed = await read_one(store)
        takeover = decide(observed, Acquire("after", 30 * SECOND))
        assert isinstance(takeover.outcome, Acquired)
        assert takeover.write is not None
        await must_win(store, takeover.write)
        observed = (await store.read([KEY])).leases[KEY]
        assert observed.record is not None
        (tenure,) = observed.record.tenures
        assert (tenure.holder, tenure.token, observed.record.token) == ("after", 2, 2)
        assert observed.idle_us[0] < 5 * SECOND
        assert not isinstance(decide(observed, Renew("before", 1, SECOND)).outcome, Renewed)
