"""What a store on a database server owes when an older copy is put in the place of the database, as tests.

The copy has the same server in it, by all that this tells of itself. Inherit `SqlRestore` beside a fixture
named `server`.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.requests import Acquire, Refused
from berth.store.sql_store import Durability, Settings, SqlStore
from tests.store.conformance import must_win, read_one
from tests.store.samples import KEY, SECOND, SESSIONS, held
from tests.store.sql_doubts import NEW, TTL, answered, granted
from tests.store.sql_faults import quiet, serves_again

AnyStore = SqlStore[Any]


class SqlRestore:
    def opened(self, source: str, settings: Settings) -> "AbstractAsyncContextManager[AnyStore]":
        raise NotImplementedError

    def on(self, server: Any, durability: Durability = "async") -> "AbstractAsyncContextManager[AnyStore]":
        return self.opened(server.source, quiet(durability=durability)[0])

    async def test_a_backup_that_lacks_a_grant_gives_no_token_twice(self, server: Any):
        async with self.on(server) as store:
            first = await granted(store, KEY, "before")
            server.back_up()
            await trio.sleep(TTL / SECOND + 0.1)
            await serves_again(store)
            lost = await granted(store, KEY, "lost"), await granted(store, NEW, "lost")
            server.restore()

            observed = await answered(store)
            assert observed.record is not None
            assert observed.record.token == first, "the tail is lost"
            for key in (KEY, NEW):
                refused = decide((await store.read([key])).leases[key], Acquire("after", TTL)).outcome
                assert isinstance(refused, Refused)
                assert refused.reason == "quarantine"
            await trio.sleep(2.2)  # the longest ttl, and a little more
            after = await granted(store, KEY, "after"), await granted(store, NEW, "after")
            assert after == (first + 1_000, 1_001)
            assert after > lost

    async def test_a_backup_that_lacks_a_sign_of_life_is_noticed_whatever_is_promised(self, server: Any):
        """Even where no failover loses anything: it is no failover."""
        async with self.on(server, "sync") as store:
            await must_win(store, held(session="s-1"), SESSIONS[0])
            server.back_up()
            await serves_again(store)
            await must_win(store, replace(SESSIONS[0], version=2))
            server.restore()
            quarantine = (await answered(store)).quarantine
            assert quarantine is not None
            assert quarantine.kind == "loss"

    async def test_a_backup_that_lacks_nothing_is_not_doubted(self, server: Any):
        async with self.on(server) as store:
            await must_win(store, held(), SESSIONS[0])
            await must_win(store, held(version=2))
            server.back_up()
            await serves_again(store)
            server.restore()
            observed = await answered(store)
            assert (observed.quarantine, observed.token_floor) == (None, 0)

    async def test_who_has_only_read_knows_of_a_jump_that_is_gone(self, server: Any):
        async with self.on(server) as store:
            await must_win(store, held())
            server.back_up()
            await serves_again(store)
            await store.change_incarnation(2)
            assert (await read_one(store)).token_floor == 2_000
            server.restore()
            observed = await answered(store)
            assert observed.quarantine is not None
            assert observed.token_floor == 3_000

    async def test_servers_that_all_notice_jump_once(self, server: Any):
        async with self.on(server) as one, self.on(server) as other:
            await must_win(one, held())
            server.back_up()
            for store, key in ((one, KEY), (other, NEW)):
                await serves_again(store)
                await must_win(store, held(key, version=2 if key == KEY else 1))
            server.restore()
            for _ in range(2):
                for store in (one, other):
                    assert (await answered(store)).token_floor == 1_000
                server.restart()

    async def test_a_server_that_knew_nothing_hears_of_it_from_one_that_did(self, server: Any):
        async with self.on(server) as one, self.on(server) as other:
            await must_win(one, held())
            server.back_up()
            await serves_again(one)
            await must_win(one, held(version=2))
            server.restore()
            assert (await answered(other)).quarantine is None, "none of its own writes is gone"
            assert (await answered(one)).quarantine is not None
            assert (await read_one(other)).quarantine is not None

    async def test_a_lease_that_somebody_deletes_is_missed(self, server: Any):
        gone = Key("default", "gone")
        async with self.on(server) as store:
            await must_win(store, held())
            await must_win(store, held(gone, token=500))
            server.on("DELETE FROM berth_leases WHERE name = 'gone'")
            server.restart()
            await answered(store)
            assert (await store.read([gone])).leases[gone].token_floor == 1_000
