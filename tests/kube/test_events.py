"""Events: told without waiting, one for what happens again, and never more than so many."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
import trio.testing

from berth.kube.api import KubeClient
from berth.kube.events import KNOWN_MAX, PENDING_MAX, EventRecorder
from berth.kube.objects import EVENTS, LEASES, Object, mapping
from tests.kube.conftest import Cluster, in_namespace
from tests.kube.server.faults import Fault
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Known, Network
from tests.kube.test_api import At
from tests.kube.test_behaviour import lease
from tests.runtime.conftest import Journal
from tests.support.clocks import TrioClock

Clock = trio.testing.MockClock


def recorder(client: KubeClient, journal: Journal) -> EventRecorder:
    return EventRecorder(
        client,
        component="berth-operator",
        instance="here",
        clock=TrioClock(),
        rng=Random(1),
        logger=journal.logger,
    )


@asynccontextmanager
async def running(events: EventRecorder) -> AsyncGenerator[EventRecorder]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(events.run)
        yield events
        nursery.cancel_scope.cancel()


@pytest.fixture
def events(network: Network, journal: Journal) -> EventRecorder:
    return recorder(KubeClient(Known(), network), journal)


def kept(kube: KubeServer) -> list[Object]:
    return [obj for _, obj in kube.storage.of("events", "")]


async def sent(events: EventRecorder) -> None:
    with trio.fail_after(100):
        await events.sent()


async def test_an_event_says_what_happened_to_whom(
    kube: KubeServer, events: EventRecorder, autojump_clock: Clock
) -> None:
    about = kube.create(LEASES, lease())
    async with running(events):
        events.tell(about, "Warning", "LeaseLost", "lost to b")
        await sent(events)
    [event] = kept(kube)
    assert event["involvedObject"]["uid"] == about["metadata"]["uid"]
    assert event["involvedObject"]["kind"] == "Lease"
    assert event["metadata"]["namespace"] == "default"
    assert event["metadata"]["name"].startswith("a.")
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "LeaseLost", "lost to b")
    assert (event["count"], event["source"]["component"]) == (1, "berth-operator")
    assert event["firstTimestamp"] == event["lastTimestamp"]


async def test_what_happens_again_is_counted(
    kube: KubeServer, events: EventRecorder, autojump_clock: Clock
) -> None:
    about = kube.create(LEASES, lease())
    async with running(events):
        for _ in range(3):
            events.tell(about, "Normal", "Renewed", "as ever")
        await sent(events)
        assert [event["count"] for event in kept(kube)] == [3]
        await trio.sleep(60)
        events.tell(about, "Normal", "Renewed", "as ever")
        events.tell(about, "Normal", "Renewed", "otherwise")
        await sent(events)
        first, other = sorted(kept(kube), key=lambda event: -event["count"])
        assert (first["count"], other["count"]) == (4, 1)
        assert first["lastTimestamp"] > first["firstTimestamp"]
        await trio.sleep(3600)
        events.tell(about, "Normal", "Renewed", "as ever")
        await sent(events)
    assert sorted(event["count"] for event in kept(kube)) == [1, 1, 4]
    assert kube.asked_for("create", "events") == 3
    assert kube.asked_for("patch", "events") == 1


async def test_one_that_the_cluster_has_forgotten_is_told_anew(
    kube: KubeServer, events: EventRecorder, autojump_clock: Clock
) -> None:
    about = kube.create(LEASES, lease())
    async with running(events):
        events.tell(about, "Normal", "Renewed", "as ever")
        await sent(events)
        kube.delete(EVENTS, kept(kube)[0]["metadata"]["name"])
        events.tell(about, "Normal", "Renewed", "as ever")
        await sent(events)
    assert [event["count"] for event in kept(kube)] == [1]


async def test_a_cluster_that_takes_none_costs_so_much_and_no_more(
    kube: KubeServer, network: Network, events: EventRecorder, autojump_clock: Clock
) -> None:
    network.down = True
    for number in range(PENDING_MAX + 10):
        events.tell({"metadata": {"name": str(number)}}, "Normal", "Told", "x" * 5000)
    assert events.dropped == 10
    async with running(events):
        await trio.sleep(4 * 3600)
    assert events.dropped == PENDING_MAX + 10
    assert not kept(kube)


@pytest.mark.parametrize("happening", ["status", "cut", "cut after", "hang after"])
async def test_one_fault_loses_nothing_and_tells_nothing_twice(
    kube: KubeServer, events: EventRecorder, autojump_clock: Clock, happening: str
) -> None:
    about = kube.create(LEASES, lease())
    kube.fail(Fault(happening, verb="create", plural="events"))  # pyright: ignore[reportArgumentType]
    async with running(events):
        events.tell(about, "Normal", "Renewed", "as ever")
        await sent(events)
    assert [event["count"] for event in kept(kube)] == [1]
    assert events.dropped == 0


async def test_what_is_forbidden_is_not_tried_again(
    kube: KubeServer, events: EventRecorder, journal: Journal, autojump_clock: Clock
) -> None:
    kube.fail(Fault(status=403, reason="Forbidden", verb="create"))
    async with running(events):
        events.tell({"metadata": {"name": "a", "namespace": "default"}}, "Normal", "Told", "text")
        await sent(events)
    assert kube.asked_for("create", "events") == 1
    assert journal.messages() == ["event not sent"]


async def test_an_object_without_a_namespace_has_its_events_in_default(
    kube: KubeServer, events: EventRecorder, autojump_clock: Clock
) -> None:
    async with running(events):
        events.tell({"kind": "Node", "metadata": {"name": "n"}}, "Normal", "Told", "text")
        await sent(events)
    assert kept(kube)[0]["metadata"]["namespace"] == "default"


async def test_what_was_sent_is_not_remembered_for_ever(
    kube: KubeServer, events: EventRecorder, autojump_clock: Clock
) -> None:
    async with running(events):
        for number in range(KNOWN_MAX + 100):
            events.tell({"metadata": {"name": str(number)}}, "Normal", "Told", "text")
            if number % PENDING_MAX == PENDING_MAX - 1:
                await sent(events)
        await sent(events)
    assert len(events._known) == KNOWN_MAX


async def test_on_either_server(cluster: Cluster, journal: Journal) -> None:
    client = KubeClient(At(cluster), cluster.client)
    about = await client.create(LEASES, in_namespace(cluster.namespace, lease()))
    async with running(recorder(client, journal)) as events:
        for _ in range(2):
            events.tell(about, "Normal", "Renewed", "as ever")
            await sent(events)
    [event] = (await client.list_all(EVENTS, cluster.namespace)).items
    assert (event["count"], event["reason"]) == (2, "Renewed")
    assert mapping(event["involvedObject"])["uid"] == about["metadata"]["uid"]
