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
from berth.kube.objects import Resource
from berth.runtime.log import Logger

LASTING_SECONDS = (300.0, 600.0)
"""A watch is begun anew from time to time, so that servers that come back get their share."""

IDLE_SECONDS = 90.0
"""Bookmarks come about every minute; a watch without them is dead, or soon will be."""


class Reflector:
    """`deliver` gets every change. `namespace` "" is all of them."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        *,
        namespace: str = "",
        selector: Selector = ALL,
        deliver: Callable[[Change], None],
        rng: Random,
        logger: Logger,
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._selector = selector
        self._deliver = deliver
        self._rng = rng
        self._logger = logger
        self._machine = ListWatch(rng)
        self._in_trouble = False
        self.watching = False
        """Whether a watch is open now: what changes is heard within moments."""

    @property
    def resource_version(self) -> str:
        """Up to where everything has been told."""
        return self._machine.resource_version

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            command = self._machine.next_command()
            if isinstance(command, Pause):
                await trio.sleep(command.seconds)
            elif isinstance(command, ListPage):
                await self._list(command)
            else:
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
        snapshot = self._machine.page(page.items, page.resource_version, page.continue_token)
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
        if not isinstance(fault, Gone) and not self._in_trouble:
            self._in_trouble = True
            self._logger.warning(
                "cannot list or watch, trying again", resource=self._resource.plural, error=str(fault)
            )

    def _well(self) -> None:
        if self._in_trouble:
            self._in_trouble = False
            self._logger.info("listing and watching again", resource=self._resource.plural)
