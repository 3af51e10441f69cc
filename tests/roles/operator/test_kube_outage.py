"""A cluster's API server stands still: what runs there cannot be stopped, and so its lease is kept."""

import pytest
import trio

from tests.kube.conftest import BERTH_LEASES
from tests.roles.operator.objects import TTL_SECONDS
from tests.roles.operator.stage import ELECTED, Stage

NO_LEADER = "decides nothing before it leads again, and keeps alive what runs"


@pytest.mark.parametrize("seconds", [TTL_SECONDS / 2, 2 * TTL_SECONDS], ids=["less", "more"])
async def test_the_holder_keeps_what_still_runs(stage: Stage, seconds: float) -> None:
    """For less than the ttl, and for more."""
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    before = stage.pods(holder)
    async with holder.kube_frozen():
        await trio.sleep(seconds)
        assert await stage.holder() == holder.name
    await stage.stays(lambda: stage.pods(holder) == before, seconds=TTL_SECONDS)
    assert await stage.token() == 1
    assert holder.status("web")["leaseState"] == "held"


async def test_a_leader_that_cannot_lead_keeps_what_still_runs(stage: Stage) -> None:
    """Nobody else could lead either: who would stop it, and who would keep it?"""
    await stage.start(*ELECTED)
    await stage.deploy()
    holder = await stage.settled()
    before = stage.pods(holder)
    async with holder.kube_frozen():
        await stage.until(lambda: holder.operator.logged(NO_LEADER))
        await trio.sleep(2 * TTL_SECONDS)
        assert await stage.holder() == holder.name
    await stage.until(lambda: len(holder.operator.logged("leading")) == 2)
    await stage.stays(lambda: stage.pods(holder) == before, seconds=TTL_SECONDS)
    assert await stage.token() == 1
    # And it works.
    await holder.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.runs(stage.other(holder)))


async def test_a_standby_without_it_takes_nothing_for_long(stage: Stage) -> None:
    """It may win, and starts nothing before it can write that down; when it can, all is as it should be."""
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    standby = stage.other(holder)
    async with standby.kube_frozen():
        holder.lease_link.drop()
        await stage.until(lambda: not stage.pods(holder), within_seconds=TTL_SECONDS)
        await trio.sleep(2)
        assert not stage.running()
    await stage.until(lambda: stage.runs(standby))
    await stage.until(lambda: standby.status("web").get("leaseState") == "held")
    assert await stage.holder() == standby.name


async def test_changes_made_meanwhile_are_seen_afterwards(stage: Stage) -> None:
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    async with stage.other(holder).kube_frozen():
        await trio.sleep(1)
    await stage.deploy("second")
    await stage.settled("second")
