"""The scales of targets of one kind whose objects do not say where their replicas are.

Owns the reading of scales: of those targets that were asked for, whenever their objects change. Promises at
most one read at a time of each. What was read last stands until the next is here.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from berth.core.targets import TargetSeen, TargetState, Unseen
from berth.kube.api import KubeClient
from berth.kube.faults import KubeFault, NotFound
from berth.kube.informer import Changed
from berth.kube.objects import Name, Resource, name_of, newer, uid_of
from berth.kube.work import WorkQueue
from berth.kube.workloads.kinds import seen_in_scale
from berth.runtime.log import Logger

AT_ONCE = 20
RETRY_SECONDS = 5.0


class Scales:
    """Run it with `run`. `on_change` is told of targets that change in what is seen of them."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        *,
        on_change: Callable[[Name], None],
        rng: Random,
        logger: Logger,
    ) -> None:
        self._client = client
        self._resource = resource
        self._on_change = on_change
        self._known: dict[Name, TargetState] = {}
        self._queue = WorkQueue[Name](self._read, concurrency=AT_ONCE, rng=rng, logger=logger)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._queue.run()

    def state(self, obj: Mapping[str, Any]) -> TargetState:
        """How the target stands whose object is there."""
        name = name_of(obj)
        known = self._known.get(name)
        if known is None:
            why = f"the scale of {self._resource.kind} {name} is being read"
            known = self._known[name] = Unseen(why, soon=True)
            self._queue.add(name)
        if isinstance(known, TargetSeen) and known.uid != uid_of(obj):
            why = f"{self._resource.kind} {name} was made anew, and its scale is being read"
            return Unseen(why, soon=True)
        return known

    def note(self, change: Changed) -> None:
        """The object has changed: perhaps its scale has."""
        if change.new is None:
            self._known.pop(change.name, None)
        elif change.name in self._known:
            self._queue.add(change.name)
        if change.old is None or change.new is None or uid_of(change.old) != uid_of(change.new):
            self._on_change(change.name)

    def observe(self, name: Name, seen: TargetSeen) -> None:
        """Takes over what a write, or a read, has answered."""
        known = self._known.get(name)
        if known is None:
            return  # it is not there, or nobody has asked for it
        if isinstance(known, TargetSeen) and newer(known.resource_version, seen.resource_version) is True:
            return
        self._known[name] = seen
        if not isinstance(known, TargetSeen) or not known.same_but_version(seen):
            self._on_change(name)

    async def _read(self, name: Name) -> float | None:
        if name not in self._known:
            return None
        try:
            scale = await self._client.get(self._resource, name.name, name.namespace, subresource="scale")
        except NotFound as fault:
            # Gone, of which its informer will tell; or no scale any more.
            self._fail(name, str(fault), forget=True)
            return RETRY_SECONDS
        except KubeFault as fault:
            self._fail(name, str(fault), forget=False)
            return RETRY_SECONDS
        self.observe(name, seen_in_scale(scale))
        return None

    def _fail(self, name: Name, why: str, *, forget: bool) -> None:
        known = self._known.get(name)
        if known is None or known == Unseen(why) or (isinstance(known, TargetSeen) and not forget):
            return
        self._known[name] = Unseen(why)
        self._on_change(name)
