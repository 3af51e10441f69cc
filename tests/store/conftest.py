"""What the tests of all stores share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from berth.runtime.clock import ManualClock
from tests.support.databases import mounted
from tests.support.mariadb import GivenMysql, Mariadb, given_mysql, mariadb
from tests.support.postgres import GivenPostgres, Postgres, given_postgres, postgres


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


@pytest.fixture(scope="session")
def postgres_given() -> Iterator[GivenPostgres]:
    with given_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mysql_given() -> Iterator[GivenMysql]:
    with given_mysql() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a database file may be made."""
    return tmp_path / "berth.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, "size=1m"):
        yield tmp_path


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A directory in which this user can create nothing."""
    if os.geteuid() == 0:
        with mounted(tmp_path, "ro,size=64k"):
            yield tmp_path
    else:
        tmp_path.chmod(0o500)
        yield tmp_path
        tmp_path.chmod(0o700)
