"""Others: what other servers on the same store have made of the leases.

Owns what this server has told of who holds what, so that it can tell what has changed since. Hints of the
store say what to read again; what is read decides. Promises that whoever watches or waits here learns of
it, in the order of tokens. It cannot know what came and went between two looks, nor whether an end that was
not clean was forced: such a one is told as an expiry.
"""

from collections.abc import Callable, Collection
from contextlib import aclosing

import trio

from berth.core.names import Key
from berth.core.ownership import Ownership, differences
from berth.core.records import Observed
from berth.core.standing import live_views
from berth.runtime.log import Logger
from berth.service.register import PAGE, Register
from berth.service.rounds import Recall, readable
from berth.store.api import SharedStore, StoreFault

RETRY_SECONDS = 1.0


class Others:
    """`run` must be running for anything of others to be heard. `on_change` is told of each change of
    theirs.
    """

    def __init__(
        self,
        store: SharedStore,
        register: Register,
        *,
        logger: Logger,
        on_change: Callable[[Ownership], None],
        recall: Recall | None = None,
    ) -> None:
        self._store = store
        self._register = register
        self._logger = logger
        self._on_change = on_change
        self._recall = recall
        self._held: dict[Key, dict[int, str]] = {}
        """Of each lease that is held, as far as was told, the holders by their tokens."""

    def note_found(self, observed: Observed) -> None:
        """A lease as it was before this server looked."""
        self._held[observed.key] = {view.token: view.holder for view in live_views(observed)}

    def note(self, change: Ownership) -> None:
        """A change was told."""
        held = self._held.setdefault(change.after.key, {})
        if change.kind == "acquired":
            held[change.token] = change.holder
        else:
            held.pop(change.token, None)

    async def run(self) -> None:
        """Listen until cancelled."""
        await self._register.listed.wait()
        async with aclosing(self._store.changes()) as heard:
            async for each in heard:
                if each.everything:
                    await self._read_everything()
                else:
                    self._register.look_under(each.sessions)
                    await self._read(sorted(each.leases))

    async def _read_everything(self) -> None:
        after: Key | None = None
        while True:
            try:
                async with aclosing(self._store.scan(after, PAGE)) as leases:
                    page = [observed.key async for observed in leases]
            except StoreFault as fault:
                await self._wait_after(fault)
                continue
            await self._read(page)
            if len(page) < PAGE:
                return
            after = page[-1]

    async def _read(self, keys: Collection[Key]) -> None:
        """Tell what has changed of these leases; what this server has written meanwhile is told already."""
        left = list(keys)
        while left:
            some = left[:PAGE]
            with self._register.noting() as noted:
                try:
                    leases = await self._look_at(some)
                except StoreFault as fault:
                    await self._wait_after(fault)
                    continue
            for observed in leases:
                if observed.key not in noted:
                    self._compare(observed)
            del left[: len(some)]
            await trio.lowlevel.checkpoint()

    async def _look_at(self, keys: Collection[Key]) -> list[Observed]:
        """Who remembers the leases has heard of the change by that."""
        if self._recall is not None:
            remembered = self._recall(keys, ())
            if len(remembered.leases) == len(keys):
                return [*remembered.leases.values()]
        reading, failed = await readable(self._store, keys)
        for fault in failed.values():  # whoever puts it right is heard of again
            self._logger.warning("what another server has written makes no sense", error=str(fault))
        return [*reading.leases.values()]

    def _compare(self, observed: Observed) -> None:
        for change in list(differences(self._held.get(observed.key, {}), observed)):
            self.note(change)
            self._on_change(change)
        # Also without a difference: what came and went unseen may have kept somebody waiting.
        self._register.take_in(observed)

    async def _wait_after(self, fault: StoreFault) -> None:
        self._logger.warning("what other servers have written could not be read", error=str(fault))
        await trio.sleep(RETRY_SECONDS)
