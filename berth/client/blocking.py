"""Blocking: holding for programs that know nothing of Trio.

Owns a thread with a Trio loop of its own that keeps the lease alive while the caller's code runs. Promises
what `hold` does but for one thing: nothing can cancel code that blocks. It must call `held.check()` before
each effect, and must end within the stop budget once the lease is lost. Only when its block has ended is the
lease given up.
"""

from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Any

import trio

from berth.client.api import BerthClient
from berth.client.errors import LeaseLost
from berth.client.held import Held
from berth.client.hold import hold

END_SECONDS = 15.0
"""How long the end of the block waits for the lease to be given up; after that it expires by itself."""


@contextmanager
def hold_blocking(
    client: BerthClient,
    namespace: str,
    name: str,
    *,
    holder: str,
    on_lost: Callable[[Held], None] | None = None,
    **terms: Any,
) -> Generator[Held]:
    """Hold the lease while the block runs; `terms` are those of `hold`.

    `client` is not open yet, and is used up. `on_lost` is called once, in another thread, when the lease is
    lost while the block runs. Raises what `hold` raises, and what a callback raised; these and LeaseLost come
    at the end of the block, unless it raised something itself.
    """
    keeper = _Keeper(partial(hold, client, namespace, name, holder=holder, **terms), client, on_lost)
    held = keeper.begin()
    try:
        yield held
    finally:
        keeper.end()
    keeper.raise_fault()
    if held.loss is not None:
        raise LeaseLost(held.what, held.loss)


class _Keeper:
    """The thread, and what is said to it and by it."""

    def __init__(
        self, enter: Callable[[], Any], client: BerthClient, on_lost: Callable[[Held], None] | None
    ) -> None:
        self._enter = enter
        self._client = client
        self._on_lost = on_lost
        self._held: Future[Held] = Future()
        self._fault: BaseException | None = None
        self._loop: Future[tuple[trio.lowlevel.TrioToken, trio.CancelScope, trio.Event]] = Future()
        self._thread = Thread(target=trio.run, args=(self._run,), name="berth-hold", daemon=True)

    def begin(self) -> Held:
        self._thread.start()
        try:
            return self._held.result()
        except BaseException:
            self._tell(lambda scope, _: scope.cancel())
            self._thread.join(END_SECONDS)
            raise

    def end(self) -> None:
        self._tell(lambda _, over: over.set())
        self._thread.join(END_SECONDS)

    def raise_fault(self) -> None:
        """Raise what went wrong in the thread while the block ran, such as in a callback."""
        if self._fault is not None:
            raise self._fault

    def _tell(self, what: Callable[[trio.CancelScope, trio.Event], None]) -> None:
        token, scope, over = self._loop.result()
        try:
            token.run_sync_soon(what, scope, over)
        except trio.RunFinishedError:
            pass

    async def _run(self) -> None:
        over = trio.Event()
        with trio.CancelScope() as scope:
            self._loop.set_result((trio.lowlevel.current_trio_token(), scope, over))
            try:
                async with self._client, self._enter() as held:
                    self._held.set_result(held)
                    await self._until(over, held)
            except LeaseLost:
                pass  # `held` tells it, in the caller's thread
            except Exception as fault:  # noqa: BLE001 - raised in the caller's thread
                if self._held.done():
                    self._fault = fault
                else:
                    self._held.set_exception(fault)

    async def _until(self, over: trio.Event, held: Held) -> None:
        """Wait for the end of the block, also when the lease is lost before: it must not be given up yet."""
        try:
            await over.wait()
        finally:
            with trio.CancelScope(shield=True):
                try:
                    if not over.is_set() and held.loss is not None and self._on_lost is not None:
                        self._on_lost(held)
                finally:
                    await over.wait()
