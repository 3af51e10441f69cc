"""Replicas: several real API servers on one store, that are killed, stopped for a while and started again.

Owns their processes. Promises that `url` is that of a server which has been started and not ended, if there
is one, and that none is left behind. What waits for a process runs in a thread.
"""

import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from random import Random

import trio

from tests.support.apiserver import ANY_PORTS, Apiserver, Certificates


class Replica:
    """One server, and its successors."""

    def __init__(self, certificates: Certificates, flags: Sequence[str], program: Sequence[str]) -> None:
        self._certificates = certificates
        self._flags = flags
        self._program = program
        self._server: Apiserver | None = None

    @property
    def url(self) -> str | None:
        return self._server.url if self._server is not None else None

    def start(self) -> None:
        certificates = self._certificates
        flags = (*certificates.flags, *ANY_PORTS, *self._flags)
        started = Apiserver(*flags, ca_file=certificates.ca_file, program=self._program)
        try:
            started.wait_for("role started")
        except BaseException:
            started.close()
            raise
        self._server = started

    def kill(self) -> None:
        self._ended().close()

    def drain(self) -> None:
        """Ask it to end, and wait until it has."""
        server = self._ended()
        server.signal(signal.SIGTERM)
        try:
            assert server.wait() == 0, server.text
        finally:
            server.close()

    def pause(self) -> None:
        assert self._server is not None
        self._server.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._server is not None
        self._server.signal(signal.SIGCONT)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def _ended(self) -> Apiserver:
        """From now on nobody is sent to it."""
        server, self._server = self._server, None
        assert server is not None
        return server


class Replicas:
    """All of them."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.all = replicas

    def url(self, rng: Random) -> str | None:
        """One of those that run."""
        urls = [replica.url for replica in self.all if replica.url is not None]
        return rng.choice(urls) if urls else None


@asynccontextmanager
async def replicas(
    count: int, certificates: Certificates, flags: Sequence[str], program: Sequence[str]
) -> AsyncGenerator[Replicas]:
    """So many servers, which serve. `program` is a module with its first arguments."""
    started = [Replica(certificates, flags, program) for _ in range(count)]
    try:
        for replica in started:
            await trio.to_thread.run_sync(replica.start)
        yield Replicas(started)
    finally:
        for replica in started:
            replica.close()
