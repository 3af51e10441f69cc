"""Pods that take their time to end keep the lease, and so do those that never end."""

from signal import SIGTERM
from typing import Any

import pytest
import trio

from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.faults import Fault
from tests.kube.server.kinds import CRON_JOBS, PODS
from tests.kube.server.rest import KubeServer
from tests.roles.operator import hasty
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import TTL_SECONDS
from tests.roles.operator.stage import Stage

SLOW_SECONDS = 1.5 * TTL_SECONDS


async def held(stage: Stage, *, end_seconds: str | float, **lease: Any) -> Cluster:
    await stage.start()
    await stage.deploy(pods={"end_seconds": end_seconds}, **lease)
    return await stage.settled()


def blocked(cluster: Cluster) -> bool:
    return cluster.condition("web", "DrainBlocked")[0] == "True"


async def test_the_lease_is_kept_until_the_last_pod_is_gone(stage: Stage) -> None:
    holder = await held(stage, end_seconds=SLOW_SECONDS)
    await holder.delete(BERTH_LEASES, "web")
    await trio.sleep(SLOW_SECONDS - 1)
    assert len(stage.pods(holder)) == 2
    assert await stage.holder() == holder.name
    await stage.until(lambda: not stage.pods(holder))
    await stage.until(lambda: stage.pods(stage.other(holder)), within_seconds=1)


async def test_a_handover_waits_for_the_last_pod(stage: Stage) -> None:
    await stage.start("--shutdown=handover")
    await stage.deploy(pods={"end_seconds": 3.0})
    holder = await stage.settled()
    await holder.stop()
    await stage.until(lambda: stage.runs(stage.other(holder)), within_seconds=2)


async def test_a_handover_ends_though_pods_never_do_and_theirs_stays_held(stage: Stage) -> None:
    east = stage.east
    east.excused.append("not everything could be handed over in time")
    await east.start("--shutdown=handover", program=(hasty.__name__,))
    await stage.deploy("web", pods={"end_seconds": "never"}, ttl_seconds=4 * TTL_SECONDS)
    await stage.deploy("other", ttl_seconds=4 * TTL_SECONDS)
    for name in ("web", "other"):
        await stage.settled(name)
    began_at = trio.current_time()
    east.operator.signal(SIGTERM)
    assert await east.ended() == 0
    assert hasty.HANDOVER_SECONDS <= trio.current_time() - began_at < hasty.HANDOVER_SECONDS + 2
    assert not await stage.holder("other")
    assert await stage.holder("web") == east.name
    assert len(stage.pods(east)) == 2


async def test_pods_that_never_end_keep_the_lease_and_it_says_so(stage: Stage) -> None:
    holder = await held(stage, end_seconds="never")
    await holder.delete(BERTH_LEASES, "web")
    await stage.until(lambda: blocked(holder), within_seconds=15)
    await trio.sleep(TTL_SECONDS + 1)
    assert await stage.holder() == holder.name
    assert holder.lease("web") is not None
    assert stage.running() == {holder.name}
    # Somebody makes sure that they are gone, and says so.
    for name in list(holder.kubelet.pods):
        await holder.client.delete(PODS, name.name, name.namespace, grace_seconds=0)
    await stage.until(lambda: stage.runs(stage.other(holder)), within_seconds=5)
    await stage.until(lambda: holder.lease("web") is None)


async def test_without_a_drain_the_lease_is_released_at_once(stage: Stage) -> None:
    stage.tolerates_overlap = "spec.drain is false"
    holder = await held(stage, end_seconds=SLOW_SECONDS, drain=False)
    await holder.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.pods(stage.other(holder)), within_seconds=2)
    assert len(stage.pods(holder)) == 2
    await stage.until(lambda: holder.lease("web") is None, within_seconds=2)


async def test_without_a_drain_a_cron_jobs_jobs_are_ended_all_the_same(stage: Stage) -> None:
    stage.tolerates_overlap = "spec.drain is false"
    await stage.start()
    await stage.deploy("nightly", CRON_JOBS, drain=False)
    await stage.until(lambda: len(stage.running("nightly")) == 1)
    (running,) = stage.running("nightly")
    holder = stage.east if running == "east" else stage.west
    await holder.delete(BERTH_LEASES, "nightly")
    await stage.until(lambda: stage.running("nightly") == {stage.other(holder).name})


@pytest.mark.parametrize(
    ("verb", "plural"),
    [("list", "pods"), ("patch", "deployments")],
    ids=["what is left cannot be seen", "the stop is refused"],
)
async def test_a_stop_that_the_cluster_refuses_to_verify_or_to_make_says_so(
    stage: Stage, verb: str, plural: str
) -> None:
    place = stage.east.place
    if not isinstance(place, KubeServer):
        pytest.skip("a real server has no script of faults")
    await stage.east.start()
    await stage.deploy()
    await stage.until(lambda: stage.runs(stage.east))
    place.fail(Fault("status", verb, plural, 1000, 403, "Forbidden", "a policy forbids it"))
    await stage.east.delete(BERTH_LEASES, "web")
    await stage.until(lambda: blocked(stage.east))
    assert await stage.holder() == "east"
    place.script = type(place.script)()
    await stage.until(lambda: stage.east.lease("web") is None)


async def test_a_lease_that_was_lost_is_not_won_back_before_the_last_pod_is_gone(stage: Stage) -> None:
    """The old pods are of an older token: they do not pass as those of the next."""
    await stage.east.start()
    await stage.deploy(pods={"end_seconds": SLOW_SECONDS})
    await stage.settled()
    before = stage.pods(stage.east)
    stage.east.lease_link.drop()
    await stage.until(lambda: _ending(stage.east) == 2, within_seconds=TTL_SECONDS)
    stage.east.lease_link.reset()
    await stage.east.lease_link.mend()
    await stage.stays(lambda: stage.pods(stage.east) == before, seconds=SLOW_SECONDS - 2)
    await stage.until(lambda: len(stage.pods(stage.east)) == 2 and not before & stage.pods(stage.east))
    assert await stage.token() == 2


def _ending(cluster: Cluster) -> int:
    return sum("deletionTimestamp" in pod["metadata"] for pod in cluster.kubelet.pods.values())


async def test_a_drain_goes_on_with_the_next_operator(stage: Stage) -> None:
    holder = await held(stage, end_seconds=SLOW_SECONDS)
    await holder.delete(BERTH_LEASES, "web")
    await stage.until(lambda: _ending(holder) == 2)
    await holder.kill()
    await holder.start()
    await stage.until(lambda: not stage.pods(holder))
    await stage.until(lambda: stage.runs(stage.other(holder)))
    await stage.until(lambda: holder.lease("web") is None)
