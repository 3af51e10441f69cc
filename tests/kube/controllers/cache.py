"""What the stand-in controllers know of their cluster, and how they write to it.

Owns one informer a kind. Promises that what was written is known at once, so that no controller does a thing
twice, and that a write which meets a change made meanwhile counts as not made: the next look sees both.
"""

from collections import defaultdict
from random import Random
from typing import Any

import trio

from berth.kube.api import KubeClient
from berth.kube.faults import AlreadyExists, Conflict, NotFound
from berth.kube.informer import Informer
from berth.kube.objects import (
    Object,
    Resource,
    being_deleted,
    controller_of,
    name_of,
    uid_of,
    version_of,
)
from berth.runtime.log import Logger
from tests.kube.server.kinds import CRON_JOBS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, STATEFUL_SETS

KINDS = (PODS, REPLICA_SETS, DEPLOYMENTS, STATEFUL_SETS, JOBS, CRON_JOBS)


class Cache:
    """Run it with `run`. `changed` is set with every change, by whomever."""

    def __init__(self, client: KubeClient, *, logger: Logger) -> None:
        self._client = client
        self.changed = trio.Event()
        self._informers = {kind: Informer(client, kind, rng=Random(1), logger=logger) for kind in KINDS}
        for informer in self._informers.values():
            informer.listen(lambda _: self.changed.set())

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as nursery:
            for informer in self._informers.values():
                nursery.start_soon(informer.run)

    async def synced(self) -> None:
        for informer in self._informers.values():
            await informer.synced.wait()

    def all(self, kind: Resource) -> list[Object]:
        """In the order of their names, so that every run does the same."""
        return [obj for _, obj in sorted(self._informers[kind].items())]

    def alive(self, kind: Resource) -> list[Object]:
        return [obj for obj in self.all(kind) if not being_deleted(obj)]

    def by_owner(self, kind: Resource) -> dict[str, list[Object]]:
        """By the uid of who controls them."""
        found: dict[str, list[Object]] = defaultdict(list)
        for obj in self.all(kind):
            owner = controller_of(obj)
            if owner is not None:
                found[owner["uid"]].append(obj)
        return found

    async def create(self, kind: Resource, obj: Object, owner: Object) -> None:
        """In the owner's namespace, and controlled by it."""
        metadata = {
            **obj["metadata"],
            "namespace": name_of(owner).namespace,
            "ownerReferences": [
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": name_of(owner).name,
                    "uid": uid_of(owner),
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
        try:
            made = await self._client.create(kind, {**obj, "metadata": metadata})
            self._informers[kind].observe(made)
        except AlreadyExists:
            pass

    async def patch(
        self, kind: Resource, obj: Object, patch: dict[str, Any], *, subresource: str = ""
    ) -> None:
        """Of that very version; nothing, where the patch would change nothing."""
        if _holds(obj, patch):
            return
        namespace, name = name_of(obj)
        given = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": version_of(obj)}}
        try:
            patched = await self._client.merge_patch(
                kind, name, namespace, patch=given, subresource=subresource
            )
            self._informers[kind].observe(patched)
        except (Conflict, NotFound):
            pass

    async def delete(self, kind: Resource, obj: Object) -> None:
        namespace, name = name_of(obj)
        try:
            await self._client.delete(kind, name, namespace, uid=uid_of(obj), propagation="Background")
            # It may take its time to end, or be gone.
            self._informers[kind].observe(await self._client.get(kind, name, namespace))
        except NotFound:
            self._informers[kind].observe_gone(obj)
        except Conflict:
            pass


def _holds(obj: Any, patch: Any) -> bool:
    """Whether a merge patch says nothing new."""
    if isinstance(patch, dict) and isinstance(obj, dict):
        return all(
            key not in obj if value is None else key in obj and _holds(obj[key], value)
            for key, value in patch.items()
        )
    return obj == patch
