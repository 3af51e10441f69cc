"""Whole lease services on one cluster, whose clocks are hours apart, step, and agree on nothing."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from itertools import count, pairwise
from random import Random
from typing import NamedTuple

import pytest
import trio
import trio.testing

from berth.core.names import Key
from berth.core.records import Record, Tenure
from berth.core.requests import Acquire, Acquired, NotAcquired, Refused, Release, Renew, Renewed
from berth.core.sessions import OpenSession, SessionAlive
from berth.kube.api import KubeClient
from berth.kube.objects import LEASES
from berth.service.asking import Operation
from berth.service.leases import LeaseService
from berth.store.api import StoreFault
from berth.store.kubernetes_objects import NAME, lease_object, session_name
from berth.store.kubernetes_opening import opened_on
from berth.store.kubernetes_reading import Unreadable
from tests.kube.server.kinds import NAMESPACES
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Known, Network
from tests.kube.test_informer import put_back
from tests.runtime.conftest import Journal
from tests.support.clocks import TrioClock
from tests.support.service import opened

NAMESPACE = "coordination"
KEY = Key("default", "a")
SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
Clock = trio.testing.MockClock


class OwnClock(TrioClock):
    """Runs as Trio's does, and shows another time; `step_us` is by how much somebody has set it."""

    def __init__(self, up_us: int, ahead_us: int) -> None:
        self._up_us = up_us
        self._ahead_us = ahead_us
        self.step_us = 0

    def boot_us(self) -> int:
        return super().boot_us() + self._up_us

    def wall_us(self) -> int:
        return super().wall_us() + self._ahead_us + self.step_us


class Replica(NamedTuple):
    service: LeaseService
    network: Network
    clock: OwnClock


@pytest.fixture
def kube(kube: KubeServer) -> KubeServer:
    kube.create(NAMESPACES, {"metadata": {"name": NAMESPACE}}, "")
    return kube


@pytest.fixture
async def replicas(kube: KubeServer, journal: Journal) -> AsyncGenerator[list[Replica]]:
    """Three of them: five hours ahead, right, and a day behind."""
    async with AsyncExitStack() as stack:
        found: list[Replica] = []
        for up_us, ahead_us in ((10 * HOUR_US, 5 * HOUR_US), (0, 0), (3, -24 * HOUR_US)):
            network, clock = Network(kube), OwnClock(up_us, ahead_us)
            client = KubeClient(Known(), network)
            store = await stack.enter_async_context(
                opened_on(client, NAMESPACE, clock, journal.logger, Random(1))
            )
            service = await stack.enter_async_context(
                opened(store, clock=clock, recall=store.recall, shared=store)
            )
            found.append(Replica(service, network, clock))
        yield found


async def test_a_lease_that_is_kept_is_not_taken_and_one_that_is_not_is(
    replicas: list[Replica], autojump_clock: Clock
) -> None:
    ahead, right, behind = replicas
    assert isinstance(await ahead.service.acquire(KEY, Acquire("a", 10 * SECOND_US)), Acquired)
    renewed_at = 0.0
    for turn in range(10):
        await trio.sleep(4)
        right.clock.step_us += (-1) ** turn * turn * HOUR_US
        renewing = replicas[turn % 3].service
        assert isinstance(await renewing.renew(KEY, Renew("a", 1, 10 * SECOND_US)), Renewed)
        renewed_at = trio.current_time()
        for each in replicas:
            assert not isinstance(await each.service.acquire(KEY, Acquire("b", SECOND_US)), Acquired)
    waited = await behind.service.acquire_waiting(KEY, Acquire("b", 10 * SECOND_US), 30)
    assert isinstance(waited.outcome, Acquired)
    assert waited.outcome.view.token == 2
    assert 10 < trio.current_time() - renewed_at < 10.1
    assert not isinstance(await ahead.service.renew(KEY, Renew("a", 1, 10 * SECOND_US)), Renewed)


