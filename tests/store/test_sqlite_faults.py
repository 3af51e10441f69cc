"""What an SQLite store makes of faults: a killed process, a full disk, a lock, a call that hangs."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
import trio

from berth.core.names import Key
from berth.runtime.clock import ManualClock, SystemClock
from berth.store import sqlite
from berth.store.api import StoreFault, StoreRefused
from berth.store.sqlite import SqliteStore, open_sqlite
from berth.store.sqlite_file import connect
from tests.store.conformance import must_win, read_one
from tests.store.crashing import LEASES, key_of
from tests.store.samples import KEY, held, many_keys, stored_keys


def killed_while_writing(path: Path, lines: int) -> dict[int, int]:
    """The highest version that was told to be durable, by lease, when the process was killed."""
    command = [sys.executable, "-m", "tests.store.crashing", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        with pytest.raises(StoreRefused, match="another process uses"):
            trio.run(versions, path)
        process.kill()
        told += process.stdout.readlines()
    durable: dict[int, int] = {}
    for line in told:
        number, version = line.split()
        durable[int(number)] = int(version)
    return durable


async def versions(path: Path) -> dict[int, int]:
    async with open_sqlite(str(path), clock=SystemClock(), boot_id="boot-1") as store:
        reading = await store.read([key_of(number) for number in range(LEASES)])
    records = [reading.leases[key_of(number)].record for number in range(LEASES)]
    return {number: record.version for number, record in enumerate(records) if record}


def test_a_killed_process_loses_nothing_that_it_told(path: Path):
    for lines in (1, 50, 200, 333):
        durable = killed_while_writing(path, lines)
        found = trio.run(versions, path)
        for number, version in durable.items():
            assert found[number] in (version, version + 1)  # the last may be durable without being told


async def test_a_full_disk_refuses_writes_until_there_is_room(small_disk: Path, clock: ManualClock):
    async with open_sqlite(str(small_disk / "berth.db"), clock=clock, boot_id="boot-1") as store:
        await must_win(store, held())
        ballast = small_disk / "ballast"
        fill(ballast)
        with pytest.raises(StoreFault, match="its disk is full: make room") as caught:
            await write_new_leases(store)
        assert not caught.value.outcome_known  # it is the commit that fails
        await store.ping()
        await must_win(store, held(version=2))  # what needs no room goes on
        assert (await read_one(store)).record is not None
        ballast.unlink()
        await store.ping()
        await must_win(store, held(version=3), held(Key("default", "b")))


async def write_new_leases(store: SqliteStore) -> None:
    for n in range(100):
        await store.write([held(Key(f"ns-{n}", f"lease-{m}")) for m in range(100)])


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


async def test_a_full_disk_at_the_start_is_refused(small_disk: Path, clock: ManualClock):
    fill(small_disk / "ballast")
    with pytest.raises(StoreRefused, match="disk"):
        async with open_sqlite(str(small_disk / "berth.db"), clock=clock, boot_id="boot-1"):
            pass


async def test_somebody_elses_transaction_is_a_fault_that_wrote_nothing(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    connections: list[Path] = []

    def counted(path: Path) -> sqlite3.Connection:
        connections.append(path)
        return connect(path)

    monkeypatch.setattr("berth.store.sqlite_file.BUSY_SECONDS", 0.01)
    monkeypatch.setattr("berth.store.sqlite_driver.connect", counted)
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreFault, match="another program has it locked") as caught:
                await store.write([held()])
            assert caught.value.outcome_known
            with pytest.raises(StoreFault):
                await store.ping()
            assert (await read_one(store)).record is None
        await must_win(store, held())
    assert len(connections) == 3  # a new one after each fault


async def test_a_damaged_row_is_a_fault_and_others_are_served(path: Path, clock: ManualClock):
    other = Key("default", "other")
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        await must_win(store, held(), held(other))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE berth_leases SET tenures = '[{\"holder\": 1}]' WHERE name = 'a'")
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        with pytest.raises(StoreFault):
            await store.read([KEY])
        assert (await read_one(store, other)).record is not None


def overwrite(path: Path, table: str) -> None:
    """Overwrite the first page of `table` in the file, behind SQLite's back."""
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xff" * page_bytes)


@pytest.mark.parametrize("table", ["berth_leases", "berth_sessions", "berth_clock", "berth_schema"])
async def test_damage_in_any_table_is_refused_at_the_start(path: Path, clock: ManualClock, table: str):
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1"):
        pass
    overwrite(path, table)
    with pytest.raises(StoreRefused, match=f"cannot use {path}: it is damaged: restore a backup"):
        async with open_sqlite(str(path), clock=clock, boot_id="boot-1"):
            pass


async def test_a_ping_notices_damage_that_came_later(path: Path, clock: ManualClock):
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        overwrite(path, "berth_leases")
        clock.advance(5)
        with pytest.raises(StoreFault, match="it is damaged: restore a backup"):
            await store.ping()
        with closing(sqlite3.connect(path)) as db:  # the time still goes on
            assert db.execute("SELECT store_us FROM berth_clock").fetchone() == (5_000_000,)


class StuckClock(ManualClock):
    """A clock that does not answer while it is stuck: so a call on the store's thread hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.free.set()

    def boot_us(self) -> int:
        self.free.wait(10)
        return super().boot_us()


async def test_a_call_that_hangs_is_given_up_and_the_next_does_not_queue(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    clock = StuckClock()
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        await must_win(store, held())
        monkeypatch.setattr(sqlite, "CALL_SECONDS", 0.05)
        clock.free.clear()
        with pytest.raises(StoreFault, match=r"no answer within 0\.05 s") as caught:
            await store.write([held(version=2)])
        assert not caught.value.outcome_known
        with pytest.raises(StoreFault, match="has not answered an earlier call yet") as caught:
            await store.write([held(Key("default", "b"))])
        assert caught.value.outcome_known
        monkeypatch.setattr(sqlite, "CALL_SECONDS", 5)
        clock.free.set()
        with trio.fail_after(5):
            await until_answered(store)
        observed = await read_one(store)
        assert observed.record is not None
        assert observed.record.version == 2
        await must_win(store, held(version=3), held(Key("default", "b")))


async def test_an_opening_that_hangs_is_given_up_and_made_good(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    free = threading.Event()

    def stuck(path: Path) -> sqlite3.Connection:
        free.wait(10)
        return connect(path)

    monkeypatch.setattr("berth.store.sqlite_driver.connect", stuck)
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        monkeypatch.setattr(sqlite, "CALL_SECONDS", 0.05)
        with pytest.raises(StoreFault, match="no answer within") as caught:
            await store.write([held()])
        assert caught.value.outcome_known
        with pytest.raises(StoreFault, match="has not answered an earlier call yet"):
            await store.read([KEY])
        monkeypatch.setattr(sqlite, "CALL_SECONDS", 5)
        free.set()
        with trio.fail_after(5):
            await until_answered(store)
        await must_win(store, held())


async def until_answered(store: SqliteStore) -> None:
    while True:
        try:
            return await store.ping()
        except StoreFault:
            await trio.sleep(0.001)


async def test_a_cancelled_close_still_saves_the_time(path: Path, clock: ManualClock):
    with trio.CancelScope() as scope:
        async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
            await must_win(store, *stored_keys(many_keys(10)))
            clock.advance(5)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    async with open_sqlite(str(path), clock=ManualClock(), boot_id="boot-2") as store:
        assert (await read_one(store, many_keys(1)[0])).idle_us == (5_000_000,)
