"""A kind that only its own controller knows: it has a scale, and that is all that is asked of it."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from berth.kube.api import Selector
from berth.kube.objects import being_deleted
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import DEPLOYMENTS, PODS
from tests.kube.server.rest import KubeServer
from tests.kube.workloads.conftest import define
from tests.kube.workloads.stage import RING, RINGS
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import berth_lease, workload
from tests.roles.operator.stage import Stage, permits

LOOK_SECONDS = 0.1


@pytest.fixture
async def rings(stage: Stage) -> AsyncGenerator[Stage]:
    """Both clusters know rings, let the operator scale them, and have a ring and a controller for it."""
    async with AsyncExitStack() as stack:
        for cluster in stage.clusters:
            if isinstance(cluster.place, KubeServer):
                cluster.place.define(RING)
                cluster.place.permits = permits_rings
            else:
                await define(cluster.client)
            await cluster.make(RINGS, {"metadata": {"name": "web"}, "spec": {"size": 0}})
            await stack.enter_async_context(controlled(cluster))
        yield stage


def permits_rings(verb: str, group: str, resource: str, name: str) -> bool:
    """As the manual tells it to whoever has kinds of their own."""
    if group != RINGS.group:
        return permits(verb, group, resource, name)
    return verb in {"rings": {"get", "list", "watch"}, "rings/scale": {"get", "patch"}}.get(resource, ())


@asynccontextmanager
async def controlled(cluster: Cluster) -> AsyncGenerator[None]:
    """The ring has as many pods as its size says, and its status tells how many there are."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_control, cluster)
        yield
        nursery.cancel_scope.cancel()


async def _control(cluster: Cluster) -> None:
    template = workload(DEPLOYMENTS, "web", end_seconds=1)["spec"]["template"]
    about = {**template["metadata"], "generateName": "gem-"}
    while True:
        ring = await cluster.get(RINGS, "web")
        selector = Selector(labels="app=web")
        there = (await cluster.client.list_all(PODS, cluster.namespace, selector=selector)).items
        staying = [pod for pod in there if not being_deleted(pod)]
        for pod in staying[ring["spec"]["size"] :]:
            await cluster.delete(PODS, pod["metadata"]["name"])
        for _ in range(len(staying), ring["spec"]["size"]):
            await cluster.make(PODS, {**template, "metadata": about})
        status = {"size": len(there), "selector": "app=web"}
        if ring.get("status") != status:
            await cluster.patch(RINGS, "web", {"status": status}, subresource="status")
        await trio.sleep(LOOK_SECONDS)


async def test_it_runs_in_one_and_then_in_the_other(rings: Stage) -> None:
    await rings.start()
    for cluster in rings.clusters:
        await cluster.make(BERTH_LEASES, berth_lease("web", RINGS))
    holder = await rings.settled()
    await holder.delete(BERTH_LEASES, "web")
    await rings.until(lambda: rings.runs(rings.other(holder)))
    await rings.until(lambda: holder.lease("web") is None)
    assert (await holder.get(RINGS, "web"))["spec"]["size"] == 0


async def test_it_is_stopped_in_time_when_the_lease_is_lost(rings: Stage) -> None:
    await rings.start()
    for cluster in rings.clusters:
        await cluster.make(BERTH_LEASES, berth_lease("web", RINGS, stopBudgetSeconds=2))
    holder = await rings.settled()
    holder.lease_link.drop()
    await rings.until(lambda: rings.runs(rings.other(holder)))
