"""One server for all holders, and a stage for each test."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from tests.cli.hold.holders import Stage
from tests.support.apiserver import Apiserver, Certificates, apiserver


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server(certificates: Certificates) -> Iterator[Apiserver]:
    with apiserver(certificates) as server:
        yield server


@pytest.fixture
async def stage(server: Apiserver, tmp_path: Path) -> AsyncGenerator[Stage]:
    """Its leases have names that no other test uses."""
    stage = Stage(server, tmp_path)
    yield stage
    stage.close()
