"""One fault after another, as a seed has them, upon several leases: never two at once, and one in the end.

Left out is what nobody can hold against: an operator that is gone for longer than the ttl, and a cluster that
can reach neither its API server nor the lease server.
"""

from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio

from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.faults import Fault
from tests.kube.server.kinds import DEPLOYMENTS
from tests.kube.server.rest import KubeServer
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import berth_lease
from tests.roles.operator.stage import Stage

NAMES = ("a", "b", "c")
TTL_SECONDS = 8
"""Long enough for an operator to be replaced on a busy machine."""

FAULTS = 6
BREATH_SECONDS = 1.5
"""From one fault to the next: what one has done is not to be counted against another."""

Happening = Callable[[Stage, Cluster, Random], Awaitable[None]]


async def cut_off(stage: Stage, cluster: Cluster, rng: Random) -> None:
    cluster.lease_link.drop()
    await trio.sleep(rng.uniform(0.3, 1.2) * TTL_SECONDS)
    cluster.lease_link.reset()
    await cluster.lease_link.mend()


async def unheard(stage: Stage, cluster: Cluster, rng: Random) -> None:
    way = rng.choice((cluster.lease_link.to_server, cluster.lease_link.to_client))
    way.dropping = True
    await trio.sleep(rng.uniform(0.3, 1.2) * TTL_SECONDS)
    cluster.lease_link.reset()
    await cluster.lease_link.mend()


async def late(stage: Stage, cluster: Cluster, rng: Random) -> None:
    """What was sent arrives, some of it after its time."""
    cluster.lease_link.to_client.freeze()
    await trio.sleep(rng.uniform(0.3, 1.2) * TTL_SECONDS)
    await cluster.lease_link.mend()


async def replaced(stage: Stage, cluster: Cluster, rng: Random) -> None:
    await rng.choice((cluster.kill, cluster.stop))()
    await cluster.start()


async def standing_still(stage: Stage, cluster: Cluster, rng: Random) -> None:
    async with stage.leases_frozen():
        await trio.sleep(rng.uniform(0.1, 1.2) * TTL_SECONDS)


async def cluster_standing_still(stage: Stage, cluster: Cluster, rng: Random) -> None:
    async with cluster.kube_frozen():
        await trio.sleep(rng.uniform(0.1, 1.0) * TTL_SECONDS)


async def scaled(stage: Stage, cluster: Cluster, rng: Random) -> None:
    """Only down: up would be an overlap of our own making."""
    await cluster.scale(DEPLOYMENTS, rng.choice(NAMES), 0)


async def made_anew(stage: Stage, cluster: Cluster, rng: Random) -> None:
    name = rng.choice(NAMES)
    await cluster.delete(BERTH_LEASES, name)
    await stage.until(lambda: cluster.lease(name) is None)
    await cluster.make(BERTH_LEASES, lease(name))


async def refusing(stage: Stage, cluster: Cluster, rng: Random) -> None:
    if not isinstance(cluster.place, KubeServer):
        return
    cluster.place.watches.cut_clients()
    for verb in ("patch", "update", "list"):
        status, reason = rng.choice(((409, "Conflict"), (429, "TooManyRequests"), (500, "InternalError")))
        cluster.place.fail(Fault(verb=verb, times=2, status=status, reason=reason))


HAPPENINGS: tuple[Happening, ...] = (
    *(cut_off, unheard, late, replaced, standing_still),
    *(cluster_standing_still, scaled, made_anew, refusing),
)


def lease(name: str) -> dict[str, object]:
    return berth_lease(name, replicas=1, ttl_seconds=TTL_SECONDS, heartbeatIntervalSeconds=2)


@pytest.mark.parametrize("seed", range(2))
async def test_a_storm(stage: Stage, seed: int) -> None:
    rng = Random(seed)
    await stage.start()
    for name in NAMES:
        await stage.deploy(name, replicas=1, ttl_seconds=TTL_SECONDS, heartbeatIntervalSeconds=2)
    for name in NAMES:
        await stage.settled(name, pods=1)
    for happening in rng.sample(HAPPENINGS, FAULTS):
        await happening(stage, rng.choice(stage.clusters), rng)
        await trio.sleep(BREATH_SECONDS)
        assert stage.overlap.seconds() == {}, happening.__name__
    for name in NAMES:
        await stage.until(lambda name=name: len(stage.running(name)) == 1, within_seconds=4 * TTL_SECONDS)
        await stage.settled(name, pods=1)
