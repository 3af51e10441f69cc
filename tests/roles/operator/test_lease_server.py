"""The lease server is away, slow, begun anew, or overruled by an admin."""

import pytest
import trio

from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import TTL_SECONDS
from tests.roles.operator.stage import Stage


async def held(stage: Stage) -> Cluster:
    await stage.start()
    await stage.deploy()
    return await stage.settled()


async def test_the_holder_stops_in_time_while_it_stands_still(stage: Stage) -> None:
    holder = await held(stage)
    async with stage.leases_frozen():
        await stage.until(lambda: not stage.running(), within_seconds=TTL_SECONDS)
        await stage.until(lambda: holder.condition("web", "Acquired")[0] == "False")
        await trio.sleep(1)
        assert not stage.running()
    await stage.settled()


async def test_nothing_is_lost_while_it_stands_still_for_less_than_the_ttl(stage: Stage) -> None:
    holder = await held(stage)
    before = stage.pods(holder)
    async with stage.leases_frozen():
        await trio.sleep(TTL_SECONDS / 3)
    await stage.stays(lambda: stage.pods(holder) == before, seconds=TTL_SECONDS)
    assert await stage.token() == 1


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
async def test_the_holder_keeps_its_leases_when_it_is_restarted(stage: Stage) -> None:
    holder = await held(stage)
    before = stage.pods(holder)
    await stage.restart_leases()
    await stage.stays(lambda: stage.pods(holder) == before, seconds=2 * TTL_SECONDS)
    assert await stage.token() == 1
    assert await stage.holder() == holder.name
    # The standby hears of what happens after that, too.
    holder.lease_link.drop()
    await stage.until(lambda: stage.runs(stage.other(holder)), within_seconds=TTL_SECONDS + 2)


async def test_operators_that_come_first_wait_for_it(stage: Stage) -> None:
    async with stage.leases_frozen():
        for cluster in stage.clusters:
            await cluster.start()
        await stage.deploy()
        await trio.sleep(1)
        assert not stage.running()
    await stage.settled()


async def test_what_an_admin_ends_is_stopped_and_won_anew(stage: Stage) -> None:
    stage.tolerates_overlap = "an admin who ends a session takes what still runs into account"
    holder = await held(stage)
    before = stage.pods(holder)
    session = (await stage.caller.get_lease(stage.namespace, "web")).session
    assert session is not None
    await stage.caller.end_session(session)
    await stage.until(lambda: not before & stage.pods(holder), within_seconds=3)
    winner = await stage.settled()
    assert await stage.token() == 2 == winner.status("web")["fencingToken"]
