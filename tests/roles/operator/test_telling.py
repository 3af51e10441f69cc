"""Each transition is one Event of the BerthLease, and nothing else is."""

from collections import Counter
from functools import partial

import pytest
import trio

from berth.kube.objects import EVENTS
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.faults import Fault
from tests.kube.server.kinds import DEPLOYMENTS
from tests.kube.server.rest import KubeServer
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.stage import Stage

Told = Counter[tuple[str, str]]
WON = (("Normal", "Acquired"), ("Normal", "TargetStarted"))
GIVEN_UP = (("Normal", "Stopping"), ("Normal", "TargetStopped"), ("Normal", "Stopped"))
LOST = (("Warning", "Lost"), ("Normal", "TargetStopped"), ("Normal", "Stopped"))
TRIES = 3
STILL_SECONDS = 1.0


async def told(cluster: Cluster) -> Told:
    """How often what of which type, by now."""
    found: Told = Counter()
    for event in (await cluster.client.list_all(EVENTS, cluster.namespace)).items:
        about = event["involvedObject"]
        if (about.get("kind"), about.get("name")) == (BERTH_LEASES.kind, "web"):
            found[event["type"], event["reason"]] += event["count"]
    return found


async def told_in_all(stage: Stage, cluster: Cluster, *events: tuple[str, str]) -> None:
    """Each once for each time that it is named; and no more come."""

    async def all_there() -> bool:
        return await told(cluster) >= Counter(events)

    with trio.move_on_after(5):
        await stage.until_asked(all_there)
    await trio.sleep(STILL_SECONDS)
    assert await told(cluster) == Counter(events)


async def test_of_what_is_won_lost_and_given_up(stage: Stage) -> None:
    await stage.east.start()
    await stage.deploy()
    await stage.settled()
    await stage.west.start()
    stage.east.lease_link.drop()
    await stage.until(lambda: stage.runs(stage.west))
    await told_in_all(stage, stage.east, *WON, *LOST)
    await stage.west.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.west.lease("web") is None)
    await told_in_all(stage, stage.west, *WON, *GIVEN_UP)


async def test_of_what_is_handed_over(stage: Stage) -> None:
    await stage.east.start("--shutdown=handover")
    await stage.deploy()
    await stage.settled()
    await stage.east.stop()
    await told_in_all(stage, stage.east, *WON, *GIVEN_UP)


async def test_of_what_a_standby_stops(stage: Stage) -> None:
    await stage.east.start()
    await stage.deploy()
    await stage.settled()
    await stage.west.start()
    await stage.until(lambda: stage.west.condition("web", "Acquired") == ("False", "HeldByOther"))
    assert await told(stage.west) == Counter()
    stage.tolerates_overlap = "somebody starts it by hand"
    await stage.west.scale(DEPLOYMENTS, "web", 1)
    await told_in_all(stage, stage.west, ("Warning", "TargetStopped"))


@pytest.mark.parametrize("places", ["test server"], indirect=True)
async def test_of_what_is_refused_once_and_not_at_every_try(stage: Stage) -> None:
    """A real server has no script of faults."""
    place = stage.east.place
    assert isinstance(place, KubeServer)
    tried = partial(place.asked_for, "patch", DEPLOYMENTS.plural)
    refused = Fault("status", "patch", DEPLOYMENTS.plural, 1000, 403, "Forbidden", "a policy forbids it")
    await stage.east.start()
    place.fail(refused)
    await stage.deploy()
    await stage.until(lambda: tried() >= TRIES)
    await told_in_all(stage, stage.east, WON[0], ("Warning", "StartFailed"))
    place.script.clear()
    await stage.settled()
    started = (*WON, ("Warning", "StartFailed"))
    await told_in_all(stage, stage.east, *started)

    place.fail(refused)
    before = tried()
    await stage.east.delete(BERTH_LEASES, "web")
    await stage.until(lambda: tried() >= before + TRIES)
    await told_in_all(stage, stage.east, *started, ("Warning", "StopFailed"))
    place.script.clear()
    await stage.until(lambda: stage.east.lease("web") is None)
    await told_in_all(stage, stage.east, *started, ("Warning", "StopFailed"), *GIVEN_UP)
