"""The MariaDB store when the server, the network or another session is at fault."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from berth.core.names import Key
from berth.core.records import Record
from berth.store.api import StoreFault
from berth.store.mariadb import MariadbStore, open_mariadb
from berth.store.mariadb_statements import NOW
from berth.store.sql_store import Settings
from tests.store.conformance import must_win, read_one
from tests.store.samples import held
from tests.store.sql_faults import SqlFaults, fault_of, quiet, serves_again
from tests.support.databases import mounted
from tests.support.mariadb import Mariadb

BATCH = 500


def batch(number: int) -> list[Record]:
    return [held(Key("full", f"{number}-{each}")) for each in range(BATCH)]


async def up_again(server: Mariadb, store: MariadbStore) -> None:
    while True:
        if server.ended:
            server.start()
        try:
            return await store.ping()
        except StoreFault:
            await trio.sleep(0.1)


@pytest.fixture
def server(mariadb_server: Mariadb) -> Iterator[Mariadb]:
    yield mariadb_server
    mariadb_server.empty()


class TestMariadbFaults(SqlFaults):
    def opened(self, source: str, settings: Settings, now: str | None = None):
        return open_mariadb(source, settings, now=now or NOW)

    slow_now = "(UTC_TIMESTAMP(6) + INTERVAL SLEEP((SELECT seconds FROM nap)) MICROSECOND)"

    def source_at(self, address: str) -> str:
        return f"berth:berth@tcp({address})/berth"

    async def test_a_server_that_may_not_be_written_is_not_used(self, server: Mariadb, store: MariadbStore):
        server.on("SET GLOBAL read_only = 1")
        try:
            for thread in server.threads():
                server.on(f"KILL {thread}")
            await fault_of(store)
            fault = await fault_of(store)
            assert fault.outcome_known
            assert "read-only" in str(fault)
        finally:
            server.on("SET GLOBAL read_only = 0")
        await serves_again(store)

    async def test_a_full_disk_loses_nothing_that_was_told(self, server: Mariadb, small_disk: Path):
        """MariaDB 10.11 may end itself over it. Who starts it again, with room, finds all of it there."""
        async with self.opened(server.source.replace("/berth?", "/small?"), quiet()[0]) as store:
            await must_win(store, held())
            full = 0
            while True:
                assert full < 100
                try:
                    assert len(await store.write(batch(full))) == BATCH
                except StoreFault:
                    break
                full += 1
            assert full > 0
            await trio.run_process(["mount", "-o", "remount,size=64m", str(small_disk)])
            with trio.fail_after(30):
                await up_again(server, store)
            for number in range(full + 1):
                reading = await store.read([record.key for record in batch(number)])
                there = [observed.record is not None for observed in reading.leases.values()]
                assert all(there) or (number == full and not any(there))
            await must_win(store, held(version=2), held(Key("full", "after")))

    @pytest.fixture
    def small_disk(self, server: Mariadb) -> Iterator[Path]:
        """Where the database `small` is, with room for a few tables."""
        folder = server.folder / "data" / "small"
        folder.mkdir()
        with mounted(folder, "size=2m"):
            server.own(folder)
            yield folder
            for table in ("leases", "sessions", "meta", "schema"):
                server.on(f"DROP TABLE IF EXISTS small.berth_{table}")
        folder.rmdir()

    async def test_the_old_holder_is_not_revived_by_the_order_of_assignments(
        self, server: Mariadb, store: MariadbStore
    ):
        """What is computed of the old row is computed before the row changes."""
        server.on("UPDATE berth_leases SET renewed_at = '2199-01-01', holder = ''")
        await must_win(store, held(version=2, token=2, holder="next"))
        observed = await read_one(store)
        assert observed.record is not None
        assert (observed.record.token, observed.record.tenures[0].holder) == (2, "next")
        # Of a free lease nothing is kept, so the mark of before is not either.
        assert abs(observed.at_us - (observed.record.tenures[0].mark or 0)) < 5_000_000
        server.on("UPDATE berth_leases SET renewed_at = '2199-01-01'")
        await must_win(store, held(version=3, token=2, holder="next"))
        (((year,),)) = server.on("SELECT YEAR(renewed_at) FROM berth_leases WHERE name = 'a'")
        assert year == (2199,) or year == 2199

    async def test_time_does_not_depend_on_the_session_s_zone(self, server: Mariadb):
        server.on("SET GLOBAL time_zone = '-07:00'")
        try:
            async with self.opened(server.source, quiet()[0]) as store:
                await must_win(store, held())
                assert (await read_one(store)).idle_us[0] < 5_000_000
        finally:
            server.on("SET GLOBAL time_zone = 'SYSTEM'")

    async def test_a_server_that_may_forget_is_warned_of(self, server: Mariadb):
        server.on("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        settings, log = quiet()
        try:
            async with self.opened(server.source, settings):
                assert "innodb_flush_log_at_trx_commit" in log.getvalue()
        finally:
            server.on("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
