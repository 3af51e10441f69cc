"""Somebody changes a workload by hand: while it is held it is what it should be, else it is stopped."""

from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import CRON_JOBS, DEPLOYMENTS
from tests.roles.operator.objects import berth_lease, workload
from tests.roles.operator.stage import Stage

CORRECTED_SECONDS = 2.0


async def test_a_standby_that_is_scaled_up_is_stopped(stage: Stage) -> None:
    stage.tolerates_overlap = "it runs until it is seen"
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    standby = stage.other(holder)
    before = stage.pods(holder)
    await standby.scale(DEPLOYMENTS, "web", 1)
    await stage.until_asked(lambda: _replicas(stage, standby.name, 0), within_seconds=CORRECTED_SECONDS)
    await stage.until(lambda: stage.runs(holder))
    assert stage.pods(holder) == before
    assert sum(stage.overlap.seconds().values()) < CORRECTED_SECONDS


async def test_a_holder_that_is_scaled_down_is_scaled_up_again(stage: Stage) -> None:
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    for replicas in (0, 1, 3):
        await holder.scale(DEPLOYMENTS, "web", replicas)
        await stage.until_asked(lambda: _replicas(stage, holder.name, 2), within_seconds=CORRECTED_SECONDS)
    assert await stage.token() == 1


async def test_a_count_that_is_not_given_is_left_to_others_and_remembered(stage: Stage) -> None:
    await stage.east.start()
    await stage.deploy(replicas=None)
    await stage.until(lambda: stage.runs(stage.east, pods=1))
    await stage.east.scale(DEPLOYMENTS, "web", 3)
    await stage.until(lambda: stage.runs(stage.east, pods=3))
    await stage.stays(lambda: stage.runs(stage.east, pods=3), seconds=2)
    stage.east.lease_link.drop()
    await stage.until(lambda: not stage.running())
    stage.east.lease_link.reset()
    await stage.east.lease_link.mend()
    await stage.until(lambda: stage.runs(stage.east, pods=3))


async def test_a_standby_that_is_resumed_is_suspended(stage: Stage) -> None:
    stage.tolerates_overlap = "it runs until it is seen"
    await stage.start()
    await stage.deploy("nightly", CRON_JOBS)
    await stage.until(lambda: len(stage.running("nightly")) == 1)
    (running,) = stage.running("nightly")
    standby = stage.west if running == "east" else stage.east
    await standby.patch(CRON_JOBS, "nightly", {"spec": {"suspend": False}})

    async def suspended() -> bool:
        return (await standby.get(CRON_JOBS, "nightly"))["spec"]["suspend"]

    await stage.until_asked(suspended, within_seconds=CORRECTED_SECONDS)
    await stage.until(lambda: stage.running("nightly") == {running})


async def test_jobs_that_were_begun_on_a_standby_are_ended(stage: Stage) -> None:
    stage.tolerates_overlap = "they run until they are seen"
    await stage.east.start()
    await stage.deploy("nightly", CRON_JOBS)
    await stage.until(lambda: stage.pods(stage.east, "nightly"))
    # In the west somebody lets it run before there is an operator.
    await stage.west.patch(CRON_JOBS, "nightly", {"spec": {"suspend": False}})
    await stage.until(lambda: stage.pods(stage.west, "nightly"))
    await stage.west.start()
    await stage.until(lambda: stage.running("nightly") == {"east"})
    assert (await stage.west.get(CRON_JOBS, "nightly"))["spec"]["suspend"] is True
    await stage.until(lambda: stage.west.condition("nightly", "Acquired") == ("False", "HeldByOther"))


async def test_what_was_running_on_a_standby_comes_back_in_the_same_number(stage: Stage) -> None:
    stage.tolerates_overlap = "it ran before anybody was asked"
    await stage.east.start()
    await stage.deploy(replicas=None)
    await stage.until(lambda: stage.runs(stage.east, pods=1))
    await stage.west.scale(DEPLOYMENTS, "web", 3)
    await stage.until(lambda: len(stage.pods(stage.west)) == 3)
    await stage.west.start()
    await stage.until(lambda: stage.runs(stage.east, pods=1))
    await stage.east.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.runs(stage.west, pods=3))


async def test_a_holder_that_is_suspended_is_resumed(stage: Stage) -> None:
    await stage.east.start()
    await stage.deploy("nightly", CRON_JOBS)
    await stage.until(lambda: stage.pods(stage.east, "nightly"))
    await stage.east.patch(CRON_JOBS, "nightly", {"spec": {"suspend": True}})

    async def resumed() -> bool:
        return not (await stage.east.get(CRON_JOBS, "nightly"))["spec"].get("suspend")

    await stage.until_asked(resumed, within_seconds=CORRECTED_SECONDS)


async def test_what_was_running_before_there_was_a_lease_is_stopped_on_the_standby(stage: Stage) -> None:
    stage.tolerates_overlap = "it ran before anybody was asked"
    await stage.start()
    for cluster in stage.clusters:
        await cluster.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web"))
        await cluster.scale(DEPLOYMENTS, "web", 2)
    await stage.until(lambda: all(len(stage.pods(cluster)) == 2 for cluster in stage.clusters))
    before = {cluster.name: stage.pods(cluster) for cluster in stage.clusters}
    for cluster in stage.clusters:
        await cluster.make(BERTH_LEASES, berth_lease("web"))
    holder = await stage.settled()
    assert stage.pods(holder) == before[holder.name]


async def _replicas(stage: Stage, name: str, wanted: int) -> bool:
    cluster = stage.east if name == "east" else stage.west
    return await cluster.replicas(DEPLOYMENTS, "web") == wanted
