"""Opens the Kubernetes store: the way to the cluster, what is allowed there, a first look at all there is.

Owns the words in which it is told that this cannot be. Promises that a store which was opened may make every
call that it will ever make, as far as a cluster can say so beforehand.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random, SystemRandom
from typing import NamedTuple

import trio

from berth.kube.access import Access, AccessInvalid, access_by_kubeconfig, access_in_cluster
from berth.kube.api import KubeClient, Selector, open_client
from berth.kube.faults import Conflict, Forbidden, KubeFault, NotFound, Unauthorized
from berth.kube.objects import LEASES
from berth.kube.pace import Pace
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.store.api import StoreRefused
from berth.store.kubernetes import CALL_SECONDS, KubernetesStore
from berth.store.kubernetes_objects import SELECTOR, trial_object

SYNC_SECONDS = 30.0

VERBS = ("create", "get", "list", "watch", "update", "delete")
"""All that is ever asked of Lease objects."""


class KubernetesSettings(NamedTuple):
    """Where the Lease objects are, and how often the cluster may be asked. `kubeconfig` None: in-cluster."""

    namespace: str
    kubeconfig: Path | None
    qps: float
    burst: int
    clock: Clock
    logger: Logger


@asynccontextmanager
async def open_kubernetes(settings: KubernetesSettings) -> AsyncGenerator[KubernetesStore]:
    """The store, once all there is has been seen. Raises StoreRefused."""
    access = await _access(settings)
    async with (
        open_client(access, pace=Pace(settings.qps, settings.burst)) as client,
        opened_on(client, settings.namespace, settings.clock, settings.logger) as store,
    ):
        yield store


@asynccontextmanager
async def opened_on(
    client: KubeClient, namespace: str, clock: Clock, logger: Logger, rng: Random | None = None
) -> AsyncGenerator[KubernetesStore]:
    """The store over a client. Raises StoreRefused."""
    await _try_all(client, namespace)
    store = KubernetesStore(client, namespace, clock, logger, rng or SystemRandom())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.informer.run)
        with trio.move_on_after(SYNC_SECONDS) as patience:
            await store.informer.synced.wait()
        if patience.cancelled_caught:
            nursery.cancel_scope.cancel()
            raise StoreRefused(f"the cluster's leases could not be listed within {SYNC_SECONDS:g} s")
        yield store
        nursery.cancel_scope.cancel()


async def _access(settings: KubernetesSettings) -> Access:
    try:
        if settings.kubeconfig is not None:
            return await access_by_kubeconfig(
                str(settings.kubeconfig), logger=settings.logger, clock=settings.clock
            )
        return await access_in_cluster(logger=settings.logger, clock=settings.clock)
    except AccessInvalid as fault:
        raise StoreRefused(f"no way to the cluster (--coordination-kubeconfig): {fault}") from fault


async def _try_all(client: KubeClient, namespace: str) -> None:
    """Make each call once, so that nothing comes of it. Raises StoreRefused."""
    refused: dict[str, Forbidden] = {}
    calls = _calls(client, namespace)
    for verb in VERBS:
        try:
            await calls[verb]()
        except Forbidden as fault:
            refused[verb] = fault
        except NotFound as fault:
            if verb == "create":
                raise StoreRefused(
                    f"the cluster has no namespace {namespace} (--coordination-namespace): make it first, "
                    f"`kubectl create namespace {namespace}`, or name another"
                ) from fault
        except Conflict:
            pass
        except Unauthorized as fault:
            raise StoreRefused(
                f"the cluster does not accept the credentials (--coordination-kubeconfig): {fault}"
            ) from fault
        except KubeFault as fault:
            raise StoreRefused(f"cannot use the leases of the cluster: {fault}") from fault
    if refused:
        raise StoreRefused(
            f"the cluster does not allow to {', '.join(refused)} leases in the namespace {namespace}: "
            f"bind the Role of docs/stores.md to this user there. It says: {next(iter(refused.values()))}"
        )


def _calls(client: KubeClient, namespace: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """By their verbs. What is named is not there, and is not made."""
    tried = trial_object(namespace)
    name, uid = tried["metadata"]["name"], "00000000-0000-0000-0000-000000000000"
    absent = {**tried, "metadata": {**tried["metadata"], "uid": uid, "resourceVersion": "1"}}

    async def watch() -> None:
        async with client.watch(
            LEASES,
            namespace,
            resource_version="",
            selector=Selector(labels=SELECTOR),
            lasting_seconds=1,
            idle_seconds=CALL_SECONDS,
        ):
            pass

    return {
        "create": lambda: client.create(LEASES, tried, dry_run=True),
        "get": lambda: client.get(LEASES, name, namespace),
        "list": lambda: client.list_page(LEASES, namespace, selector=Selector(labels=SELECTOR), limit=1),
        "watch": watch,
        "update": lambda: client.replace(LEASES, absent),
        "delete": lambda: client.delete(LEASES, name, namespace, uid=uid),
    }
