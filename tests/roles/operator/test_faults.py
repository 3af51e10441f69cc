"""A kube-apiserver that refuses, forgets, breaks off and dawdles; the test server does so on request."""

import pytest
import trio

from berth.kube.objects import EVENTS
from tests.kube.server.faults import Fault
from tests.kube.server.kinds import DEPLOYMENTS
from tests.kube.server.rest import KubeServer
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import TTL_SECONDS
from tests.roles.operator.stage import Place, Stage

pytestmark = pytest.mark.parametrize("places", ["test server"], indirect=True)

WRITES = ("update", "patch", "create")


def servers(places: tuple[Place, Place]) -> list[KubeServer]:
    return [place for place in places if isinstance(place, KubeServer)]


def server_of(cluster: Cluster) -> KubeServer:
    assert isinstance(cluster.place, KubeServer)
    return cluster.place


async def held(stage: Stage) -> Cluster:
    await stage.start()
    await stage.deploy()
    return await stage.settled()


async def lost(stage: Stage, holder: Cluster, *, within_seconds: float = TTL_SECONDS + 5) -> None:
    """Taken over by the other, as ever."""
    holder.lease_link.drop()
    await stage.until(lambda: stage.runs(stage.other(holder)), within_seconds=within_seconds)


async def test_a_history_that_is_forgotten_is_listed_anew(stage: Stage, places: tuple[Place, Place]) -> None:
    holder = await held(stage)
    for server in servers(places):
        server.compact()
        server.watches.cut_clients()
    await stage.deploy("second")
    await stage.settled("second")
    await lost(stage, holder)


async def test_watches_that_break_all_the_time_are_begun_anew(
    stage: Stage, places: tuple[Place, Place]
) -> None:
    async def breaking() -> None:
        while True:
            await trio.sleep(0.3)
            for server in servers(places):
                server.watches.cut_clients()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(breaking)
        holder = await held(stage)
        await lost(stage, holder)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("plural", ["berthleases", "deployments"])
async def test_a_storm_of_conflicts_passes(stage: Stage, plural: str) -> None:
    for cluster in stage.clusters:
        for verb in ("update", "patch"):
            server_of(cluster).fail(Fault(verb=verb, plural=plural, times=5, status=409, reason="Conflict"))
    holder = await held(stage)
    for verb in ("update", "patch"):
        server_of(holder).fail(Fault(verb=verb, plural=plural, times=2, status=409, reason="Conflict"))
    await lost(stage, holder)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_cannot_be_asked_yet_is_waited_for(stage: Stage, status: int) -> None:
    for cluster in stage.clusters:
        server_of(cluster).fail(Fault(times=5, status=status, retry_after_seconds=1))
    await held(stage)


async def test_a_server_that_is_in_trouble_is_asked_again(stage: Stage) -> None:
    holder = await held(stage)
    before = stage.pods(holder)
    for verb in WRITES:
        server_of(holder).fail(Fault(verb=verb, times=2, status=500))
    await holder.scale(DEPLOYMENTS, "web", 1)
    await stage.until(lambda: len(stage.pods(holder)) == 2)
    assert before & stage.pods(holder)


@pytest.mark.parametrize("happening", ["hang", "hang after", "cut", "cut after"])
async def test_a_stop_that_is_not_answered_is_made_in_time_all_the_same(stage: Stage, happening: str) -> None:
    """The budget is there for this."""
    await stage.start()
    await stage.deploy(ttl_seconds=8, heartbeatIntervalSeconds=2)
    holder = await stage.settled()
    for plural in ("berthleases", "deployments"):
        for verb in ("update", "patch"):
            server_of(holder).fail(Fault(happening=happening, verb=verb, plural=plural))  # pyright: ignore[reportArgumentType]
    await lost(stage, holder, within_seconds=13)


async def test_a_start_that_is_not_answered_is_made_again(stage: Stage) -> None:
    for cluster in stage.clusters:
        for plural in ("berthleases", "deployments"):
            for verb in ("update", "patch"):
                server_of(cluster).fail(Fault(happening="hang after", verb=verb, plural=plural))
    await stage.start()
    await stage.deploy()
    await stage.until(lambda: len(stage.running()) == 1, within_seconds=30)
    await stage.settled()


async def test_a_slow_server_is_waited_for(stage: Stage) -> None:
    for cluster in stage.clusters:
        cluster.kube_link.delay(0.1)
    holder = await held(stage)
    await lost(stage, holder)


async def test_what_it_may_not_do_is_told_and_done_once_it_may(stage: Stage) -> None:
    refusal = Fault(
        verb="patch",
        plural="deployments",
        times=1000,
        status=403,
        reason="Forbidden",
        message="no such right",
    )
    server_of(stage.east).fail(refusal)
    await stage.east.start()
    await stage.deploy()

    async def told() -> bool:
        events = await stage.east.client.list_all(EVENTS, stage.namespace)
        return any("no such right" in event["message"] for event in events.items)

    await stage.until_asked(told)
    refusal.times = 0
    await stage.until(lambda: stage.runs(stage.east), within_seconds=30)
