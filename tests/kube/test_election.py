"""Leader election: two electors, client-go's record, pauses and steps of the clocks, and a faulty server."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from berth.core.election import Timing
from berth.kube.api import KubeClient
from berth.kube.election import Leadership, LeadershipLost, leading
from berth.kube.objects import LEASES, Object
from berth.runtime.clock import Clock
from tests.client.direct import NodeClock
from tests.kube.client_go import ClientGo
from tests.kube.conftest import Cluster, until
from tests.kube.server.faults import Fault
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Known, Network
from tests.kube.test_api import At
from tests.runtime.conftest import Journal

TIMING = Timing()  # 15 s, 10 s, 2 s: client-go's
Mocked = trio.testing.MockClock
MICROSECONDS = 1_000_000


@dataclass
class Node:
    """A process that campaigns on a network and clocks of its own, and remembers when it led."""

    kube: KubeServer
    identity: str
    journal: Journal = field(default_factory=Journal)
    clock: NodeClock = field(default_factory=NodeClock)
    terms: list[tuple[float, float, int]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network = Network(self.kube)
        self.leads: Leadership | None = None

    def leading(self, timing: Timing = TIMING) -> Any:
        return leading(
            KubeClient(Known(), self.network),
            namespace="default",
            name="boss",
            identity=self.identity,
            timing=timing,
            clock=self.clock,
            rng=Random(self.identity),
            logger=self.journal.logger,
        )

    async def campaign(self, seconds: float = 1e6, timing: Timing = TIMING) -> None:
        """One term: lead for so long, or until it is lost."""
        started = -1.0
        try:
            async with self.leading(timing) as self.leads:
                started = trio.current_time()
                try:
                    await trio.sleep(seconds)
                finally:
                    assert self.leads is not None
                    self.terms.append((started, trio.current_time(), self.leads.token))
                    self.leads = None
        except LeadershipLost as loss:
            self.lost.append(loss.loss)

    async def campaign_for_ever(self) -> None:
        while True:
            await self.campaign()


def record(kube: KubeServer) -> Object:
    found = kube.find(LEASES, "boss")
    assert found is not None
    return found["spec"]


def theirs(**spec: Any) -> Object:
    """As client-go writes it."""
    written = {
        "holderIdentity": "client-go_1234",
        "leaseDurationSeconds": 15,
        "acquireTime": "2001-01-01T00:00:00.000000Z",
        "renewTime": "2001-01-01T00:00:00.000000Z",
        "leaseTransitions": 7,
        **spec,
    }
    return {"metadata": {"name": "boss"}, "spec": written}


@asynccontextmanager
async def background(*tasks: Callable[[], Any]) -> AsyncGenerator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)
        yield nursery
        nursery.cancel_scope.cancel()


@pytest.fixture
def node(kube: KubeServer) -> Callable[[str], Node]:
    return lambda identity: Node(kube, identity)


MakeNode = Callable[[str], Node]


async def test_the_first_leads_and_writes_client_gos_record(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    async with node("a").leading() as leadership:
        assert (leadership.token, leadership.lost) == (0, None)
        first = record(kube)
        assert first["holderIdentity"] == "a"
        assert first["leaseDurationSeconds"] == 15
        assert first["acquireTime"] == first["renewTime"]
        assert len(first["renewTime"]) == len("2026-01-01T00:00:00.000000Z")
        await trio.sleep(60)
        later = record(kube)
        assert later["renewTime"] > first["renewTime"]
        assert {**later, "renewTime": ""} == {**first, "renewTime": ""}
        assert kube.asked_for("update", "leases") == 29, "one PUT for a renewal, and nothing else"
        assert kube.asked_for("get", "leases") == 1
    assert record(kube)["holderIdentity"] == ""
    assert record(kube)["leaseDurationSeconds"] == 1
    assert record(kube)["leaseTransitions"] == 0


async def test_a_released_lease_is_taken_within_a_retry_and_counts_on(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    a, b = node("a"), node("b")
    async with background(lambda: a.campaign(30)):
        await until(lambda: a.leads)
        await b.campaign(5)
    [(_, ended, _)], [(began, _, token)] = a.terms, b.terms
    assert ended <= began <= ended + 4.5
    assert token == 1


async def test_a_record_of_client_go_holds_for_as_long_as_it_says_from_when_it_was_seen(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    """Its times are decades old; nobody compares them with a clock."""
    kube.create(LEASES, theirs())
    a = node("a")
    await trio.sleep(1000)
    async with background(a.campaign):
        await until(lambda: a.leads)
        assert 1015 <= trio.current_time() <= 1016
        assert a.leads is not None
        assert a.leads.token == 8


async def test_a_record_that_changes_holds_on(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    kube.create(LEASES, theirs())
    a = node("a")
    async with background(a.campaign):
        for number in range(1, 21):
            await trio.sleep(10)
            kube.patch(LEASES, "boss", {"spec": {"renewTime": f"2001-01-01T00:00:00.{number:06d}Z"}})
            assert a.leads is None
        kube.patch(LEASES, "boss", {"metadata": {"labels": {"a": "policy controller's"}}})
        await until(lambda: a.leads)
        assert 215 <= trio.current_time() <= 220, "a change around the record is none"


async def test_an_empty_holder_is_nobody(kube: KubeServer, node: MakeNode, autojump_clock: Mocked) -> None:
    kube.create(LEASES, theirs(holderIdentity="", leaseDurationSeconds=1))
    async with node("a").leading() as leadership:
        assert trio.current_time() == 0
        assert leadership.token == 8


async def test_another_with_our_name_is_another(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    kube.create(LEASES, theirs(holderIdentity="a"))
    a = node("a")
    async with background(a.campaign):
        await until(lambda: a.leads)
        assert trio.current_time() >= 15
        assert a.leads is not None
        assert a.leads.token == 8
        twin = node("a")
        await trio.sleep(60)
        with trio.move_on_after(100):
            await twin.campaign()
        assert not twin.terms


async def test_leadership_taken_away_ends_the_work_at_the_next_renewal(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    for change in (
        {"spec": {"holderIdentity": "b"}},
        {"spec": {"acquireTime": "2030-01-01T00:00:00.000000Z"}},
        {"spec": {"holderIdentity": ""}},
    ):
        a = node("a")
        async with background(a.campaign):
            await until(lambda: a.leads)  # noqa: B023
            taken_at = trio.current_time()
            kube.patch(LEASES, "boss", change)
            await until(lambda: a.lost)  # noqa: B023
            assert trio.current_time() <= taken_at + 2.1
        assert a.lost == ["refused"]
        kube.delete(LEASES, "boss")


async def test_a_lease_that_was_deleted_is_lost_and_not_made_anew(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    a = node("a")
    async with background(a.campaign):
        await until(lambda: a.leads)
        kube.delete(LEASES, "boss")
        await until(lambda: a.lost)
        assert kube.find(LEASES, "boss") is None
    assert a.lost == ["refused"]


async def test_a_change_around_the_record_costs_nobody_the_lead(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    a = node("a")
    async with background(a.campaign):
        await until(lambda: a.leads)
        for number in range(500):
            kube.patch(LEASES, "boss", {"metadata": {"labels": {"n": str(number)}}})
            await trio.sleep(0.5)
        assert a.leads is not None
        labels = kube.find(LEASES, "boss")["metadata"]["labels"]  # pyright: ignore[reportOptionalSubscript]
        assert labels == {"n": "499"}


async def test_conflicts_in_storms_cost_nobody_the_lead(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    a = node("a")
    async with background(a.campaign):
        await until(lambda: a.leads)
        for _ in range(20):
            kube.fail(Fault(status=409, reason="Conflict", verb="update", times=7))
            await trio.sleep(9)
        assert a.leads is not None


async def test_the_deadline_counts_from_before_the_request_was_sent(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    a = node("a")
    a.network.latency_seconds = 3
    kube.fail(Fault("hang", verb="update", times=100))
    async with background(a.campaign):
        await until(lambda: a.leads)
        assert 6 <= trio.current_time() < 6.1, "after a GET and a POST"
        await until(lambda: a.lost)
    [(_, ended, _)] = a.terms
    assert 12.9 <= ended <= 13, "the POST was sent at 3"
    assert a.lost == ["deadline"]


async def test_nobody_leads_past_the_deadline_and_two_never_lead(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    """Networks go down and come back, for hours; each leads now and then, never both."""
    a, b = node("a"), node("b")
    rng = Random(5)
    async with background(a.campaign_for_ever, b.campaign_for_ever):
        for _ in range(300):
            for one in (a, b):
                one.network.down = rng.random() < 0.3
                one.network.latency_seconds = rng.choice([0, 0, 0.2, 3])
            await trio.sleep(rng.uniform(1, 40))
    terms = sorted(a.terms + b.terms)
    assert min(len(a.terms), len(b.terms)) > 10
    for sooner, later in pairwise(terms):
        assert sooner[1] <= later[0]
        assert sooner[2] < later[2]


async def test_a_pause_of_the_machine_ends_it_before_anything_else(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    """Suspended for a minute: Trio's clock does not know, the boot clock does."""
    a = node("a")
    async with background(a.campaign):
        await until(lambda: a.leads)
        leadership = a.leads
        assert leadership is not None
        await trio.sleep(3.5)
        a.clock.suspended_us += 60 * MICROSECONDS
        assert leadership.lost == "deadline"
        assert leadership.remaining_seconds() == 0
        await until(lambda: a.lost)
        assert trio.current_time() <= 4.6
    assert record(kube)["holderIdentity"] == "", "it was still ours to give up"


