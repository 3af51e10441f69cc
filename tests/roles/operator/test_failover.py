"""A holder is lost: to its own end, or to a network that no longer lets it be heard."""

import trio

from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import TTL_SECONDS
from tests.roles.operator.stage import Stage

TAKE_OVER_SECONDS = TTL_SECONDS + 1


async def holder_of(stage: Stage) -> Cluster:
    await stage.start()
    await stage.deploy()
    return await stage.settled()


async def taken_over(stage: Stage, standby: Cluster, *, within_seconds: float = TAKE_OVER_SECONDS) -> None:
    """By the standby, with a higher token."""
    await stage.until(lambda: len(stage.pods(standby)) == 2, within_seconds=within_seconds)
    await stage.until(lambda: standby.status("web").get("leaseState") == "held")
    assert await stage.holder() == standby.name
    assert standby.status("web")["fencingToken"] == await stage.token() > 1


async def test_the_standby_takes_over_from_a_holder_that_is_killed(stage: Stage) -> None:
    stage.tolerates_overlap = "nobody is left who could stop the pods of the killed operator's cluster"
    holder = await holder_of(stage)
    await holder.kill()
    await taken_over(stage, stage.other(holder))
    assert stage.running() == {"east", "west"}


async def test_a_holder_that_comes_back_stops_what_it_left(stage: Stage) -> None:
    stage.tolerates_overlap = "the killed operator's pods go on until it is back"
    holder = await holder_of(stage)
    standby = stage.other(holder)
    await holder.kill()
    await taken_over(stage, standby)
    running = stage.pods(standby)
    await holder.start()
    await stage.until(lambda: stage.runs(standby), within_seconds=5)
    await stage.until(lambda: holder.status("web").get("leaseState") == "waiting")
    await stage.stays(lambda: stage.pods(standby) == running and stage.runs(standby), seconds=2)
    assert holder.status("web")["currentHolder"] == standby.name


async def test_a_holder_that_is_not_heard_stops_before_another_starts(stage: Stage) -> None:
    holder = await holder_of(stage)
    holder.lease_link.drop()
    await taken_over(stage, stage.other(holder))
    assert not stage.pods(holder)


async def test_a_holder_that_hears_nothing_stops_before_another_starts(stage: Stage) -> None:
    """What it sends arrives."""
    holder = await holder_of(stage)
    holder.lease_link.drop([holder.lease_link.to_client])
    await taken_over(stage, stage.other(holder), within_seconds=2 * TTL_SECONDS + 1)
    assert not stage.pods(holder)


async def test_a_holder_that_is_refused_connections_stops_before_another_starts(stage: Stage) -> None:
    holder = await holder_of(stage)
    holder.lease_link.refuse()
    await taken_over(stage, stage.other(holder))
    assert not stage.pods(holder)
    await holder.lease_link.mend()
    await stage.until(lambda: holder.status("web").get("currentHolder") == stage.other(holder).name)


async def test_a_holder_that_is_heard_again_in_time_has_lost_nothing(stage: Stage) -> None:
    holder = await holder_of(stage)
    before = stage.pods(holder)
    holder.lease_link.reset()
    await trio.sleep(TTL_SECONDS / 4)
    await holder.lease_link.mend()
    await stage.stays(lambda: stage.pods(holder) == before, seconds=TTL_SECONDS)
    assert await stage.token() == 1


async def test_what_is_sent_may_take_its_time(stage: Stage) -> None:
    for cluster in stage.clusters:
        cluster.lease_link.delay(0.2)
    holder = await holder_of(stage)
    before = stage.pods(holder)
    await stage.stays(lambda: stage.pods(holder) == before, seconds=2 * TTL_SECONDS)
    assert await stage.token() == 1


async def test_the_holder_is_back_after_the_other_is_lost_too(stage: Stage) -> None:
    """There and back again; each stops before the other starts."""
    holder = await holder_of(stage)
    standby = stage.other(holder)
    holder.lease_link.drop()
    await taken_over(stage, standby)
    holder.lease_link.reset()  # else what was lost is waited for
    await holder.lease_link.mend()
    await stage.until(lambda: holder.status("web").get("leaseState") == "waiting")
    standby.lease_link.drop()
    await taken_over(stage, holder)
    assert await stage.token() == 3
