"""Many leases under one session: all won, all lost at once, each stopped in time and taken over."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import DEPLOYMENTS
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import berth_lease, workload
from tests.roles.operator.stage import Place, Stage
from tests.support.kube_apiserver import KubeApiserver

AT_ONCE = 20
TTL_SECONDS = 12
"""The stop begins 3 s before its end."""

LONG_SECONDS = 90.0


async def test_all_are_lost_at_once(stage: Stage, places: tuple[Place, Place]) -> None:
    real = isinstance(places[0], KubeApiserver)
    # The controllers that stand in look at everything after every change: they are for small clusters.
    names = [f"web-{number:03}" for number in range(500 if real else 60)]
    # Real controllers need longer for so many pods than any budget: a lock delay is there for that.
    spec = {"lockDelaySeconds": 60} if real else {}
    for cluster in stage.clusters:
        await each(names, lambda name, at=cluster: deploy(at, name, **spec))
    await stage.east.start()
    await stage.until(
        lambda: all(stage.pods(stage.east, name) for name in names), within_seconds=LONG_SECONDS
    )
    await stage.west.start()
    await stage.until(
        lambda: all(stage.west.status(name).get("leaseState") == "waiting" for name in names),
        within_seconds=LONG_SECONDS,
    )
    stage.east.lease_link.drop()
    cut_off_at = trio.current_time()
    await stage.until(
        lambda: not any(stage.pods(stage.east, name) for name in names), within_seconds=LONG_SECONDS
    )
    assert real or trio.current_time() - cut_off_at < TTL_SECONDS
    await stage.until(
        lambda: all(stage.pods(stage.west, name) for name in names), within_seconds=LONG_SECONDS
    )
    sessions = [session async for session in stage.caller.list_sessions() if session.alive]
    assert len(sessions) == 1


async def deploy(cluster: Cluster, name: str, **spec: Any) -> None:
    await cluster.make(DEPLOYMENTS, workload(DEPLOYMENTS, name))
    lease = berth_lease(name, replicas=1, ttl_seconds=TTL_SECONDS, heartbeatIntervalSeconds=3, **spec)
    await cluster.make(BERTH_LEASES, lease)


async def each(names: list[str], do: Callable[[str], Awaitable[None]]) -> None:
    """A few at a time."""
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(name: str) -> None:
        async with limit:
            await do(name)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(one, name)
