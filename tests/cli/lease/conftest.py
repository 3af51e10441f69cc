"""One server over TLS for all tests of the client commands; each test uses lease names of its own."""

import getpass
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from berth.client import BerthClient
from tests.cli.conftest import Berth
from tests.cli.server import api_key, apiserver

ME = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def url(folder: Path) -> Iterator[str]:
    with apiserver(folder) as address:
        yield address


@pytest.fixture(autouse=True)
def as_tenant_a(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BERTH_API_SERVER", url)
    monkeypatch.setenv("BERTH_CA_FILE", str(folder / "ca.pem"))
    monkeypatch.setenv("BERTH_API_KEY", api_key("a"))


@pytest.fixture
def as_b(berth: Berth) -> Berth:
    return lambda *args: berth(*args, "--api-key", api_key("b"))


@pytest.fixture
def as_root(berth: Berth) -> Berth:
    return lambda *args: berth(*args, "--api-key", api_key("root"))


@pytest.fixture
def client(url: str, folder: Path) -> Callable[..., Any]:
    """Asks the server once, as tenant a: the name of a client's method, and its arguments."""

    def ask(method: str, *args: Any, **named: Any) -> Any:
        async def once() -> Any:
            async with BerthClient(url, api_key=api_key("a"), ca_file=folder / "ca.pem") as client:
                return await getattr(client, method)(*args, **named)

        return trio.run(once)

    return ask


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{3,}", line) for line in text.splitlines()]
