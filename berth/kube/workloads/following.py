"""One kind of target, followed: what of it there is, and how each of it stands.

Owns the informers of the kind, and where it has to be, the search for it. Promises to tell of every target
that changes in what was seen of it, and of those that were asked for in vain once they can be seen. What was
seen once stays seen while the cluster does not answer: whoever writes by it names its uid or its version.
"""

from collections.abc import Callable, Collection
from functools import partial
from random import Random

import trio

from berth.core.targets import Missing, TargetSeen, TargetState, Unseen
from berth.kube.api import KubeClient
from berth.kube.discovery import discover
from berth.kube.faults import KubeFault
from berth.kube.informer import Changed, Informer
from berth.kube.objects import Name
from berth.kube.workloads.kinds import BUILT_IN, Kind, TargetRef, seen_in, trimmed, with_seen
from berth.kube.workloads.scales import Scales
from berth.runtime.log import Logger

SEARCH_SECONDS = 10.0
"""How often a kind that the cluster does not know is asked for again."""


class Following:
    """Run it with `run`. `namespaces` are those that are followed; none: all."""

    def __init__(
        self,
        client: KubeClient,
        api_version: str,
        kind: str,
        *,
        namespaces: Collection[str],
        on_change: Callable[[TargetRef], None],
        rng: Random,
        logger: Logger,
    ) -> None:
        self._client = client
        self._api_version = api_version
        self._name = kind
        self._namespaces = tuple(namespaces) or ("",)
        self._on_change = on_change
        self._rng = rng
        self._logger = logger
        self._informers: dict[str, Informer] = {}
        self._scales: Scales | None = None
        self._why = ""
        self._waiting: set[TargetRef] = set()
        self.kind: Kind | None = None
        """None while it is not known whether the cluster has it."""

        known = BUILT_IN.get((api_version, kind))
        if known is not None:
            self._follow(known)

    async def run(self) -> None:
        """Until it is cancelled."""
        while self.kind is None:
            found = await self._search()
            if found is None:
                await trio.sleep(SEARCH_SECONDS * self._rng.uniform(0.8, 1.2))
            else:
                self._follow(found)
        async with trio.open_nursery() as nursery:
            if self._scales is not None:
                nursery.start_soon(self._scales.run)
            for informer in self._informers.values():
                nursery.start_soon(informer.run)

    def state(self, target: TargetRef) -> TargetState:
        """How it stands, as far as is known; of what cannot be seen yet, `on_change` will tell."""
        informer = self._informer(target.namespace)
        if self.kind is not None and informer is None:
            return Unseen(f"the namespace {target.namespace} is not watched")
        if informer is None or not informer.ready:
            self._waiting.add(target)
            why = informer.trouble if informer is not None else self._why
            return Unseen(why or f"{target.kind}s are being listed", soon=not why)
        obj = informer.get(Name(target.namespace, target.name))
        if obj is None:
            return Missing()
        if self._scales is not None:
            return self._scales.state(obj)
        seen = seen_in(obj)
        assert seen is not None
        return seen

    def observe(self, target: TargetRef, seen: TargetSeen) -> None:
        """Takes over what a write, or a read, has answered, ahead of the watch."""
        if self._scales is not None:
            self._scales.observe(Name(target.namespace, target.name), seen)
            return
        metadata = {"namespace": target.namespace, "name": target.name, "uid": seen.uid}
        informer = self._informer(target.namespace)
        if informer is not None and informer.ready:
            informer.observe(with_seen({"metadata": metadata}, seen))

    def observe_gone(self, target: TargetRef, uid: str) -> None:
        """Takes over that the target of that uid is no longer there."""
        informer = self._informer(target.namespace)
        if informer is not None:
            metadata = {"namespace": target.namespace, "name": target.name, "uid": uid}
            informer.observe_gone({"metadata": metadata})

    def _informer(self, namespace: str) -> Informer | None:
        # One that knows no object is empty, and false.
        return self._informers.get(namespace, self._informers.get(""))

    async def _search(self) -> Kind | None:
        why = ""
        try:
            found = await discover(self._client, self._api_version, self._name)
        except KubeFault as fault:
            found, why = None, str(fault)
        if found is None:
            why = why or f"the cluster knows no {self._name} of {self._api_version}"
        elif not found.resource.namespaced:
            why = f"{self._name} of {self._api_version} is not a thing of a namespace"
        elif not found.scale:
            why = f"{self._name} of {self._api_version} has no scale subresource, and cannot be stopped by it"
        else:
            return Kind(found.resource)
        if why != self._why:
            self._why = why
            self._tell_waiting()
        return None

    def _follow(self, kind: Kind) -> None:
        self.kind = kind
        if kind.read is None:
            self._scales = Scales(
                self._client, kind.resource, on_change=self._tell, rng=self._rng, logger=self._logger
            )
        for namespace in self._namespaces:
            informer = Informer(
                self._client,
                kind.resource,
                namespace=namespace,
                trim=partial(trimmed, kind),
                on_standing=self._tell_waiting,
                rng=self._rng,
                logger=self._logger,
            )
            informer.listen(self._scales.note if self._scales is not None else self._note)
            self._informers[namespace] = informer

    def _note(self, change: Changed) -> None:
        """What has changed but in its version is nobody's concern."""
        old = seen_in(change.old) if change.old is not None else None
        new = seen_in(change.new) if change.new is not None else None
        if old is None or new is None or not old.same_but_version(new):
            self._tell(change.name)

    def _tell(self, name: Name) -> None:
        self._on_change(TargetRef(name.namespace, self._api_version, self._name, name.name))

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for target in waiting:
            self._on_change(target)
