"""Keeps up with one resource of a cluster: lists it, watches it, for ever.

Owns the requests that `listwatch` asks for, and their log. Hands each change on, in order, by a call that
does not wait. Keeps nothing: see `informer`.
"""

from collections.abc import Callable
from random import Random

import trio

from berth.kube.api import ALL, KubeClient, Selector
from berth.kube.faults import Gone, KubeFault, TooManyRequests, Unavailable
from berth.kube.listwatch import Change, ListPage, ListWatch, Pause
from berth.kube.objects import Object, Resource
from berth.runtime.log import Logger

LASTING_SECONDS = (300.0, 600.0)
"""A watch is begun anew from time to time, so that servers that come back get their share."""

IDLE_SECONDS = 90.0
"""Bookmarks come about every minute; a watch without them is dead, or soon will be."""


class Reflector:
    """`deliver` gets every change. `namespace` "" is all of them.

    `trim` is called on the objects of a list as its pages come, so that never the whole of it is in memory
    untrimmed. `on_standing` is called whenever `has_watched` or `trouble` has changed.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        *,
        namespace: str = "",
        selector: Selector = ALL,
        deliver: Callable[[Change], None],
        trim: Callable[[Object], Object] | None = None,
        on_standing: Callable[[], None] | None = None,
        rng: Random,
        logger: Logger,
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._selector = selector
        self._deliver = deliver
        self._trim = trim
        self._on_standing = on_standing
        self._rng = rng
        self._logger = logger
        self._machine = ListWatch(rng)
        self._watch_scope = trio.CancelScope()
        self.trouble = ""
        """Why it cannot list or watch now, for people; "" when all is well."""

        self._trouble_since = 0.0
        self.has_watched = False
        """Whether a watch was open ever."""

        self.watching = False
        """Whether a watch is open now: what changes is heard within moments."""

    @property
    def behind_seconds(self) -> float:
        """For how long it could not list or watch."""
        return trio.current_time() - self._trouble_since if self.trouble else 0.0

    @property
    def resource_version(self) -> str:
        """Up to where everything has been told."""
        return self._machine.resource_version

    def doubt(self) -> None:
        """What was delivered is not what the server has: list soon."""
        self._machine.doubt()
        self._watch_scope.cancel()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            command = self._machine.next_command()
            if isinstance(command, Pause):
                await trio.sleep(command.seconds)
            elif isinstance(command, ListPage):
                await self._list(command)
            else:
                with trio.CancelScope() as self._watch_scope:
                    await self._watch(command.resource_version)

    async def _list(self, command: ListPage) -> None:
        try:
            page = await self._client.list_page(
                self._resource,
                self._namespace,
                selector=self._selector,
                limit=command.limit,
                continue_token=command.continue_token,
            )
        except KubeFault as fault:
            self._failed(fault)
            return
        items = [self._trim(item) for item in page.items] if self._trim is not None else page.items
        snapshot = self._machine.page(items, page.resource_version, page.continue_token)
        if snapshot is None:
            return
        if snapshot.rolled_back:
            self._logger.warning(
                "the cluster has gone back to an older state, and so do we",
                resource=self._resource.plural,
                resource_version=snapshot.resource_version,
            )
        self._deliver(snapshot)

    async def _watch(self, resource_version: str) -> None:
        clean = True
        try:
            async with self._client.watch(
                self._resource,
                self._namespace,
                resource_version=resource_version,
                selector=self._selector,
                lasting_seconds=round(self._rng.uniform(*LASTING_SECONDS)),
                idle_seconds=IDLE_SECONDS,
            ) as stream:
                self.watching = True
                self._well()
                async for data in stream:
                    for change in self._machine.received(data):
                        self._deliver(change)
                    if not self._machine.watching:
                        break
        except KubeFault as fault:
            if not self.watching:
                self._failed(fault)
                return
            clean = False
            self._logger.debug("watch broke", resource=self._resource.plural, error=str(fault))
        finally:
            self.watching = False
        self._machine.ended(clean=clean)

    def _failed(self, fault: KubeFault) -> None:
        asked = isinstance(fault, TooManyRequests | Unavailable) and fault.retry_after_seconds
        self._machine.failed(expired=isinstance(fault, Gone), retry_after_seconds=asked or 0.0)
        if isinstance(fault, Gone):
            return
        if not self.trouble:
            self._logger.warning(
                "cannot list or watch, trying again", resource=self._resource.plural, error=str(fault)
            )
        self._stand(str(fault))

    def _well(self) -> None:
        if self.trouble:
            self._logger.info("listing and watching again", resource=self._resource.plural)
        self._stand("", has_watched=True)

    def _stand(self, trouble: str, *, has_watched: bool = False) -> None:
        before = (self.trouble, self.has_watched)
        if not self.trouble:
            self._trouble_since = trio.current_time()
        self.trouble = trouble
        self.has_watched = self.has_watched or has_watched
        if self._on_standing is not None and (self.trouble, self.has_watched) != before:
            self._on_standing()
