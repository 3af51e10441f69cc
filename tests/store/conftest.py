"""What the tests of all stores share."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from berth.runtime.clock import ManualClock
from tests.support.mariadb import Mariadb, mariadb
from tests.support.postgres import Postgres, postgres

pytest.register_assert_rewrite("tests.store.conformance")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(boot_us=123_456, wall_us=1_700_000_000_000_000)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Mariadb]:
    with mariadb() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database file may be made."""
    return tmp_path / "berth.db"


def _mounted(directory: Path, options: str) -> Iterator[Path]:
    """A small file system in memory, at `directory`."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from _mounted(tmp_path, "size=1m")


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A directory in which this user can create nothing."""
    if os.geteuid() == 0:
        yield from _mounted(tmp_path, "ro,size=64k")
    else:
        tmp_path.chmod(0o500)
        yield tmp_path
        tmp_path.chmod(0o700)
