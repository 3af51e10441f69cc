"""At-least-once: it runs in every cluster, and an outage ends it nowhere."""

from tests.kube.conftest import BERTH_LEASES
from tests.roles.operator.objects import TTL_SECONDS
from tests.roles.operator.stage import Stage

WANTED = "that is what at-least-once asks for"


async def running(stage: Stage) -> None:
    stage.tolerates_overlap = WANTED
    await stage.start()
    await stage.deploy(semantics="at-least-once")
    await stage.until(lambda: all(len(stage.pods(cluster)) == 2 for cluster in stage.clusters))
    await stage.until(
        lambda: {cluster.status("web").get("leaseState") for cluster in stage.clusters} == {"held"}
    )


def pods(stage: Stage) -> list[frozenset[str]]:
    return [stage.pods(cluster) for cluster in stage.clusters]


async def test_it_runs_in_both_under_tokens_of_their_own(stage: Stage) -> None:
    await running(stage)
    tokens = {cluster.status("web")["fencingToken"] for cluster in stage.clusters}
    assert tokens == {1, 2}
    held = await stage.caller.get_lease(stage.namespace, "web")
    assert {holder.holder for holder in held.holders} == {"east", "west"}


async def test_it_runs_on_while_the_lease_server_is_away(stage: Stage) -> None:
    await running(stage)
    before = pods(stage)
    async with stage.leases_frozen():
        await stage.stays(lambda: pods(stage) == before, seconds=1.5 * TTL_SECONDS)
    await stage.stays(lambda: pods(stage) == before, seconds=TTL_SECONDS)
    await stage.until_asked(lambda: _held_by_both(stage))


async def test_it_runs_on_in_a_cluster_that_is_cut_off(stage: Stage) -> None:
    await running(stage)
    before = pods(stage)
    stage.east.lease_link.drop()
    await stage.stays(lambda: pods(stage) == before, seconds=1.5 * TTL_SECONDS)
    stage.east.lease_link.reset()
    await stage.east.lease_link.mend()
    await stage.until_asked(lambda: _held_by_both(stage))
    assert pods(stage) == before


async def test_it_runs_on_through_a_restart_of_the_operator(stage: Stage) -> None:
    await running(stage)
    before = pods(stage)
    await stage.east.kill()
    await stage.east.start()
    await stage.stays(lambda: pods(stage) == before, seconds=TTL_SECONDS)


async def test_it_runs_on_through_a_restart_while_the_lease_server_is_away(stage: Stage) -> None:
    await running(stage)
    before = pods(stage)
    async with stage.leases_frozen():
        await stage.east.kill()
        await stage.east.start()
        await stage.stays(lambda: pods(stage) == before, seconds=TTL_SECONDS)
    await stage.until_asked(lambda: _held_by_both(stage))
    await stage.stays(lambda: pods(stage) == before, seconds=1)


async def test_what_is_deleted_in_one_runs_on_in_the_other(stage: Stage) -> None:
    await running(stage)
    before = stage.pods(stage.west)
    await stage.east.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.east.lease("web") is None)
    assert not stage.pods(stage.east)
    assert stage.pods(stage.west) == before


async def _held_by_both(stage: Stage) -> bool:
    held = await stage.caller.get_lease(stage.namespace, "web")
    return {holder.holder for holder in held.holders} == {"east", "west"}
