"""Marks: where a service keeps the highest token that its requests have shown, for the middleware.

Owns the protocol and the one implementation, on a table of SQLite, PostgreSQL or MariaDB. Promises that a
mark is durable before `raise_to` returns, that it never falls, and that all threads and processes on one
database see the same. Only a new token is written; the requests after it read.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Protocol

from berth.client.fencing.errors import StaleToken
from berth.client.fencing.sql import Cursor, SqlFence
from berth.client.fencing.stamp import Stamp


class Marks(Protocol):
    """The highest token of each lease. Called in threads, by many at a time."""

    def raise_to(self, stamp: Stamp) -> int:
        """Enters the stamp's token, durably, if it is the highest; returns the highest. May block."""
        ...


class Connection(Protocol):
    """What is used of a DB-API connection that is not in autocommit mode."""

    def cursor(self) -> Cursor: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


class SqlMarks:
    """Marks in the table of `fence`, through a connection of its own for each request.

    `connect` opens one, with a lock timeout; opening an SQLite file costs less than a millisecond, for a
    database behind a network give it a pool's. Its faults pass through `raise_to`, and the request is not
    served.
    """

    def __init__(self, fence: SqlFence, connect: Callable[[], Connection]) -> None:
        self._fence = fence
        self._connect = connect

    def create(self) -> None:
        """Makes the table where it is missing. Call it once, before the first request."""
        with closing(self._connect()) as connection:
            self._fence.create(connection.cursor())
            connection.commit()

    def raise_to(self, stamp: Stamp) -> int:
        with closing(self._connect()) as connection:
            highest = self._fence.highest(connection.cursor(), lease=stamp.lease)
            connection.rollback()  # the read's snapshot must not be that of the write
            if stamp.token <= highest:
                return highest
            try:
                self._fence.check(connection.cursor(), lease=stamp.lease, token=stamp.token)
            except StaleToken as stale:
                connection.rollback()
                return stale.highest
            connection.commit()
            return stamp.token
