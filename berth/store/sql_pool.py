"""A bounded pool of connections to a database server.

Owns how many there are, who has which, and how long one may stay unused. Promises that nobody waits for a
connection beyond a limit, that one whose state is unknown is never used again, and that after a connection
was lost no other of its age is trusted, so that a server that is back is found at the next call. Knows no
SQL.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import trio

from berth.store.api import StoreFault

WAIT_SECONDS = 1.0
"""How long a call waits for a connection of a pool that is in use."""

IDLE_SECONDS = 60.0
"""What was not used for so long may have been dropped on the way, without a word."""


class Connection(Protocol):
    @property
    def sound(self) -> bool:
        """Whether it is known to be usable for the next call."""
        ...

    @property
    def lost(self) -> bool:
        """Whether its end was the network's or the server's, so that others may have ended with it."""
        ...

    def discard(self) -> None:
        """Break it off, at once and without a fault."""
        ...


ConnectionT = TypeVar("ConnectionT", bound=Connection)


class Pool(Generic[ConnectionT]):
    """`connect` makes a connection that is ready for use, or raises `StoreFault`."""

    def __init__(self, connect: Callable[[], Awaitable[ConnectionT]], size: int) -> None:
        self._connect = connect
        self._free = trio.Semaphore(size, max_value=size)
        self._idle: list[tuple[float, ConnectionT]] = []
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[ConnectionT]:
        """A connection that nobody else uses meanwhile. Raises `StoreFault`, its outcome known."""
        with trio.move_on_after(WAIT_SECONDS) as patience:
            await self._free.acquire()
        if patience.cancelled_caught:
            raise StoreFault("all connections to the database are in use", outcome_known=True)
        try:
            connection = self._take() or await self._connect()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._free.release()

    def close(self) -> None:
        self._closed = True
        self._discard_idle()

    def _take(self) -> ConnectionT | None:
        fresh_since = trio.current_time() - IDLE_SECONDS
        while self._idle:
            since, connection = self._idle.pop()
            if connection.sound and since > fresh_since:
                return connection
            connection.discard()
        return None

    def _give_back(self, connection: ConnectionT) -> None:
        if connection.sound and not self._closed:
            self._idle.append((trio.current_time(), connection))
            return
        if connection.lost or self._closed:
            self._discard_idle()
        connection.discard()

    def _discard_idle(self) -> None:
        for _, connection in self._idle:
            connection.discard()
        self._idle.clear()
