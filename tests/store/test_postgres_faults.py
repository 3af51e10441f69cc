"""The PostgreSQL store when the server, the network or another session is at fault."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from io import StringIO
from typing import Any

import psycopg
import pytest
import trio
from msgspec.structs import replace

from berth.core.names import Key
from berth.runtime.clock import SystemClock
from berth.runtime.log import Logs
from berth.store.api import StoreFault
from berth.store.postgres import PostgresStore, open_postgres
from berth.store.postgres_statements import statements
from tests.store.conformance import must_win, read_one
from tests.store.samples import KEY, SESSIONS, held, many_keys, unmarked
from tests.support.postgres import Postgres
from tests.support.proxy import Proxy, open_proxy

OTHER = Key("default", "other")


@asynccontextmanager
async def opened(dsn: str, **settings: Any) -> AsyncGenerator[PostgresStore]:
    logger = Logs(stream=StringIO()).logger("test")
    async with open_postgres(dsn, clock=SystemClock(), logger=logger, **settings) as store:
        yield store


@pytest.fixture
def server(postgres_server: Postgres) -> Iterator[Postgres]:
    yield postgres_server
    postgres_server.empty()


async def locked(server: Postgres, seconds: float, task_status: trio.TaskStatus[None]) -> None:
    """Another session holds the lease's row for so long."""
    with psycopg.connect(server.dsn) as db:
        db.execute("SELECT 1 FROM berth_leases WHERE name = 'a' FOR UPDATE")
        task_status.started()
        await trio.sleep(seconds)


async def fault_of(store: PostgresStore, version: int = 2) -> StoreFault:
    """What a write to the lease comes to."""
    with pytest.raises(StoreFault) as caught:
        await store.write([held(version=version)])
    return caught.value


async def serves_again(store: PostgresStore, within_seconds: float = 2.0) -> None:
    with trio.fail_after(within_seconds):
        while True:
            try:
                return await store.ping()
            except StoreFault:
                await trio.sleep(0.05)


async def settled(store: PostgresStore) -> int:
    """The version of the lease, whatever became of earlier writes."""
    record = (await read_one(store)).record
    assert record is not None
    return record.version


async def test_a_crash_of_the_server_loses_nothing_and_is_survived(server: Postgres):
    async with opened(server.dsn) as store:
        await must_win(store, held(), SESSIONS[0])
        for _ in range(2):
            server.kill()
            assert (await fault_of(store)).outcome_known in (True, False)
            with pytest.raises(StoreFault) as caught:
                await store.read([KEY])
            assert caught.value.outcome_known
            server.start()
            await serves_again(store)
        assert unmarked((await read_one(store)).record or held(OTHER)) == held()
        await must_win(store, held(version=2))


async def test_connections_that_died_idle_cost_no_more_than_one_call(server: Postgres):
    async with opened(server.dsn) as store:
        await must_win(store, held())
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


async def test_a_locked_row_holds_up_itself_alone_and_for_a_second(server: Postgres):
    async with opened(server.dsn) as store, trio.open_nursery() as nursery:
        await must_win(store, held(), held(OTHER))
        await nursery.start(locked, server, 10)
        began = trio.current_time()
        async with trio.open_nursery() as writers:
            writers.start_soon(must_win, store, held(OTHER, version=2))
            fault = await fault_of(store)
        assert fault.outcome_known
        assert 0.9 < trio.current_time() - began < 3
        nursery.cancel_scope.cancel()
    async with opened(server.dsn) as store:
        assert await settled(store) == 1


async def test_who_waits_for_a_lock_is_renewed_when_he_asked_or_later(server: Postgres):
    async with opened(server.dsn) as store, trio.open_nursery() as nursery:
        await must_win(store, held())
        ((asked_at,),) = server.on("SELECT clock_timestamp()")
        await nursery.start(locked, server, 0.5)
        await must_win(store, held(version=2))
        ((renewed_at,),) = server.on("SELECT renewed_at FROM berth_leases")
        assert renewed_at > asked_at


async def test_a_statement_that_takes_too_long_is_broken_off(server: Postgres):
    slow = statements("(SELECT statement_timestamp() FROM pg_sleep(3))")
    async with opened(server.dsn) as store:
        await must_win(store, held())
    async with opened(server.dsn, statements=slow) as store:
        began = trio.current_time()
        with pytest.raises(StoreFault, match="statement timeout") as caught:
            await store.write([held(Key("default", f"slow-{n}")) for n in range(10)])
        assert caught.value.outcome_known
        assert trio.current_time() - began < 4
        assert server.on("SELECT count(*) FROM berth_leases") == [(1,)]


