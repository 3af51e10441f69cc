"""Writing: what the operator writes to BerthLeases, and takes up ahead of the watch.

Owns the patches. Promises that status and finalizers are written to the version that was looked at, so that
whoever was there in between is looked at first, and that nothing is written that is so already.
"""

from typing import Protocol

from msgspec.structs import replace

from berth.core.reconcile import Recorded
from berth.kube.api import KubeClient
from berth.kube.faults import NotFound
from berth.kube.objects import Object, second_time, version_of
from berth.roles.operator.looking import Sight
from berth.roles.operator.resource import BERTHLEASES, REMEMBERED, BerthLease, Index
from berth.roles.operator.status import next_status
from berth.runtime.clock import Clock
from berth.wire.berthlease import FINALIZER, status_patch

CALL_SECONDS = 5.0


class Objects(Protocol):
    """What takes up the answer of our own write, ahead of the watch: an informer does."""

    def observe(self, obj: Object) -> None: ...

    def observe_gone(self, obj: Object) -> None: ...


class Writing:
    """Every call raises KubeFault: a Conflict where the object is not what was seen."""

    def __init__(self, client: KubeClient, objects: Objects, index: Index, clock: Clock) -> None:
        self._client = client
        self._objects = objects
        self._index = index
        self._clock = clock

    async def add_finalizer(self, found: BerthLease) -> None:
        await self._set_finalizers(found, [*found.finalizers, FINALIZER])

    async def remove_finalizer(self, found: BerthLease) -> None:
        await self._set_finalizers(found, [each for each in found.finalizers if each != FINALIZER])

    async def _set_finalizers(self, found: BerthLease, finalizers: list[str]) -> None:
        note = {"resourceVersion": version_of(found.obj), "finalizers": finalizers}
        await self._patch(found, {"metadata": note})

    async def remember(self, found: BerthLease, replicas: int | None) -> None:
        """How many there are, where that is not for the spec to say."""
        if replicas is not None and replicas != found.remembered:
            await self._patch(found, {"metadata": {"annotations": {REMEMBERED: str(replicas)}}})

    async def tell(self, found: BerthLease, sight: Sight, recorded: Recorded) -> None:
        """The status as it is to be with that record."""
        seen = replace(sight.seen, recorded=recorded)
        now = second_time(self._clock.wall_us())
        status = next_status(found.status, seen, sight.facts, now)
        if status == found.status:
            return
        if found.gone:
            self._index.keep(replace(found, status=status))
            return
        patch = {"metadata": {"resourceVersion": version_of(found.obj)}, "status": status_patch(status)}
        await self._patch(found, patch, subresource="status")

    async def look_afresh(self, found: BerthLease) -> None:
        """The object as the quorum has it."""
        if found.gone:
            return
        name, namespace = found.name.name, found.name.namespace
        try:
            obj = await self._client.get(BERTHLEASES, name, namespace, timeout_seconds=CALL_SECONDS)
        except NotFound:
            self._objects.observe_gone(found.obj)
        else:
            self._objects.observe(obj)

    async def _patch(self, found: BerthLease, patch: Object, subresource: str = "") -> None:
        try:
            obj = await self._client.merge_patch(
                BERTHLEASES,
                found.name.name,
                found.name.namespace,
                patch=patch,
                subresource=subresource,
                timeout_seconds=CALL_SECONDS,
            )
        except NotFound:
            self._objects.observe_gone(found.obj)
            return
        self._objects.observe(obj)