async def test_a_session_that_is_kept_keeps_its_lease(replicas: list[Replica], autojump_clock: Clock) -> None:
    ahead, right, behind = replicas
    opening = OpenSession("s", "a", "", 10 * SECOND_US)
    assert isinstance(await behind.service.open_session(opening), SessionAlive)
    assert isinstance(await ahead.service.acquire(KEY, Acquire("a", session="s")), Acquired)
    renewed_at = 0.0
    for turn in range(6):
        await trio.sleep(4)
        assert isinstance(await replicas[turn % 3].service.renew_session("s"), SessionAlive)
        renewed_at = trio.current_time()
        for each in replicas:
            assert not isinstance(await each.service.acquire(KEY, Acquire("b", SECOND_US)), Acquired)
    waited = await right.service.acquire_waiting(KEY, Acquire("b", 10 * SECOND_US), 30)
    assert isinstance(waited.outcome, Acquired)
    assert 10 < trio.current_time() - renewed_at < 10.1
    assert not isinstance(await behind.service.renew_session("s"), SessionAlive)


async def test_an_object_that_is_not_ours_is_told_to_who_asks_for_it_alone(
    replicas: list[Replica], kube: KubeServer, autojump_clock: Clock
) -> None:
    here, there, _ = (replica.service for replica in replicas)
    bad, keys = Key("default", "bad"), [Key("default", f"good-{number}") for number in range(70)]
    for key in keys:
        await there.acquire(key, Acquire("a", 10 * SECOND_US))
    await trio.sleep(1)
    stranger: dict[str, object] = {"metadata": {"name": "default.bad"}, "spec": {"holderIdentity": "x"}}
    kube.create(LEASES, stranger, NAMESPACE)
    asking = [*keys, bad]
    answers = await here.many([Operation(key, Renew("a", 1, 10 * SECOND_US)) for key in asking])
    assert [type(each) for each in answers] == [Renewed] * 70 + [Unreadable]
    answers = await here.renew_many({key: Renew("a", 1, 10 * SECOND_US) for key in asking})
    assert isinstance(answers, list)
    assert [type(each) for each in answers] == [Renewed] * 70 + [Unreadable]
    answers = await here.many([Operation(key, Acquire("b", SECOND_US)) for key in asking])
    assert [type(each) for each in answers] == [NotAcquired] * 70 + [Unreadable]
    assert "default.bad" in str(answers[-1])
    with pytest.raises(StoreFault, match="in the way"):
        await here.get(bad)


async def test_an_object_that_was_spoiled_keeps_nobody_waiting(
    replicas: list[Replica], kube: KubeServer, autojump_clock: Clock
) -> None:
    """For what expires at the same instant."""
    here, there, _ = (replica.service for replica in replicas)
    bad, good = Key("default", "bad"), Key("default", "good")
    for key in (bad, good):
        await there.acquire(key, Acquire("a", 10 * SECOND_US))
    kube.patch(LEASES, "default.bad", {"metadata": {"annotations": {NAME: "another"}}}, NAMESPACE)
    waited = await here.acquire_waiting(good, Acquire("b", 10 * SECOND_US), 20)
    assert isinstance(waited.outcome, Acquired)
    assert 10 < trio.current_time() < 10.2


async def test_others_are_heard_though_some_of_it_makes_no_sense(
    replicas: list[Replica], kube: KubeServer, autojump_clock: Clock
) -> None:
    """A lease under a session whose object cannot be read."""
    here, there, _ = (replica.service for replica in replicas)
    assert isinstance(await there.acquire(KEY, Acquire("a", 60 * SECOND_US)), Acquired)
    kube.create(LEASES, {"metadata": {"name": session_name("s")}, "spec": {}}, NAMESPACE)
    under = Record(Key("default", "b"), 1, 1, (Tenure("z", 1, 0, 0, "s"),))
    released_at = 0.0

    async def release() -> None:
        nonlocal released_at
        await trio.sleep(1)
        kube.create(LEASES, lease_object(under, None, NAMESPACE, 1), NAMESPACE)
        await there.release(KEY, Release("a", 1))
        released_at = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(release)
        waited = await here.acquire_waiting(KEY, Acquire("b", 10 * SECOND_US), 30)
        assert isinstance(waited.outcome, Acquired)
        assert trio.current_time() - released_at < 0.5


