"""A BerthLease is deleted: what it is for stops, the lease is released, and only then is it gone."""

from contextlib import suppress

import trio

from berth.kube.faults import AlreadyExists, NotFound
from berth.kube.objects import Object
from berth.wire.berthlease import FINALIZER
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import DEPLOYMENTS
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import TTL_SECONDS, berth_lease
from tests.roles.operator.stage import Stage

HAND_OVER_SECONDS = 1.0


async def held(stage: Stage) -> Cluster:
    await stage.start()
    await stage.deploy()
    return await stage.settled()


async def gone(stage: Stage, cluster: Cluster, name: str = "web") -> None:
    await stage.until(lambda: cluster.lease(name) is None)
    assert not await cluster.exists(BERTH_LEASES, name)


async def test_the_other_cluster_has_it_a_moment_after_the_last_pod_is_gone(stage: Stage) -> None:
    holder = await held(stage)
    await holder.delete(BERTH_LEASES, "web")
    await stage.until(lambda: not stage.pods(holder))
    await stage.until(lambda: stage.pods(stage.other(holder)), within_seconds=HAND_OVER_SECONDS)
    await gone(stage, holder)
    assert await holder.replicas(DEPLOYMENTS, "web") == 0
    assert await stage.token() == 2


async def test_a_standbys_goes_at_once_and_disturbs_nobody(stage: Stage) -> None:
    holder = await held(stage)
    before = stage.pods(holder)
    standby = stage.other(holder)
    await standby.delete(BERTH_LEASES, "web")
    await gone(stage, standby)
    assert stage.pods(holder) == before
    assert await stage.token() == 1


async def test_one_made_anew_is_contended_for_anew(stage: Stage) -> None:
    holder = await held(stage)
    standby = stage.other(holder)
    await holder.delete(BERTH_LEASES, "web")
    await gone(stage, holder)
    await holder.make(BERTH_LEASES, berth_lease("web"))
    await stage.until(lambda: holder.status("web").get("leaseState") == "waiting")
    await standby.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.runs(holder))
    assert await stage.token() == 3


async def test_one_of_a_workload_that_is_gone_can_be_deleted(stage: Stage) -> None:
    holder = await held(stage)
    await holder.delete(DEPLOYMENTS, "web")
    await stage.until(lambda: not stage.pods(holder))
    await holder.delete(BERTH_LEASES, "web")
    await gone(stage, holder)
    await stage.until(lambda: stage.runs(stage.other(holder)))


async def test_it_is_gone_although_the_lease_server_is_away_for_good(stage: Stage) -> None:
    """Once the ttl is over there is nothing left to release."""
    holder = await held(stage)
    async with stage.leases_frozen():
        await holder.delete(BERTH_LEASES, "web")
        await stage.until(lambda: not stage.pods(holder), within_seconds=3)
        await stage.until(lambda: holder.lease("web") is None, within_seconds=TTL_SECONDS + 5)
    await stage.until(lambda: stage.runs(stage.other(holder)))


async def test_many_deleted_together_are_all_gone(stage: Stage) -> None:
    await stage.east.start()
    names = [f"web-{number}" for number in range(10)]
    for name in names:
        await stage.deploy(name, replicas=1)
    for name in names:
        await stage.until(lambda name=name: stage.runs(stage.east, name, pods=1))
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(stage.east.delete, BERTH_LEASES, name)
    for name in names:
        await gone(stage, stage.east, name)
        assert not stage.pods(stage.east, name)


async def test_deleted_in_both_at_once_the_lease_is_free(stage: Stage) -> None:
    """Also where one has just won what the other has released."""
    await stage.start()
    names = [f"web-{number}" for number in range(8)]
    for name in names:
        await stage.deploy(name, replicas=1)
    for name in names:
        await stage.settled(name, pods=1)
    async with trio.open_nursery() as nursery:
        for number, name in enumerate(names):
            for cluster in stage.clusters:
                nursery.start_soon(_delete_after, cluster, name, 0.02 * number)
    for name in names:
        for cluster in stage.clusters:
            await gone(stage, cluster, name)

    async def all_free() -> bool:
        states = [(await stage.caller.get_lease(stage.namespace, name)).state for name in names]
        return set(states) == {"free"}

    await stage.until_asked(all_free, within_seconds=2 * TTL_SECONDS)


async def _delete_after(cluster: Cluster, name: str, seconds: float) -> None:
    if cluster.name == "west":
        await trio.sleep(seconds)
    await cluster.delete(BERTH_LEASES, name)


async def test_one_whose_finalizer_is_taken_off_while_others_keep_it_is_stopped_too(stage: Stage) -> None:
    holder = await held(stage)
    kept = {"metadata": {"finalizers": [FINALIZER, "example.test/kept"]}}
    await holder.patch(BERTH_LEASES, "web", kept)
    holder.kube_link.freeze()
    await holder.delete(BERTH_LEASES, "web")
    await holder.patch(BERTH_LEASES, "web", {"metadata": {"finalizers": ["example.test/kept"]}})
    await holder.kube_link.mend()
    await stage.until(lambda: stage.runs(stage.other(holder)))
    assert holder.lease("web") is not None
    await holder.patch(BERTH_LEASES, "web", {"metadata": {"finalizers": None}})
    await gone(stage, holder)


async def test_one_that_is_torn_away_and_made_anew_begins_anew(stage: Stage) -> None:
    """Under another lease's name: what ran under the first one is stopped before, and its lease given up."""
    await stage.east.start()
    await stage.deploy()
    await stage.until(lambda: stage.runs(stage.east))
    before = stage.pods(stage.east)
    await stage.east.delete(BERTH_LEASES, "web")
    with suppress(NotFound):
        await stage.east.patch(BERTH_LEASES, "web", {"metadata": {"finalizers": None}})
    await stage.until_asked(lambda: _made(stage, berth_lease("web", leaseName="other")))
    await stage.until(lambda: stage.runs(stage.east) and not before & stage.pods(stage.east))
    assert await stage.holder("other") == "east"
    await stage.until_asked(lambda: _is_free(stage, "web"))


async def _made(stage: Stage, obj: Object) -> bool:
    """Once the name is free."""
    try:
        await stage.east.make(BERTH_LEASES, obj)
    except AlreadyExists:
        return False
    return True


async def _is_free(stage: Stage, name: str) -> bool:
    return (await stage.caller.get_lease(stage.namespace, name)).state == "free"


async def test_one_that_is_torn_away_is_stopped_and_released_all_the_same(stage: Stage) -> None:
    """Somebody takes the finalizer off who could not wait."""
    holder = await held(stage)
    await holder.delete(BERTH_LEASES, "web")
    try:
        await holder.patch(BERTH_LEASES, "web", {"metadata": {"finalizers": None}})
    except NotFound:
        pass  # it had been quicker
    await stage.until(lambda: stage.runs(stage.other(holder)))