async def test_a_reply_that_comes_after_a_pause_wins_nothing(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    a = node("a")
    a.network.latency_seconds = 1
    async with background(a.campaign):
        await trio.sleep(1.5)
        assert kube.asked_for("create", "leases") == 0
        a.clock.suspended_us += 60 * MICROSECONDS
        await until(lambda: kube.asked_for("create", "leases"))
        assert a.leads is None
        await until(lambda: a.leads)
        assert 4 <= trio.current_time() < 4.1, "by another write, sent after the pause"


@pytest.mark.parametrize("hours", [-5, 5])
async def test_a_wall_clock_that_is_wrong_or_steps_changes_nothing_for_who_follows(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked, hours: int
) -> None:
    a, b = node("a"), node("b")
    b.clock.wall_step_us = hours * 3600 * MICROSECONDS
    async with background(a.campaign) as nursery:
        await until(lambda: a.leads)
        nursery.start_soon(b.campaign)
        await trio.sleep(120)
        b.clock.wall_step_us += hours * 3600 * MICROSECONDS
        await trio.sleep(120)
        assert a.leads is not None
        assert b.leads is None


async def test_a_wall_clock_set_back_does_not_repeat_an_instant(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    a = node("a")
    async with background(a.campaign):
        await until(lambda: a.leads)
        await trio.sleep(10)
        before = record(kube)["renewTime"]
        a.clock.wall_step_us = -3600 * MICROSECONDS
        await trio.sleep(60)
        assert a.leads is not None
        assert record(kube)["renewTime"] > before


async def test_a_wall_clock_set_forward_ends_it_as_it_may_be_the_right_one(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    a = node("a")
    async with background(a.campaign):
        await until(lambda: a.leads)
        await trio.sleep(1)
        a.clock.wall_step_us = 3600 * MICROSECONDS
        await until(lambda: a.lost)
    assert a.lost == ["deadline"]


@pytest.mark.parametrize("happening", ["hang", "hang after", "cut", "cut after"])
async def test_what_was_not_heard_neither_prolongs_nor_ends_it(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked, happening: Any
) -> None:
    a = node("a")
    async with background(a.campaign):
        await until(lambda: a.leads)
        kube.fail(Fault(happening, verb="update", times=1))
        await trio.sleep(60)
        assert a.leads is not None
        kube.fail(Fault(happening, times=1000))
        broken_at = trio.current_time()
        await until(lambda: a.lost)
        assert 7.5 <= trio.current_time() - broken_at <= 10 + 5
    [(_, ended, _)] = a.terms
    assert ended - broken_at <= 10
    assert a.lost == ["deadline"]


async def test_a_claim_that_was_won_unheard_is_found_and_renewed(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    kube.fail(Fault("cut after", verb="create"))
    async with node("a").leading() as leadership:
        assert leadership.token == 0
        assert trio.current_time() < 5
        assert kube.asked_for("update", "leases") == 1


async def test_who_stops_waiting_leaves_no_claim_behind(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    kube.fail(Fault("hang after", verb="create"))
    with trio.move_on_after(1):
        await node("a").campaign()
    assert record(kube)["holderIdentity"] == ""
    kube.patch(LEASES, "boss", {"spec": {"holderIdentity": "b", "leaseDurationSeconds": 15}})
    with trio.move_on_after(1):
        await node("a").campaign()
    assert record(kube)["holderIdentity"] == "b"


async def test_turns_are_taken_with_electors_that_do_as_client_go_does(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    """For hours, on networks that come and go: each leads now and then, and never two."""
    ours, network = node("ours"), Network(kube)
    other = ClientGo(KubeClient(Known(), network), "theirs")
    rng = Random(7)
    async with background(ours.campaign_for_ever, other.campaign_for_ever):
        for _ in range(300):
            for one in (ours.network, network):
                one.down = rng.random() < 0.3
                one.latency_seconds = rng.choice([0, 0, 0.2, 0.5])
            await trio.sleep(rng.uniform(1, 40))
    assert min(len(ours.terms), len(other.terms)) > 10
    terms = sorted([(start, end) for start, end, _ in ours.terms] + other.terms)
    for sooner, later in pairwise(terms):
        assert sooner[1] <= later[0]


async def test_it_is_given_up_only_when_the_work_has_stopped(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    a, b = node("a"), node("b")
    a.network.latency_seconds = 0.1
    stopped_at = 0.0

    async def work() -> None:
        nonlocal stopped_at
        with pytest.raises(LeadershipLost):
            async with a.leading():
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(4)
                    stopped_at = trio.current_time()

    async with background(work):
        await trio.sleep(10)
        a.network.down = True
        async with background(b.campaign):
            await until(lambda: b.leads)
    assert 0 < stopped_at < b.terms[0][0]


async def test_an_exception_of_the_work_comes_out_and_the_lease_is_free(
    kube: KubeServer, node: MakeNode, autojump_clock: Mocked
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with node("a").leading():
            _ = 1 / 0
    assert record(kube)["holderIdentity"] == ""


async def test_a_timing_by_which_nobody_could_lead_is_refused(node: MakeNode) -> None:
    with pytest.raises(ValueError, match="must be less than the lease duration"):
        async with node("a").leading(Timing(10, 10, 2)):
            pass


async def test_on_either_server(cluster: Cluster, journal: Journal) -> None:
    """Two take turns; clocks are real and short."""
    order: list[tuple[str, int]] = []

    async def one(identity: str, clock: Clock) -> None:
        async with leading(
            KubeClient(At(cluster), cluster.client),
            namespace=cluster.namespace,
            name="boss",
            identity=identity,
            timing=Timing(3, 2.0, 0.2),
            clock=clock,
            rng=Random(identity),
            logger=journal.logger,
        ) as leadership:
            order.append((identity, leadership.token))
            await trio.sleep(0.7)
            assert leadership.lost is None

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for identity in ("a", "b", "c"):
                nursery.start_soon(one, identity, NodeClock())
    assert sorted(identity for identity, _ in order) == ["a", "b", "c"]
    assert [token for _, token in order] == [0, 1, 2]
