"""The door to trio_asyncio: asyncio coroutines, run from Trio, for database drivers.

Owns the asyncio loop on top of Trio. Promises that a call is not torn apart by Trio's cancellation, and
that it ends by its own timeout. Does not say what a call that timed out has done: the caller gives the
connection up.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple, cast

import trio
import trio_asyncio

T = TypeVar("T")
Args = TypeVarTuple("Args")


class AioTimeout(Exception):
    """The call was cancelled at its timeout; whether it took effect is unknown."""


class Aio:
    """An open asyncio loop."""

    def __init__(self, loop: trio_asyncio.TrioEventLoop) -> None:
        self._loop = loop

    async def run(self, async_fn: Callable[[*Args], Awaitable[T]], *args: *Args, timeout_seconds: float) -> T:
        """The result of the asyncio coroutine function, or what it raised, or AioTimeout.

        Shielded: a cancellation from outside is seen only after the call has ended, and then by the
        caller's next checkpoint. At the timeout the asyncio task is cancelled, and has ended when
        AioTimeout is raised.
        """

        async def call() -> T:
            return await async_fn(*args)

        with trio.CancelScope(shield=True, deadline=trio.current_time() + timeout_seconds):
            return cast("T", await self._loop.run_aio_coroutine(call()))
        raise AioTimeout(f"no answer within {timeout_seconds:g} s")


@asynccontextmanager
async def open_aio() -> AsyncIterator[Aio]:
    """Opens the loop; on leaving, what still runs in it is cancelled and waited for."""
    async with trio_asyncio.open_loop() as loop:
        yield Aio(loop)