async def test_nobody_waits_for_a_connection_beyond_a_second(server: Postgres):
    slow = statements("(SELECT statement_timestamp() FROM pg_sleep(1.7))")
    async with opened(server.dsn, pool_size=1, statements=slow) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.read, [KEY])
        await trio.sleep(0.2)
        began = trio.current_time()
        with pytest.raises(StoreFault, match="in use") as caught:
            await store.read([KEY])
        assert caught.value.outcome_known
        assert 0.9 < trio.current_time() - began < 1.5


async def test_a_cancelled_write_leaves_no_lock_and_no_connection_behind(server: Postgres):
    async with opened(server.dsn, pool_size=2) as store:
        await must_win(store, held())
        async with trio.open_nursery() as nursery:
            await nursery.start(locked, server, 0.2)
            for _ in range(4):
                with trio.move_on_after(0.05):
                    await store.write([held(version=2)])
        version = await settled(store)
        await must_win(store, held(version=version + 1))
        assert len(server.on("SELECT 1 FROM pg_stat_activity WHERE application_name = 'berth'")) <= 2
        assert server.on("SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in%'") == []


async def test_two_servers_that_write_the_same_leases_do_not_deadlock(server: Postgres):
    keys = many_keys(200)
    async with opened(server.dsn) as first, opened(server.dsn) as second:
        won: dict[int, int] = {}

        async def contend(store: PostgresStore, order: list[Key], version: int) -> None:
            writes = [held(key, version=version) for key in order]
            sessions = [replace(SESSIONS[0], id=f"s-{at:03}", version=version) for at in range(50)]
            mixed = [*sessions, *writes] if order is keys else [*writes, *reversed(sessions)]
            winners = await store.write(mixed)
            won[version] = won.get(version, 0) + len(winners)

        for version in range(1, 21):
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(contend, first, keys, version)
                    nursery.start_soon(contend, second, keys[::-1], version)
        assert set(won.values()) == {250}


async def test_a_write_that_no_standby_has_confirmed_is_not_told_to_have_won(server: Postgres):
    async with opened(server.dsn) as store:
        await must_win(store, held())
        server.on("ALTER SYSTEM SET synchronous_standby_names = 'nosuch'")
        server.on("SELECT pg_reload_conf()")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_waiting, server)
                began = trio.current_time()
                fault = await fault_of(store)
            assert not fault.outcome_known
            assert "standby" in str(fault)
            assert trio.current_time() - began < 3
            assert not (await fault_of(store, await settled(store) + 1)).outcome_known
        finally:
            server.on("ALTER SYSTEM RESET synchronous_standby_names")
            server.on("SELECT pg_reload_conf()")
        await serves_again(store)
        await must_win(store, held(version=await settled(store) + 1))


async def cancel_waiting(server: Postgres) -> None:
    """Cancel, as an administrator may, what waits for a standby."""
    waiting = """SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
        WHERE wait_event = 'SyncRep' AND application_name = 'berth'"""
    while server.on(waiting) != [(1,)]:
        await trio.sleep(0.05)


@asynccontextmanager
async def through_proxy(server: Postgres) -> AsyncGenerator[tuple[PostgresStore, Proxy]]:
    async with open_proxy(("127.0.0.1", server.port)) as proxy:
        address = proxy.url.removeprefix("https://")
        async with opened(f"postgres://berth@{address}/berth?sslmode=disable") as store:
            yield store, proxy


async def test_a_silent_network_is_given_up_and_found_again(server: Postgres):
    async with through_proxy(server) as (store, proxy):
        await must_win(store, held())
        proxy.drop()
        began = trio.current_time()
        assert not (await fault_of(store)).outcome_known
        assert (await fault_of(store)).outcome_known  # no connection could be made
        assert trio.current_time() - began < 10
        await proxy.mend()
        await serves_again(store)


async def test_a_broken_connection_leaves_the_outcome_open(server: Postgres):
    async with through_proxy(server) as (store, proxy), trio.open_nursery() as nursery:
        await must_win(store, held())
        await nursery.start(locked, server, 0.5)
        async with trio.open_nursery() as writers:
            writers.start_soon(fault_of, store)
            await trio.sleep(0.1)
            proxy.reset()
        await proxy.mend()
        await serves_again(store)
        assert await settled(store) in (1, 2)


async def test_a_server_that_may_not_be_written_is_not_used(server: Postgres):
    async with opened(server.dsn) as store:
        await must_win(store, held())
        server.on("ALTER DATABASE berth SET default_transaction_read_only = on")
        try:
            server.on(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'berth'"
            )
            await trio.sleep(0.1)
            assert (await fault_of(store)).outcome_known
        finally:
            with psycopg.connect(
                server.dsn, autocommit=True, options="-c default_transaction_read_only=off"
            ) as db:
                db.execute("ALTER DATABASE berth RESET default_transaction_read_only")
        await serves_again(store)
