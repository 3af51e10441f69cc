"""The SQLite store: the contract, and what becomes of time and content over a restart."""

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from berth.core.records import Session, Tenure
from berth.runtime.clock import ManualClock
from berth.store import sqlite
from berth.store.sqlite import SqliteStore, open_sqlite
from tests.store.conformance import DAY_SECONDS, StoreConformance, must_win, read_one
from tests.store.samples import KEY, SECOND, held, unmarked


@pytest.fixture
async def store(clock: ManualClock, path: Path) -> AsyncIterator[SqliteStore]:
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        yield store


class TestSqliteStore(StoreConformance):
    pass


async def idle_us(path: Path, clock: ManualClock, boot_id: str) -> int:
    """How long the lease has been idle, as the next process to open the file sees it."""
    async with open_sqlite(str(path), clock=clock, boot_id=boot_id) as store:
        return (await read_one(store)).idle_us[0]


async def written(path: Path, clock: ManualClock) -> None:
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        clock.advance(100)
        await must_win(store, held())
        clock.advance(5)


def crashed(path: Path) -> Path:
    """The file as it would be found if the process ended now."""
    copy = path.with_name("crashed.db")
    for file in (path, path.with_name(f"{path.name}-wal")):
        if file.exists():
            shutil.copy(file, file.with_name(file.name.replace(path.name, copy.name)))
    return copy


async def test_content_outlives_the_process(path: Path, clock: ManualClock):
    session = Session("s-1", 1, "edge-1", "uid", 60 * SECOND, 1)
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        await must_win(store, held(token=41), session)
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        reading = await store.read([KEY], ["s-1"])
        assert await store.write([held(token=1)]) == set()
    record = reading.leases[KEY].record
    assert record is not None
    assert unmarked(record) == held(token=41)
    assert unmarked(reading.sessions["s-1"].session) == session


async def test_time_in_the_same_boot_counts_while_nobody_runs(path: Path, clock: ManualClock):
    await written(path, clock)
    clock.advance(20)
    assert await idle_us(path, clock, "boot-1") == 25 * SECOND
    clock.advance(1)
    assert await idle_us(path, clock, "boot-1") == 26 * SECOND


async def test_time_across_a_boot_does_not_count(path: Path, clock: ManualClock):
    await written(path, clock)
    later = ManualClock(boot_us=999_000 * SECOND, wall_us=clock.wall_us() + DAY_SECONDS * SECOND)
    assert await idle_us(path, later, "boot-2") == 5 * SECOND
    later.advance(7)
    assert await idle_us(path, later, "boot-2") == 12 * SECOND


@pytest.mark.parametrize(
    ("step_seconds", "expected_seconds"), [(DAY_SECONDS, 25), (-1, 24), (-20, 5), (-DAY_SECONDS, 5)]
)
async def test_a_wall_clock_set_meanwhile_shortens_no_lease(
    path: Path, clock: ManualClock, step_seconds: int, expected_seconds: int
):
    await written(path, clock)
    clock.advance(20)
    clock.step_wall(step_seconds)
    assert await idle_us(path, clock, "boot-1") == expected_seconds * SECOND


async def test_time_goes_on_after_a_crash(path: Path, clock: ManualClock):
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        await must_win(store, held())
        clock.advance(5)
        found = crashed(path)
    clock.advance(20)
    assert await idle_us(found, clock, "boot-1") == 25 * SECOND


async def test_after_a_crash_and_a_boot_time_resumes_where_it_was_last_saved(path: Path, clock: ManualClock):
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        await must_win(store, held())
        clock.advance(5)
        await store.ping()
        clock.advance(3)
        found = crashed(path)
    assert await idle_us(found, ManualClock(wall_us=clock.wall_us()), "boot-2") == 5 * SECOND


async def test_no_mark_is_beyond_the_time_that_was_saved(path: Path, clock: ManualClock):
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        clock.advance(5)
        await must_win(store, held())
        found = crashed(path)
    later = ManualClock()
    async with open_sqlite(str(found), clock=later, boot_id="boot-2") as store:
        later.advance(3)
        assert (await read_one(store)).idle_us == (3 * SECOND,)


async def test_a_new_boot_is_noted_at_once(path: Path, clock: ManualClock):
    await written(path, clock)
    later = ManualClock(boot_us=7, wall_us=clock.wall_us())
    async with open_sqlite(str(path), clock=later, boot_id="boot-2"):
        found = crashed(path)
    later.advance(20)
    assert await idle_us(found, later, "boot-2") == 25 * SECOND


async def test_time_is_saved_while_nobody_writes(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sqlite, "SAVE_SECONDS", 0.001)
    with closing(sqlite3.connect(path)) as reader, trio.fail_after(10):
        async with open_sqlite(str(path), clock=clock, boot_id="boot-1"):
            clock.advance(30)
            while True:
                if reader.execute("SELECT store_us FROM berth_clock").fetchone() == (30 * SECOND,):
                    break
                await trio.sleep(0.001)


async def test_commits_are_on_the_disk_when_they_return(path: Path, store: SqliteStore):
    await must_win(store, held())
    with closing(sqlite.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_a_write_that_only_loses_costs_no_commit(path: Path, store: SqliteStore):
    await must_win(store, held())
    size = path.with_name("berth.db-wal").stat().st_size
    assert await store.write([held(), held(version=7)]) == set()
    assert path.with_name("berth.db-wal").stat().st_size == size


async def test_tenures_are_stored_as_this_json(path: Path, clock: ManualClock):
    """Files that exist hold it: another shape needs a migration."""
    tenures = (Tenure("é", 1, 2, 3, None, 4), Tenure("b", 2, 5, 0, "s-1", 6))
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        await must_win(store, held())
    stored = '[{"holder":"é","token":1,"acquired_at_us":2,"ttl_us":3,"session":null,"mark":4},'
    stored += '{"holder":"b","token":2,"acquired_at_us":5,"ttl_us":0,"session":"s-1","mark":6}]'
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE berth_leases SET tenures = ?", (stored,))
        async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
            record = (await read_one(store)).record
            assert record is not None
            assert record.tenures == tenures
            await must_win(store, replace(record, version=2, lock_delay_us=1))
        assert db.execute("SELECT lock_delay_us, tenures FROM berth_leases").fetchone() == (1, stored)