async def test_after_a_cluster_was_put_back_nothing_is_granted_while_a_lost_grant_may_hold(
    replicas: list[Replica], kube: KubeServer, autojump_clock: Clock
) -> None:
    here, there, _ = (replica.service for replica in replicas)
    late = Key("default", "late")
    assert isinstance(await there.acquire(KEY, Acquire("a", 10 * SECOND_US)), Acquired)
    backup = dict(kube.storage.objects), kube.storage.version
    await there.release(KEY, Release("a", 1))
    for key in (KEY, late):
        assert isinstance(await there.acquire(key, Acquire("b", 10 * SECOND_US)), Acquired)
    await trio.sleep(1)
    put_back(kube, backup)
    begun = trio.current_time()
    refused: list[object] = []
    while not isinstance(outcome := await here.acquire(KEY, Acquire("c", SECOND_US)), Acquired):
        refused.append(outcome)
        if isinstance(outcome, Refused):
            # What was granted since is remembered, and lives on.
            assert isinstance(await here.renew(late, Renew("b", 1, 10 * SECOND_US)), Renewed)
        await trio.sleep(0.5)
    assert 10 < trio.current_time() - begun < 20
    assert outcome.view.token > 1000
    noticed = [isinstance(each, Refused) and each.reason == "quarantine" for each in refused]
    assert noticed == sorted(noticed)
    assert noticed.count(True) >= 20
    assert kube.find(LEASES, "default.late", NAMESPACE) is not None
    for each in (here, there):
        fresh = await each.acquire(Key("default", "new"), Acquire("c", SECOND_US))
        assert isinstance(fresh, Acquired | Refused)
        assert isinstance(fresh, Refused) or fresh.view.token > 1000


class Span(NamedTuple):
    """From when its grant was told, until when its holder may have acted."""

    token: int
    begun: float
    ended: float


@pytest.mark.parametrize("seed", range(5))
async def test_nobody_has_company(
    replicas: list[Replica], kube: KubeServer, seed: int, autojump_clock: Clock
) -> None:
    """Holders who crash and ask whichever replica; clocks that are set; networks and watches are lost."""
    rng, spans = Random(seed), list[Span]()

    async def contend(name: str) -> None:
        for turn in count():
            holder = f"{name}-{turn}"
            await trio.sleep(rng.uniform(0, 2))
            sent = trio.current_time()
            try:
                outcome = await rng.choice(replicas).service.acquire(KEY, Acquire(holder, 6 * SECOND_US))
            except StoreFault:
                continue
            if isinstance(outcome, Acquired):
                begun = trio.current_time()
                ended = await hold(holder, outcome.view.token, sent)
                spans.append(Span(outcome.view.token, begun, ended))

    async def hold(holder: str, token: int, sent: float) -> float:
        deadline, over = sent + 6, trio.current_time() + rng.uniform(0, 20)
        while trio.current_time() < min(deadline, over):
            asked = trio.current_time()
            with trio.move_on_at(deadline):
                try:
                    outcome = await rng.choice(replicas).service.renew(
                        KEY, Renew(holder, token, 6 * SECOND_US)
                    )
                except StoreFault:
                    pass
                else:
                    if not isinstance(outcome, Renewed):
                        return trio.current_time()
                    deadline = asked + 6
                await trio.sleep(2)
        ended = min(trio.current_time(), deadline)
        if rng.random() < 0.6:
            try:
                await rng.choice(replicas).service.release(KEY, Release(holder, token))
            except StoreFault:
                pass
        else:
            await trio.sleep_until(deadline)
        return ended

    async def trouble() -> None:
        while True:
            await trio.sleep(rng.uniform(1, 10))
            victim = rng.choice(replicas)
            victim.clock.step_us = round(rng.uniform(-30, 30)) * HOUR_US
            victim.network.latency_seconds = rng.choice((0, 0.1, 1))
            kube.compact()
            for watch in list(kube.watches.open):
                if rng.random() < 0.3:
                    watch.cut()
            if rng.random() < 0.3:
                victim.network.down = True
                await trio.sleep(rng.uniform(0, 8))
                victim.network.down = False

    with trio.move_on_after(900):
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(contend, f"h{number}")
            nursery.start_soon(trouble)
    spans.sort()
    assert len(spans) > 30
    for one, following in pairwise(spans):
        assert one.token < following.token
        assert one.ended <= following.begun, (one, following)
