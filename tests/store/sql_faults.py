"""What a store on a database server owes when server, network or another session are at fault, as tests.

Inherit `SqlFaults` beside a fixture named `server`.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from io import StringIO
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from berth.core.names import Key
from berth.runtime.clock import Clock, SystemClock
from berth.runtime.log import Logs
from berth.store.api import Store, StoreFault
from berth.store.sql_store import Durability, Settings
from tests.store.conformance import acquire, must_win, read_one, release
from tests.store.samples import KEY, SESSIONS, held, many_keys, unmarked
from tests.support.proxy import Proxy, open_proxy

OTHER = Key("default", "other")


def quiet(
    *, clock: Clock | None = None, pool_size: int = 8, durability: Durability = "async"
) -> tuple[Settings, StringIO]:
    """Settings for a store whose log goes nowhere but to a text."""
    log = StringIO()
    return Settings(clock or SystemClock(), Logs(stream=log).logger("test"), pool_size, durability), log


async def fault_of(store: Store, version: int = 2) -> StoreFault:
    """What a write to the lease comes to."""
    with pytest.raises(StoreFault) as caught:
        await store.write([held(version=version)])
    return caught.value


async def serves_again(store: Store, within_seconds: float = 2.0) -> None:
    with trio.fail_after(within_seconds):
        while True:
            try:
                return await store.ping()
            except StoreFault:
                await trio.sleep(0.05)


async def settled(store: Store) -> int:
    """The version of the lease, whatever became of earlier writes."""
    record = (await read_one(store)).record
    assert record is not None
    return record.version


async def locked(server: Any, seconds: float, *, task_status: trio.TaskStatus[None]) -> None:
    """Another session holds the lease's row for so long."""
    with server.transaction(
        "SELECT 1 FROM berth_leases WHERE namespace = 'default' AND name = 'a' FOR UPDATE"
    ):
        task_status.started()
        await trio.sleep(seconds)


