"""An operator is replaced: the next one goes on where it was, or gives up what it is told to give up."""

from signal import SIGKILL, SIGTERM

import pytest
import trio

from tests.kube.server.kinds import DEPLOYMENTS
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import TTL_SECONDS
from tests.roles.operator.stage import ELECTED, Stage

SLOW_TTL_SECONDS = 10
"""Long enough for a process to be replaced on a busy machine."""


@pytest.mark.parametrize("how", [SIGTERM, SIGKILL], ids=lambda how: how.name)
async def test_a_restart_interrupts_nothing(stage: Stage, how: int) -> None:
    await stage.start()
    await stage.deploy(ttl_seconds=SLOW_TTL_SECONDS)
    holder = await stage.settled()
    before = stage.pods(holder)
    await (holder.stop() if how == SIGTERM else holder.kill())
    assert await stage.holder() == holder.name
    await holder.start()
    await stage.stays(lambda: stage.pods(holder) == before, seconds=SLOW_TTL_SECONDS)
    assert stage.running() == {holder.name}
    assert await stage.holder() == holder.name
    assert await stage.token() == 1 == holder.status("web")["fencingToken"]


async def test_the_standby_may_be_replaced_at_any_time(stage: Stage) -> None:
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    before = stage.pods(holder)
    standby = stage.other(holder)
    await standby.stop()
    await standby.start()
    await stage.stays(lambda: stage.pods(holder) == before, seconds=2)
    assert await stage.token() == 1


async def test_a_restart_that_takes_too_long_is_a_loss(stage: Stage) -> None:
    stage.tolerates_overlap = "there is no operator that could stop the pods"
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    standby = stage.other(holder)
    await holder.stop()
    await stage.until(lambda: len(stage.pods(standby)) == 2, within_seconds=TTL_SECONDS + 1)
    await holder.start()
    await stage.until(lambda: stage.runs(standby))
    assert await stage.token() == 2


async def test_a_handover_stops_and_then_gives_up(stage: Stage) -> None:
    await stage.start("--shutdown=handover")
    await stage.deploy()
    holder = await stage.settled()
    standby = stage.other(holder)
    holder.operator.signal(SIGTERM)
    await stage.until(lambda: not stage.pods(holder), within_seconds=3)
    await stage.until(lambda: stage.runs(standby), within_seconds=1)
    assert await holder.ended() == 0
    assert await holder.replicas(DEPLOYMENTS, "web") == 0
    assert (await stage.caller.get_lease(stage.namespace, "web")).fencing_token == 2


async def test_a_standby_hands_over_nothing(stage: Stage) -> None:
    await stage.start("--shutdown=handover")
    await stage.deploy()
    holder = await stage.settled()
    before = stage.pods(holder)
    await stage.other(holder).stop()
    await stage.stays(lambda: stage.pods(holder) == before, seconds=1)
    assert await stage.token() == 1


async def test_a_cluster_that_is_renamed_stops_under_its_old_name(stage: Stage) -> None:
    await stage.east.start()
    await stage.deploy()
    await stage.settled()
    before = stage.pods(stage.east)
    await stage.east.stop()
    await stage.east.start("--cluster-id=east/renamed")
    await stage.until(lambda: len(stage.pods(stage.east)) == 2 and not before & stage.pods(stage.east))
    assert await stage.holder() == "east/renamed"
    assert await stage.token() == 2


async def test_another_leader_goes_on_where_the_killed_one_was(stage: Stage) -> None:
    holder = await two_in(stage.east, stage)
    before = stage.pods(holder)
    leader = next(one for one in holder.operators if one.logged("leading"))
    leader.signal(SIGKILL)
    (other,) = (one for one in holder.operators if one is not leader)
    await stage.until(lambda: other.logged("leading"), within_seconds=6)
    await stage.stays(lambda: stage.pods(holder) == before, seconds=SLOW_TTL_SECONDS)
    assert await stage.token() == 1
    assert stage.running() == {"east"}


async def test_a_leader_that_ends_in_order_is_followed_at_once(stage: Stage) -> None:
    holder = await two_in(stage.east, stage)
    before = stage.pods(holder)
    leader = next(one for one in holder.operators if one.logged("leading"))
    leader.signal(SIGTERM)
    (other,) = (one for one in holder.operators if one is not leader)
    await stage.until(lambda: other.logged("leading"), within_seconds=2)
    await stage.stays(lambda: stage.pods(holder) == before, seconds=2)
    assert await stage.token() == 1


async def two_in(cluster: Cluster, stage: Stage) -> Cluster:
    """Two operators of one cluster, of whom one leads and holds; and one of the other cluster."""
    for _ in range(2):
        cluster.launch(*ELECTED)
    for operator in cluster.operators:
        await trio.to_thread.run_sync(operator.wait_for, "role started")
    await stage.deploy(ttl_seconds=SLOW_TTL_SECONDS)
    assert await stage.settled() is cluster
    await stage.other(cluster).start(*ELECTED)
    return cluster
