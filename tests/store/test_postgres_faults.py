"""The PostgreSQL store when the server, the network or another session is at fault."""

from collections.abc import Iterator

import psycopg
import pytest
import trio

from berth.core.names import Key
from berth.store.api import StoreFault
from berth.store.postgres import PostgresStore, open_postgres
from berth.store.postgres_statements import NOW
from berth.store.sql_store import Settings
from tests.store.conformance import must_win
from tests.store.samples import KEY, held
from tests.store.sql_faults import SqlFaults, fault_of, serves_again, settled
from tests.support.databases import mounted
from tests.support.postgres import Postgres


@pytest.fixture
def server(postgres_server: Postgres) -> Iterator[Postgres]:
    yield postgres_server
    postgres_server.empty()


class TestPostgresFaults(SqlFaults):
    def opened(self, source: str, settings: Settings, now: str | None = None):
        return open_postgres(source, settings, now=now or NOW)

    slow_now = "(SELECT statement_timestamp() FROM pg_sleep((SELECT seconds FROM nap)))"

    def source_at(self, address: str) -> str:
        return f"postgres://berth@{address}/berth?sslmode=disable"

    async def test_a_write_that_no_standby_has_confirmed_is_not_told_to_have_won(
        self, server: Postgres, store: PostgresStore
    ):
        await want_a_standby(server)
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

    async def test_writes_that_wait_for_a_standby_do_not_use_the_pool_up(
        self, server: Postgres, store: PostgresStore
    ):
        """Nobody cancels them, and no limit of the server's ends such a wait."""
        await want_a_standby(server)
        try:
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for number in range(24):
                    nursery.start_soon(never_told, store, Key("waiting", f"{number}"))
                await trio.sleep(5.5)  # all have had their turn, or given up
                await store.read([KEY])
            assert trio.current_time() - began < 12
            assert server.connections() <= 24
        finally:
            server.on("ALTER SYSTEM RESET synchronous_standby_names")
            server.on("SELECT pg_reload_conf()")
        await serves_again(store)
        await must_win(store, held(version=2))

    async def test_a_full_disk_is_a_fault_and_passes(
        self, server: Postgres, store: PostgresStore, small_space: str
    ):
        server.on(f"ALTER TABLE berth_leases SET TABLESPACE {small_space}")
        fault: StoreFault | None = None
        for batch in range(100):
            try:
                await store.write([held(Key("full", f"{batch}-{number}")) for number in range(200)])
            except StoreFault as caught:
                fault = caught
                break
        assert fault is not None
        assert fault.outcome_known
        assert "53100" in str(fault)
        assert (await store.read([Key("full", "0-0")])).leases[Key("full", "0-0")].record is not None
        await store.ping()
        await must_win(store, held(Key("full", "0-0"), version=2))  # what needs no room goes on
        server.on("ALTER TABLE berth_leases SET TABLESPACE pg_default")
        await must_win(store, held(version=2), held(Key("full", "after")))

    @pytest.fixture
    def small_space(self, server: Postgres) -> Iterator[str]:
        """A tablespace with room for a megabyte."""
        folder = server.folder / "small"
        folder.mkdir()
        with mounted(folder, "size=1m"):
            server.own(folder)
            server.on(f"CREATE TABLESPACE small LOCATION '{folder}'")
            yield "small"
            server.empty()
            server.on("DROP TABLESPACE small")

    async def test_a_server_that_may_not_be_written_is_not_used(self, server: Postgres, store: PostgresStore):
        server.on("ALTER DATABASE berth SET default_transaction_read_only = on")
        try:
            server.on(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'berth'"
            )
            await trio.sleep(0.1)
            assert (await fault_of(store)).outcome_known
        finally:
            writing = "-c default_transaction_read_only=off"
            with psycopg.connect(server.dsn, autocommit=True, options=writing) as db:
                db.execute("ALTER DATABASE berth RESET default_transaction_read_only")
        await serves_again(store)


async def never_told(store: PostgresStore, key: Key) -> None:
    with pytest.raises(StoreFault):
        await store.write([held(key)])


async def want_a_standby(server: Postgres) -> None:
    """Commits wait for a standby that does not exist, once the reload has come through."""
    server.on("ALTER SYSTEM SET synchronous_standby_names = 'nosuch'")
    server.on("SELECT pg_reload_conf()")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_waiting, server, "probe")
            waited = False
            while not waited:
                waited = await trio.to_thread.run_sync(commit_once, server)


def commit_once(server: Postgres) -> bool:
    """Whether it had to wait until it was cancelled."""
    with psycopg.connect(server.dsn, autocommit=True, application_name="probe") as connection:
        notices: list[str] = []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute("SELECT pg_logical_emit_message(true, 'probe', '')")
        return any("synchronous replication" in notice for notice in notices)


async def cancel_waiting(server: Postgres, application: str = "berth") -> None:
    """Cancel, as an administrator may, what waits for a standby."""
    waiting = f"""SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
        WHERE wait_event = 'SyncRep' AND application_name = '{application}'"""
    while server.on(waiting) != [(1,)]:  # noqa: ASYNC110 - a condition of another process's
        await trio.sleep(0.05)
