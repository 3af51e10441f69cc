"""Files that are refused: each with what is wrong and what to do, and untouched."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
import trio

from berth.runtime.clock import ManualClock
from berth.store.api import StoreRefused
from berth.store.sqlite import open_sqlite
from berth.store.sqlite_file import database_path, locked, network_file_system


async def opened(dsn: Path | str) -> None:
    async with open_sqlite(str(dsn), clock=ManualClock(), boot_id="boot-1"):
        pass


def refusal(dsn: Path | str) -> str:
    with pytest.raises(StoreRefused) as caught:
        trio.run(opened, dsn)
    return str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "path"),
    [
        ("/var/lib/berth/berth.db", "/var/lib/berth/berth.db"),
        ("berth.db", "berth.db"),
        ("odd?name%20#.db", "odd?name%20#.db"),
        ("file:berth.db", "berth.db"),
        ("file:/var/lib/berth.db", "/var/lib/berth.db"),
        ("file:///var/lib/berth.db", "/var/lib/berth.db"),
        ("file://localhost/var/lib/berth.db", "/var/lib/berth.db"),
        ("file:/a%20b.db?", "/a b.db"),
    ],
)
def test_a_dsn_names_a_file(dsn: str, path: str):
    assert database_path(dsn) == Path(path)


@pytest.mark.parametrize(
    ("dsn", "advice"),
    [
        (":memory:", "use --store-backend mem"),
        ("file::memory:", "use --store-backend mem"),
        ("file:x?mode=memory&cache=shared", "use --store-backend mem"),
        ("file:x.db?_pragma=busy_timeout(5000)", "leave '?' and what follows out"),
        ("file://host/x.db", "write file:/path"),
        ("", "give the path"),
        ("file:", "give the path"),
    ],
)
def test_a_dsn_that_names_none_is_refused(dsn: str, advice: str):
    with pytest.raises(StoreRefused) as caught:
        database_path(dsn)
    assert advice in str(caught.value)


async def test_the_files_are_for_their_owner_only(path: Path, clock: ManualClock):
    async with open_sqlite(str(path), clock=clock, boot_id="boot-1") as store:
        await store.ping()
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(["berth.db", "berth.db-shm", "berth.db-wal", "berth.db.lock"], 0o600)


def test_without_leave_to_migrate_no_file_is_made(path: Path, clock: ManualClock):
    async def opened_as_it_is() -> None:
        async with open_sqlite(str(path), clock=clock, boot_id="boot-1", migrate="off"):
            pass

    with pytest.raises(StoreRefused, match=r"there is no database at .*start once with --sql-migrate auto"):
        trio.run(opened_as_it_is)
    assert list(path.parent.iterdir()) == []


def test_a_second_user_of_the_file_is_refused(path: Path):
    with locked(path):
        assert "another process uses" in refusal(path)
    trio.run(opened, path)


def test_a_directory_is_refused(tmp_path: Path):
    assert "is a directory: give the path of a database file" in refusal(tmp_path)


def test_a_missing_directory_is_refused(tmp_path: Path):
    assert f"the directory {tmp_path}/no does not exist or may not be entered: create it" in refusal(
        tmp_path / "no" / "x.db"
    )


def test_an_unwritable_directory_is_refused(unwritable: Path):
    assert "must be writable for berth's user" in refusal(unwritable / "berth.db")


def test_a_lock_that_is_a_directory_is_refused(path: Path):
    Path(f"{path}.lock").mkdir()
    assert f"cannot open {path}.lock for writing" in refusal(path)


def test_a_file_that_is_no_database_is_refused_untouched(path: Path):
    content = b"apiVersion: v1\nkind: Config\n" * 100
    path.write_bytes(content)
    assert "not an SQLite database: give the path of a new file" in refusal(path)
    assert path.read_bytes() == content


def test_a_damaged_database_is_refused(path: Path):
    trio.run(opened, path)
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    assert "it is damaged: restore a backup" in refusal(path)


@pytest.mark.parametrize(
    "statements",
    [
        "CREATE TABLE places (id INTEGER PRIMARY KEY)",
        "CREATE TABLE berth_schema (version INTEGER, checksum TEXT)",
        "PRAGMA application_id = 0x42525448; CREATE TABLE places (id INTEGER)",
        "PRAGMA application_id = 1",
    ],
)
def test_another_applications_database_is_refused_untouched(path: Path, statements: str):
    with closing(sqlite3.connect(path)) as db:
        db.executescript(statements)
    content = path.read_bytes()
    assert "the database of another application" in refusal(path)
    assert path.read_bytes() == content


def test_another_implementations_database_is_refused_untouched(path: Path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE berth_leases (namespace TEXT, name TEXT, holder TEXT)")
    content = path.read_bytes()
    text = refusal(path)
    assert "another implementation" in text
    assert "start with a new file" in text
    assert path.read_bytes() == content


def test_a_database_that_somebody_has_locked_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("berth.store.sqlite_file.BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        assert "another program has it locked: close that program" in refusal(path)


@pytest.mark.parametrize(
    ("mount", "kind"),
    [
        ("{device} / / rw - ext4 /dev/vda rw", None),
        ("{device} / /data rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2", "nfs4"),
        ("{device} / /data rw - fuse.sshfs user@host: rw", "fuse.sshfs"),
        ("0:0 / /elsewhere rw - nfs4 server:/export rw", None),
    ],
)
def test_a_network_file_system_is_recognised(tmp_path: Path, mount: str, kind: str | None):
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    line = mount.format(device=f"{os.major(device)}:{os.minor(device)}")
    mounts.write_text(f"21 1 0:1 / /proc rw - proc proc rw\n36 1 {line}\n")
    assert network_file_system(tmp_path, mounts) == kind
    assert network_file_system(tmp_path, tmp_path / "missing") is None
