"""Real servers, one a kind for the whole run: the lease API, the databases, an object store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fencing.s3 import ObjectStore, object_store
from tests.fencing.targets import SqlTarget, open_target
from tests.support.apiserver import Apiserver, Certificates, apiserver
from tests.support.mariadb import Mariadb, mariadb
from tests.support.postgres import Postgres, postgres


@pytest.fixture(scope="session")
def lease_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    certificates = Certificates(tmp_path_factory.mktemp("tls"))
    with apiserver(certificates, "--store-backend", "mem", "--auth-mode", "none") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Mariadb]:
    with mariadb() as server:
        yield server


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with object_store() as server:
        yield server


@pytest.fixture
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of the SQL target that a test is run for, by indirect parametrization."""
    if request.param == "postgres":
        return f"postgres {request.getfixturevalue('postgres_server').dsn}"
    if request.param == "mariadb":
        return f"mariadb {request.getfixturevalue('mariadb_server').dsn}"
    return f"{request.param} {tmp_path / 'payments.db'}"


@pytest.fixture
def target(address: str) -> Iterator[SqlTarget]:
    opened = open_target(address)
    assert isinstance(opened, SqlTarget)
    yield opened
    opened.clear()
