"""What the SQLite store remembers: no more than what is certain, and no more than so much."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from berth.core.names import Key
from berth.core.records import Session
from berth.runtime.clock import ManualClock
from berth.store.api import StoreFault
from berth.store.sqlite import SqliteStore, open_sqlite
from berth.store.sqlite_cache import LEASES_MAX, Cache
from tests.store.conformance import must_win, read_one
from tests.store.samples import KEY, SECOND, held


@pytest.fixture
async def store(path: Path, clock: ManualClock) -> AsyncIterator[SqliteStore]:
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as opened:
        yield opened


def change_behind_its_back(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE berth_leases SET version = 7, token = 9, lock_delay_us = 5")


async def test_what_lost_is_read_again(path: Path, store: SqliteStore) -> None:
    await must_win(store, held())
    change_behind_its_back(path)
    assert await store.write([held(version=2)]) == set()
    observed = await read_one(store)
    assert observed.record is not None
    assert (observed.record.version, observed.record.token) == (7, 9)


async def test_after_a_fault_everything_is_read_again(path: Path, store: SqliteStore) -> None:
    await must_win(store, held())
    change_behind_its_back(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFault):
            await store.write([held(version=2)])
        db.rollback()
    observed = await read_one(store)
    assert observed.record is not None
    assert observed.record.version == 7


async def test_a_session_that_was_forgotten_is_not_remembered(path: Path, clock: ManualClock) -> None:
    session = Session("s", 1, "edge-1", "", 60 * SECOND, 1)
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        await must_win(store, session, held(session="s"))
        assert set((await store.read([KEY])).sessions) == {"s"}
        await must_win(store, replace(session, version=2, ended="clean", ended_at_us=1, mark=1))
        assert (await store.read([KEY])).sessions["s"].session.ended == "clean"
        await store.forget(["s"])
        assert (await store.read([KEY], ["s"])).sessions == {}


async def test_idle_times_go_on_for_what_is_remembered(store: SqliteStore, clock: ManualClock) -> None:
    await must_win(store, held())
    for seconds in (1, 2, 3):
        clock.advance(1)
        assert (await read_one(store)).idle_us == (seconds * SECOND,)


def test_it_is_bounded() -> None:
    cache = Cache()
    records = [held(Key("n", f"l{number}")) for number in range(LEASES_MAX + 10)]
    cache.note_written(records, {record.key for record in records})
    assert len(cache.records) == LEASES_MAX
    assert not cache.has([records[0].key], ())
    assert cache.has([records[-1].key], ())
