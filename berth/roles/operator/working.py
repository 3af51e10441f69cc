"""Working: the parts of the operator, put together for as long as it leads.

Owns what runs beside what, and in which order it begins: nothing is decided before the cluster's BerthLeases
have been seen.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import inf
from random import Random

import trio

from berth.client import BerthClient
from berth.client.tenures import Kept, LeaseId, Tenures, keep_alive
from berth.kube.api import KubeClient
from berth.kube.events import EventRecorder
from berth.kube.faults import Forbidden, KubeFault, TooManyRequests, Unavailable
from berth.kube.informer import Informer
from berth.kube.objects import Object, Resource, name_of, uid_of
from berth.kube.workloads import TargetRef, Workloads
from berth.roles.operator.instruments import Instruments, State
from berth.roles.operator.options import OperatorOptions
from berth.roles.operator.reconciler import Parts, Reconciler
from berth.roles.operator.resource import BERTHLEASES, Index
from berth.roles.operator.telling import Teller
from berth.runtime.clock import Clock
from berth.runtime.log import Logger

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
CLUSTER = "kube-system"

CALL_SECONDS = 5.0
ORPHANS_SECONDS = 5.0
RETRY_SECONDS = 0.5
PATIENCE_SECONDS = 20.0
"""So long a start waits; whoever looks after the process would not wait much longer."""


class CannotWork(Exception):
    """The cluster does not let the operator work; the text says what to do."""


async def cluster_uid(client: KubeClient, logger: Logger) -> str:
    """What tells this cluster from every other, whatever it is called. Raises CannotWork.

    A cluster in trouble is waited for a while: what an operator before this one has left runs on.
    """
    give_up = trio.current_time() + PATIENCE_SECONDS
    while True:
        try:
            return uid_of(await client.get(NAMESPACES, CLUSTER, timeout_seconds=CALL_SECONDS))
        except Forbidden as fault:
            told = f"{fault}; the operator's role must allow to get the namespace {CLUSTER}"
            raise CannotWork(told) from fault
        except (TooManyRequests, Unavailable) as fault:
            if trio.current_time() >= give_up:
                raise CannotWork(f"the cluster cannot be asked: {fault}") from fault
            logger.warning("the cluster cannot be asked, trying again", error=str(fault))
        except KubeFault as fault:
            raise CannotWork(f"the cluster cannot be asked: {fault}") from fault
        await trio.sleep(RETRY_SECONDS)


class Working:
    """What works while this process leads. Before and after there is nothing to see."""

    def __init__(
        self,
        options: OperatorOptions,
        *,
        kube: KubeClient,
        leases: BerthClient,
        instance: str,
        instruments: Instruments,
        clock: Clock,
        rng: Random,
        logger: Logger,
    ) -> None:
        self._options = options
        self._kube = kube
        self._leases = leases
        self._instance = instance
        self._instruments = instruments
        self._clock = clock
        self._rng = rng
        self._logger = logger
        self._reconciler: Reconciler | None = None
        self._tenures: Tenures | None = None
        self._recorder: EventRecorder | None = None
        self._informers: list[Informer] = []
        self._kept: tuple[Kept, ...] = ()

    async def keep_alive(self, scope: trio.CancelScope) -> None:
        """What the last `run` has left, until the scope is cancelled."""
        with scope:
            await keep_alive(self._leases, self._kept, logger=self._logger)

    async def run(self) -> None:
        """Until it is cancelled."""
        index = Index(self._options.cluster_id)
        self._recorder = recorder = EventRecorder(
            self._kube, component="berth-operator", instance=self._instance, clock=self._clock, rng=self._rng,
            logger=self._logger,
        )  # fmt: skip
        self._informers = [self._informer(namespace) for namespace in self._options.watch_namespaces or ("",)]
        self._tenures = tenures = Tenures(
            self._leases, instance=self._instance, clock=self._clock, rng=self._rng, logger=self._logger,
            on_change=self._note_lease,
        )  # fmt: skip
        workloads = Workloads(
            self._kube, namespaces=self._options.watch_namespaces, clock=self._clock, rng=self._rng,
            logger=self._logger,
            on_change=self._note_target,
        )  # fmt: skip
        parts = Parts(
            self._kube,
            _Objects(self._informers),
            tenures,
            workloads,
            Teller(recorder, self._instruments, self._logger),
            self._instruments,
            self._clock,
            self._rng,
            self._logger,
        )
        self._reconciler = reconciler = Reconciler(parts, index)
        self._instruments.follow(reconciler.count, self._deadline_seconds)
        for informer in self._informers:
            informer.listen(reconciler.note_object)
        async with self._ended(), trio.open_nursery() as nursery:
            for informer in self._informers:
                nursery.start_soon(informer.run)
            for part in (tenures, workloads, recorder):
                nursery.start_soon(part.run)
            for informer in self._informers:
                await informer.synced.wait()
            self._logger.info("working", berthleases=len(index), cluster=self._instance)
            nursery.start_soon(self._tell_orphans, tenures, index)
            await reconciler.run()

    async def _tell_orphans(self, tenures: Tenures, index: Index) -> None:
        """Once of each lease that is kept alive with the others and that no BerthLease names any more."""
        told: dict[LeaseId, int] = {}
        watched = self._options.watch_namespaces
        while True:
            await trio.sleep(ORPHANS_SECONDS)
            found = {
                lease: token
                for lease, token in tenures.orphans().items()
                if not index.of_lease(lease) and (not watched or lease.namespace in watched)
            }
            for lease, token in found.items():
                if told.get(lease) != token:
                    self._logger.warning(
                        "a lease is held for a BerthLease that is gone: make it anew, and delete it in order",
                        namespace=lease.namespace, lease=lease.name, fencing_token=token,
                    )  # fmt: skip
            told = found

    async def ping(self) -> None:
        """Returns when the BerthLeases have been seen, if this replica leads, and the lease API is alive."""
        leads = self._reconciler is not None or not self._options.leader_elect
        seen = self._informers and all(each.synced.is_set() for each in self._informers)
        if leads and not seen:
            raise CannotWork("the BerthLeases have not been listed yet")
        await self._leases.ping()

    async def hand_over(self) -> None:
        """Stop everything, see it gone, give it up."""
        if self._reconciler is not None and self._tenures is not None and self._recorder is not None:
            await self._reconciler.hand_over()
            await self._tenures.end_sessions()
            with trio.move_on_after(CALL_SECONDS):
                await self._recorder.sent()

    @asynccontextmanager
    async def _ended(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._kept = self._tenures.kept() if self._tenures is not None else ()
            self._reconciler = self._tenures = self._recorder = None
            self._instruments.follow(_nothing, lambda: inf)

    def _informer(self, namespace: str) -> Informer:
        return Informer(
            self._kube, BERTHLEASES, namespace=namespace, rng=self._rng, logger=self._logger, trim=_trimmed
        )

    def _note_lease(self, lease: LeaseId) -> None:
        if self._reconciler is not None:
            self._reconciler.note_lease(lease)

    def _note_target(self, target: TargetRef) -> None:
        if self._reconciler is not None:
            self._reconciler.note_target(target)

    def _deadline_seconds(self) -> float:
        if self._reconciler is None:
            return inf
        return self._reconciler.deadline_seconds()


class _Objects:
    """The informers of one resource, one a namespace or one for all."""

    def __init__(self, informers: list[Informer]) -> None:
        self._informers = informers

    def observe(self, obj: Object) -> None:
        self._of(obj).observe(obj)

    def observe_gone(self, obj: Object) -> None:
        self._of(obj).observe_gone(obj)

    def _of(self, obj: Object) -> Informer:
        namespace = name_of(obj).namespace
        return next(each for each in self._informers if each.namespace in ("", namespace))


def _nothing(_: State) -> int:
    return 0


def _trimmed(obj: Object) -> Object:
    """Without what only the API server needs."""
    return {**obj, "metadata": {key: of for key, of in obj["metadata"].items() if key != "managedFields"}}