class SqlFaults:
    def opened(
        self, source: str, settings: Settings, now: str | None = None
    ) -> "AbstractAsyncContextManager[Store]":
        """The store on the server that `source` names."""
        raise NotImplementedError

    slow_now: str
    """An expression for the instant of a statement that takes as many seconds as the table `nap` has."""

    def source_at(self, address: str) -> str:
        """The server at another address."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, server: Any) -> AsyncGenerator[Store]:
        async with self.opened(server.source, quiet()[0]) as store:
            await must_win(store, held(), held(OTHER))
            yield store

    async def test_a_crash_of_the_server_loses_nothing_and_is_survived(self, server: Any, store: Store):
        await must_win(store, SESSIONS[0])
        for version in (2, 3):
            server.kill()
            await fault_of(store)
            with pytest.raises(StoreFault) as caught:
                await store.read([KEY])
            assert caught.value.outcome_known
            server.start()
            await serves_again(store)
            observed = await read_one(store)
            assert observed.record is not None
            assert unmarked(observed.record) == held(version=version - 1)
            assert observed.quarantine is None
            await must_win(store, held(version=version))

    async def test_connections_that_died_idle_cost_no_more_than_one_call(self, server: Any, store: Store):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(store.read, [KEY])
        server.restart()
        failed = 0
        for _ in range(5):
            try:
                await store.read([KEY])
            except StoreFault:
                failed += 1
        assert failed <= 1

    async def test_a_locked_row_holds_up_itself_alone_and_for_a_second(self, server: Any, store: Store):
        async with trio.open_nursery() as nursery:
            await nursery.start(locked, server, 10)
            began = trio.current_time()
            async with trio.open_nursery() as writers:
                writers.start_soon(must_win, store, held(OTHER, version=2))
                fault = await fault_of(store)
            assert fault.outcome_known
            assert 0.9 < trio.current_time() - began < 3
            assert await settled(store) == 1
            nursery.cancel_scope.cancel()
        await must_win(store, held(version=2))

    async def test_a_write_that_waits_with_another_loses_both_or_none(self, server: Any, store: Store):
        async with trio.open_nursery() as nursery:
            await nursery.start(locked, server, 10)
            with pytest.raises(StoreFault) as caught:
                await store.write([held(OTHER, version=2), held(version=2), replace(SESSIONS[0], version=1)])
            assert caught.value.outcome_known
            reading = await store.read([KEY, OTHER], [SESSIONS[0].id])
            assert [each.record and each.record.version for each in reading.leases.values()] == [1, 1]
            assert reading.sessions == {}
            nursery.cancel_scope.cancel()

    async def test_who_waits_for_a_lock_is_renewed_when_he_asked_or_later(self, server: Any, store: Store):
        before = await read_one(store)
        async with trio.open_nursery() as nursery:
            await nursery.start(locked, server, 0.5)
            await must_win(store, held(version=2))
        after = await read_one(store)
        assert after.at_us - after.idle_us[0] > before.at_us

    @asynccontextmanager
    async def slow(self, server: Any, seconds: float, pool_size: int = 8) -> AsyncGenerator[Store]:
        """A store whose statements take so long."""
        server.on("CREATE TABLE nap (seconds double precision)")
        server.on("INSERT INTO nap VALUES (0)")
        async with self.opened(server.source, quiet(pool_size=pool_size)[0], self.slow_now) as slow:
            server.on(f"UPDATE nap SET seconds = {seconds}")
            yield slow

    async def test_a_statement_that_takes_too_long_is_broken_off(self, server: Any, store: Store):
        async with self.slow(server, 3) as slow:
            began = trio.current_time()
            with pytest.raises(StoreFault) as caught:
                await slow.write([held(Key("default", "slow"))])
            assert caught.value.outcome_known
            assert 1.5 < trio.current_time() - began < 3.9
        assert (await store.read([Key("default", "slow")])).leases[Key("default", "slow")].record is None

    async def test_nobody_waits_for_a_connection_beyond_a_second(self, server: Any, store: Store):
        async with self.slow(server, 1.7, pool_size=1) as slow, trio.open_nursery() as nursery:
            nursery.start_soon(slow.read, [KEY])
            await trio.sleep(0.2)
            began = trio.current_time()
            with pytest.raises(StoreFault, match="in use") as caught:
                await slow.read([KEY])
            assert caught.value.outcome_known
            assert 0.9 < trio.current_time() - began < 1.5

    async def test_a_cancelled_write_leaves_no_lock_and_no_connection_behind(self, server: Any, store: Store):
        async with self.opened(server.source, quiet(pool_size=2)[0]) as small:
            await small.ping()
            before = server.connections()
            async with trio.open_nursery() as nursery:
                await nursery.start(locked, server, 0.2)
                for _ in range(4):
                    with trio.move_on_after(0.05):
                        await small.write([held(version=2)])
            version = await settled(small)
            await must_win(small, held(version=version + 1))
            assert server.connections() <= before + 1

    async def test_two_servers_that_write_the_same_leases_do_not_deadlock(self, server: Any, store: Store):
        keys = many_keys(200)
        won: dict[int, int] = {}

        async def contend(store: Store, order: list[Key], version: int) -> None:
            writes = [held(key, version=version) for key in order]
            sessions = [replace(SESSIONS[0], id=f"s-{at:03}", version=version) for at in range(50)]
            mixed = [*sessions, *writes] if order is keys else [*writes, *reversed(sessions)]
            winners = await store.write(mixed)
            won[version] = won.get(version, 0) + len(winners)

        async with self.opened(server.source, quiet()[0]) as second:
            for version in range(1, 16):
                async with trio.open_nursery() as nursery:
                    for _ in range(2):
                        nursery.start_soon(contend, store, keys, version)
                        nursery.start_soon(contend, second, keys[::-1], version)
        assert set(won.values()) == {250}

    async def test_two_servers_have_one_holder_at_a_time(self, server: Any, store: Store):
        tokens: list[int] = []
        active: set[str] = set()
        key = Key("default", "contended")

        async def contend(store: Store, holder: str) -> None:
            for _ in range(8):
                while (token := await acquire(store, holder, key)) is None:
                    await trio.lowlevel.checkpoint()
                assert not active
                active.add(holder)
                tokens.append(token)
                await store.ping()
                active.remove(holder)
                assert await release(store, holder, token, key)

        async with self.opened(server.source, quiet()[0]) as second, trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(contend, store, f"a-{number}")
                nursery.start_soon(contend, second, f"b-{number}")
        assert tokens == list(range(1, 49))

    @asynccontextmanager
    async def through_proxy(self, server: Any) -> AsyncGenerator[tuple[Store, Proxy]]:
        async with open_proxy(("127.0.0.1", server.port)) as proxy:
            source = self.source_at(proxy.url.removeprefix("https://"))
            async with self.opened(source, quiet()[0]) as store:
                yield store, proxy

    async def test_a_silent_network_is_given_up_and_found_again(self, server: Any):
        async with self.through_proxy(server) as (store, proxy):
            await must_win(store, held())
            proxy.drop()
            began = trio.current_time()
            assert not (await fault_of(store)).outcome_known
            assert (await fault_of(store)).outcome_known  # no connection could be made
            assert trio.current_time() - began < 10
            await proxy.mend()
            await serves_again(store)

    async def test_a_broken_connection_leaves_the_outcome_open(self, server: Any):
        async with self.through_proxy(server) as (store, proxy), trio.open_nursery() as nursery:
            await must_win(store, held())
            await nursery.start(locked, server, 0.5)
            async with trio.open_nursery() as writers:
                writers.start_soon(fault_of, store)
                await trio.sleep(0.1)
                proxy.reset()
            await proxy.mend()
            await serves_again(store)
            assert await settled(store) in (1, 2)

    async def test_a_frozen_server_is_given_up_and_found_again(self, server: Any, store: Store):
        with server.frozen():
            began = trio.current_time()
            assert not (await fault_of(store)).outcome_known
            assert trio.current_time() - began < 6
        await serves_again(store, within_seconds=5)
        assert await settled(store) in (1, 2)
