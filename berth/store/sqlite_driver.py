"""The door to aiosqlite: a connection whose thread runs whole transactions.

Owns the thread's state: whether it still works on something that its caller has given up, and whether the
connection can be trusted. Does not retry, and does not reopen.
"""

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from berth.store.sqlite_file import connect

T = TypeVar("T")


class Driver(aiosqlite.Connection):
    """A connection and its thread, for asyncio.

    The driver's own calls are one hop to the thread for each statement; `run` is one for a transaction.

    `busy`: the thread works, whether or not anybody waits for it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(lambda: self._watched(partial(connect, path)), iter_chunk_size=64)
        self.busy = False
        self._failed = False

    @property
    def sound(self) -> bool:
        """Whether the connection was made, and the last function on it did not raise."""
        return self._connection is not None and not self._failed

    async def open(self) -> None:
        self.busy = True
        await self

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """What `fn` returns or raises. Cancelled, it stops waiting; `fn` goes on."""
        self.busy = True
        untyped: Any = self
        return await untyped._execute(self._watched, partial(fn, self._conn))

    async def end(self) -> None:
        """Close the connection and end the thread, once it has done what it was given."""
        if self._running and self._thread.is_alive():
            untyped: Any = self
            await untyped.stop()

    def _watched(self, fn: Callable[[], T]) -> T:
        """Run `fn`, on the thread."""
        try:
            return fn()
        except BaseException:
            self._failed = True
            raise
        finally:
            self.busy = False
