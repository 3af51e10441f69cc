"""One server for all holders, and a stage for each test."""

import signal
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from tests.cli.hold.holders import Stage, open_stage
from tests.support.apiserver import Apiserver, Certificates, apiserver


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server(certificates: Certificates) -> Iterator[Apiserver]:
    with apiserver(certificates) as server:
        yield server


@pytest.fixture
def heard_signals() -> Iterator[None]:
    """What this process ignores, under nohup or in the background, those it starts would ignore as well."""
    ignored = [n for n in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
async def stage(server: Apiserver, heard_signals: None, tmp_path: Path) -> AsyncGenerator[Stage]:
    """Its leases have names that no other test uses."""
    async with open_stage(server, tmp_path) as stage:
        yield stage
