"""Certificates, logs and a server on a free port, for the tests of the runtime floor."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from berth.runtime.asgi import AsgiApp
from berth.runtime.clock import SystemClock
from berth.runtime.log import Logger, Logs
from berth.runtime.serve import ServeLimits, Server, serve_app
from berth.runtime.tls import ServerTls, TlsFiles


@dataclass
class Journal:
    """A log that a test can read."""

    stream: StringIO = field(default_factory=StringIO)

    @property
    def logger(self) -> Logger:
        return Logs("debug", stream=self.stream).logger("test")

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def messages(self) -> list[str]:
        return [line["msg"] for line in self.lines]


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


def write_pair(authority: trustme.CA, directory: Path, *names: str) -> TlsFiles:
    """Issues a certificate for the names and writes it where a server reads it."""
    issued = authority.issue_cert(*names)
    files = TlsFiles(directory / "tls.crt", directory / "tls.key")
    files.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    files.key.write_bytes(issued.private_key_pem.bytes())
    return files


@pytest.fixture
def tls_files(authority: trustme.CA, tmp_path: Path) -> TlsFiles:
    return write_pair(authority, tmp_path, "localhost", "127.0.0.1")


@pytest.fixture
def server_tls(tls_files: TlsFiles, journal: Journal) -> ServerTls:
    return ServerTls(tls_files, clock=SystemClock(), logger=journal.logger)


StartServer = Callable[..., Awaitable[Server]]


@pytest.fixture
def start_server(nursery: trio.Nursery, journal: Journal) -> StartServer:
    async def start(app: AsgiApp, *, tls: ServerTls | None = None, **limits: Any) -> Server:
        return await nursery.start(
            partial(
                serve_app,
                app,
                address="127.0.0.1:0",
                tls=tls,
                logger=journal.logger,
                limits=ServeLimits(**limits),
            )
        )

    return start


Dial = Callable[[Server], Awaitable[trio.SocketStream]]


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Opens bare TCP connections, closed when the test ends."""
    streams: list[trio.SocketStream] = []

    async def connect(server: Server) -> trio.SocketStream:
        host, _, port = server.addresses[0].partition("//")[2].rpartition(":")
        streams.append(await trio.open_tcp_stream(host, int(port)))
        return streams[-1]

    yield connect
    for stream in streams:
        await trio.aclose_forcefully(stream)


async def read_to_end(stream: trio.abc.ReceiveStream, *, within_seconds: float = 5) -> bytes:
    """Everything until the server closes; a reset counts as a close."""
    received = bytearray()
    with trio.fail_after(within_seconds):
        try:
            async for data in stream:
                received += data
        except trio.BrokenResourceError:
            pass
    return bytes(received)


async def read_reply(stream: trio.abc.ReceiveStream, *, within_seconds: float = 5) -> tuple[int, bytes]:
    """One reply with a Content-Length: its status and body."""
    received = b""
    with trio.fail_after(within_seconds):
        while b"\r\n\r\n" not in received:
            received += await _more(stream)
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        while len(body) < length:
            body += await _more(stream)
    return int(head.split()[1]), body


async def _more(stream: trio.abc.ReceiveStream) -> bytes:
    data = await stream.receive_some()
    assert data, "the server closed before its reply was whole"
    return bytes(data)
