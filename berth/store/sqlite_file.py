"""The file of an SQLite database: where it is, that it can be used, and that one process uses it.

Owns the reading of a DSN, the creation of the file, its lock file, and the settings of every connection to
it. Promises that what cannot be used is refused with a text that says what to do. Does not look inside.
"""

import fcntl
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from berth.store.api import StoreRefused

BUSY_SECONDS = 2.0
"""How long to wait for somebody else's transaction: a backup, or a person with the sqlite3 shell."""

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = {"afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "nfs", "nfs4", "smb3"}
_ONLY_OWNER = 0o600

_ADVICE = {
    sqlite3.SQLITE_BUSY: "another program has it locked: close that program",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore a backup, or start anew when no lease is held",
    sqlite3.SQLITE_FULL: "its disk is full: make room",
    sqlite3.SQLITE_IOERR: "its disk fails: look into the kernel's log",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database: give the path of a new file",
    sqlite3.SQLITE_READONLY: "it cannot be written: see to its permissions and its mount",
}


def database_path(dsn: str) -> Path:
    """The file that `dsn` (a path, or `file:` and a path) names. Raises StoreRefused."""
    path, _, parameters = dsn.partition("?") if dsn.startswith("file:") else (dsn, "", "")
    if dsn == ":memory:" or path == "file::memory:" or "mode=memory" in parameters:
        raise StoreRefused("an SQLite database in memory would lose every lease: use --store-backend mem")
    if parameters:
        raise StoreRefused(
            f"the SQLite DSN has parameters ({parameters}), but berth makes all settings itself: "
            "leave '?' and what follows out"
        )
    if path.startswith("file:"):
        path = unquote(path.removeprefix("file:"))
        if path.startswith("//"):
            path = _without_authority(path)
    if not path:
        raise StoreRefused("the SQLite DSN is empty: give the path of the database file")
    return Path(path)


def _without_authority(path: str) -> str:
    host, slash, rest = path.removeprefix("//").partition("/")
    if host not in ("", "localhost"):
        raise StoreRefused(f"the SQLite DSN names the host {host!r}: write file:/path or file:///path")
    return slash + rest


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Keep every other process out while the body runs; create the file if it is missing.

    The lock is the kernel's, on `PATH.lock`: it ends with the process, and the lock file may stay.
    Raises StoreRefused.
    """
    if os.path.isdir(path):
        raise StoreRefused(f"{path} is a directory: give the path of a database file in it")
    if not os.path.isdir(path.parent):
        raise StoreRefused(
            f"the directory {path.parent} does not exist or may not be entered: create it for berth's user"
        )
    if (kind := network_file_system(path.parent, _MOUNTS)) is not None:
        raise StoreRefused(
            f"{path} is on a network file system ({kind}), where SQLite's locks do not hold: use a local disk"
        )
    lock_path = path.with_name(path.name + ".lock")
    descriptor = _opened(lock_path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreRefused(
                f"another process uses {path} (it holds {lock_path}): stop it, or give this one its own file"
            ) from None
        os.close(_opened(path))
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _ONLY_OWNER)
    except OSError as error:
        raise StoreRefused(
            f"cannot open {path} for writing ({error.strerror}): "
            "the file and its directory must be writable for berth's user, and the disk must have room"
        ) from error


def network_file_system(directory: Path, mounts: Path) -> str | None:
    """The type of the network file system that `directory` is on, or None; also where nobody can tell."""
    device = os.stat(directory).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            kind = source.split()[0]
            return kind if kind in _NETWORK else None
    return None


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits are on the disk when they return. Raises sqlite3.Error."""
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


def advice(error: Exception) -> str:
    """What is wrong with the database, and what to do about it."""
    code = getattr(error.__cause__ or error, "sqlite_errorcode", None)
    # Extended codes hold the primary one in their lowest byte.
    meaning = _ADVICE.get(code & 0xFF) if code is not None else None
    return f"{meaning} ({error})" if meaning else str(error)
