"""Scripted servers over real TLS, and clients that trust them and pause as little as they may."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
import trustme

from berth.client import BerthClient
from tests.client.scripted import Scripted, serve_scripted


class NoJitter(Random):
    """Draws the lower end of every range: pauses last as long as a server asks for, and no longer."""

    def uniform(self, a: float, b: float) -> float:
        return a


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


Start = Callable[[], Awaitable[Scripted]]


@pytest.fixture
def start(nursery: trio.Nursery, authority: trustme.CA) -> Start:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return partial(nursery.start, serve_scripted, context)


@pytest.fixture
async def server(start: Start) -> Scripted:
    return await start()


Connect = Callable[..., Awaitable[BerthClient]]


@pytest.fixture
async def connect(ca_file: Path) -> AsyncIterator[Connect]:
    """Makes clients of servers or of bare URLs; they are closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def make(*servers: Scripted | str, **options: Any) -> BerthClient:
            urls = [server if isinstance(server, str) else server.url for server in servers]
            options = {"ca_file": ca_file, "rng": NoJitter(), **options}
            return await stack.enter_async_context(BerthClient(urls, **options))

        yield make


@pytest.fixture
async def client(server: Scripted, connect: Connect) -> BerthClient:
    return await connect(server)


@pytest.fixture
async def nobody() -> str:
    """The URL of a port where nothing listens."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    return f"https://127.0.0.1:{port}"
