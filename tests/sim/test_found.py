"""Faults that the simulation has found, each in the smallest scene that showed it."""

from collections.abc import AsyncGenerator, Collection
from contextlib import suppress
from functools import partial
from random import Random

import pytest
import trio
from trio.testing import MockClock

from berth.client import BerthError, Conflict, OutcomeUnknown, hold, hold_session
from berth.core.names import Key
from berth.core.records import Observed
from berth.core.requests import Acquire, Acquired
from berth.core.sessions import OpenSession
from berth.runtime.clock import MICROSECONDS
from berth.runtime.supervise import open_service_nursery
from berth.service.leases import open_leases
from berth.service.limits import Limits, LimitSettings
from berth.service.sweeper import Sweeping
from berth.store.api import Reading
from berth.store.memory import MemoryStore
from berth.wire.replies import watch_line
from tests.sim import engine
from tests.sim.actors import Actor, left_us
from tests.sim.engine import Gate
from tests.sim.ledger import Ledger
from tests.sim.logs import SimLogger
from tests.sim.plan import CONTENDED, MANY
from tests.sim.scenes import Scene, hold_steadily, hold_under_session, near, near_plan, one_by_one, turns
from tests.sim.world import World, simulate
from tests.support.clocks import TrioClock


def play(scene: Scene) -> list[str]:
    return simulate(near_plan(), scene).ledger.violations


async def _work(actor: Actor, key: Key, token: int, ttl_seconds: int, seconds: float) -> None:
    """Act on a grant of just now for some seconds; stopping takes no time."""
    sent = actor.now()
    span = actor.ledger.begin(key, actor.name, token, actor.process)
    until = trio.current_time() + seconds
    while trio.current_time() < until and left_us([(sent, ttl_seconds)], actor.now()) > 0:
        span.touch()
        await trio.sleep(0.1)
    span.stop()


async def _twice_under_a_session(actor: Actor) -> None:
    """Take a lease, give it up without knowing whether that was heard, and take it again."""
    async with hold_session(
        actor.client, holder=actor.name, ttl_seconds=30, clock=actor.host.clock, rng=actor.rng
    ) as session:
        reply = await session.acquire(*MANY[0])
        if not reply.acquired:
            return
        await _work(actor, MANY[0], reply.fencing_token, 30, seconds=2)
        with pytest.raises(OutcomeUnknown):
            await session.release(*MANY[0], fencing_token=reply.fencing_token)
        reply = await session.acquire(*MANY[0], wait_seconds=10)
        if reply.acquired:
            await _work(actor, MANY[0], reply.fencing_token, 20, seconds=12)


async def _a_release_comes_late_under_a_session(world: World) -> None:
    near(world, _twice_under_a_session, partial(hold_under_session, ttl_seconds=10))
    world.network.slowed["/release"] = 6.0
    await one_by_one(world)
    await trio.sleep(20)


def test_a_late_release_does_not_end_what_was_acquired_again_under_a_session():
    assert play(_a_release_comes_late_under_a_session) == []


async def _hold_twice(actor: Actor) -> None:
    for seconds in (2, 12):
        async with hold(
            actor.client,
            *CONTENDED,
            holder=f"{actor.name}/hold",
            instance="",
            ttl_seconds=20,
            clock=actor.host.clock,
            rng=actor.rng,
        ) as held:
            await _work(actor, CONTENDED, held.token, 18, seconds)


async def _a_release_comes_late_to_a_named_instance(world: World) -> None:
    near(world, _hold_twice, partial(hold_steadily, ttl_seconds=10))
    world.network.slowed["/release"] = 6.0
    await one_by_one(world)
    await trio.sleep(20)


def test_a_late_release_does_not_end_the_next_hold_of_a_named_instance():
    assert play(_a_release_comes_late_to_a_named_instance) == []


async def _take_for_a_second(actor: Actor) -> None:
    reply = await actor.client.acquire(*CONTENDED, holder=actor.caller, ttl_seconds=20)
    await _work(actor, CONTENDED, reply.fencing_token, 20, seconds=1)
    with suppress(OutcomeUnknown):
        await actor.client.release(*CONTENDED, holder=actor.caller, fencing_token=reply.fencing_token)
    await trio.sleep_forever()


async def _ask_twice(actor: Actor) -> None:
    """Wait in line, give up, and wait again."""
    with trio.move_on_after(0.1):
        await actor.client.acquire(*CONTENDED, holder=actor.caller, ttl_seconds=20, wait_seconds=10)
    reply = await actor.client.acquire(*CONTENDED, holder=actor.caller, ttl_seconds=20, wait_seconds=10)
    await _work(actor, CONTENDED, reply.fencing_token, 15, seconds=10)
    await trio.sleep_forever()


async def _who_gave_up_waiting_asks_again(world: World) -> None:
    """While a slow round is under way a releases, and b asks twice; c wants the lease too."""
    near(world, _take_for_a_second, _ask_twice, partial(hold_steadily, ttl_seconds=20))
    world.network.hang_up_seconds = 0.5
    world.nodes[0].start()
    await trio.sleep(0.9)
    world.trouble.latency_seconds = 1.0
    async with world.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(partial(client.acquire, *CONTENDED, holder="ops/0", ttl_seconds=1))
        await trio.sleep(0.12)
        world.nodes[1].start()
        await trio.sleep(0.5)
        world.nodes[2].start()
        await trio.sleep(4)
        nursery.cancel_scope.cancel()
    world.trouble.latency_seconds = 0.0
    await trio.sleep(5)


def test_what_is_taken_back_from_a_request_that_has_gone_is_not_what_the_next_one_was_told():
    assert play(_who_gave_up_waiting_asks_again) == []


async def _force_under_a_session(world: World) -> None:
    """A lease under a session is not forced: its session can be ended, and who held it learns of that."""
    holding = partial(hold_under_session, ttl_seconds=4)
    near(world, holding, holding)
    await one_by_one(world)
    async with world.client() as client:
        lease = await client.get_lease(*MANY[0])
        with pytest.raises(Conflict) as refused:
            await client.force_release(*MANY[0], fencing_token=lease.fencing_token, reason="simulated")
        assert refused.value.code == "held_by_session"
    await trio.sleep(12)
    world.nodes[0].leave()
    await trio.sleep(3)


def test_who_holds_a_lease_under_a_session_does_not_lose_it_without_hearing_of_it():
    assert play(_force_under_a_session) == []


async def _acquire_and_release(actor: Actor) -> None:
    """Hold a session for long; take a lease under it for a moment only, in several tries."""
    async with hold_session(
        actor.client, holder=actor.name, ttl_seconds=4, clock=actor.host.clock, rng=actor.rng
    ) as session:
        reply = None
        while reply is None:
            with suppress(OutcomeUnknown):
                reply = await session.acquire(*MANY[0])
        await session.release(*MANY[0], fencing_token=reply.fencing_token)
        await trio.sleep_forever()


async def _an_acquire_comes_late_under_a_session(world: World) -> None:
    near(world, _acquire_and_release, partial(hold_under_session, ttl_seconds=4))
    world.network.slowed["many-1/acquire"] = 6.0
    world.nodes[0].start()
    await trio.sleep(3)
    world.network.slowed.clear()
    await trio.sleep(10)
    world.nodes[1].start()
    await trio.sleep(30)
    if not world.ledger.is_active(MANY[0]):
        world.ledger.fail("L1: nobody became active")


def test_an_acquire_that_comes_late_under_a_session_does_not_close_the_lease_for_good():
    assert play(_an_acquire_comes_late_under_a_session) == []


async def _take_again_after_a_restart(actor: Actor) -> None:
    """Under one name, before and after: the tokens are the same too."""
    for seconds in (1, 15):
        reply = None
        while reply is None or not reply.acquired:
            with suppress(BerthError):
                reply = await actor.client.acquire(*CONTENDED, holder=actor.caller, ttl_seconds=20)
            await trio.sleep(0.2)
        await _work(actor, CONTENDED, reply.fencing_token, 18, seconds)
        with suppress(BerthError):
            await actor.client.release(*CONTENDED, holder=actor.caller, fencing_token=reply.fencing_token)
        await trio.sleep(3)


async def _a_release_comes_after_a_restart(world: World) -> None:
    near(world, _take_again_after_a_restart, partial(hold_steadily, ttl_seconds=6))
    world.nodes[0].start()
    await turns(world, 1)
    await trio.sleep(2)
    world.servers[0].crash()
    world.servers[0].start()
    await turns(world, 2)
    world.nodes[1].start()
    world.network.replay("/release")
    await trio.sleep(5)


def test_a_release_from_before_a_restart_of_memory_ends_no_tenure_of_after():
    verdict = simulate(near_plan(store="memory"), _a_release_comes_after_a_restart)
    assert verdict.ledger.violations == []


class SlowReads(MemoryStore):
    """Takes its time for what the register looks at."""

    def __init__(self, clock: TrioClock) -> None:
        super().__init__(clock)
        self.seconds: dict[tuple[object, ...], float] = {}

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        await trio.sleep(self.seconds.get((*keys, *sessions), 0.0))
        return await super().read(keys, sessions)


def test_two_looks_of_the_register_at_a_time_do_not_end_the_server():
    async def main() -> None:
        clock = TrioClock()
        store, logger, one, two, three = (
            SlowReads(clock),
            SimLogger(Ledger()),
            *(Key("sim", x) for x in "abc"),
        )
        async with open_leases(
            store,
            clock=clock,
            rng=Random(0),
            logger=logger,
            audit=logger,
            sweeping=Sweeping(0, 0),
            limits=Limits(LimitSettings(), now_us=clock.boot_us, refused=lambda _: None),
            encode=watch_line,
        ) as leases:
            await leases.open_session(OpenSession("s", "h", "", MICROSECONDS))
            await leases.acquire(one, Acquire("h", session="s"))
            await trio.sleep(0.1)
            await leases.acquire(two, Acquire("h", MICROSECONDS))
            store.seconds = {("s",): 3.0, (two,): 1.0}
            await trio.sleep(2.5)
            await leases.acquire(three, Acquire("h", MICROSECONDS))
            await trio.sleep(5)
            assert isinstance(await leases.acquire(three, Acquire("h", MICROSECONDS)), Acquired)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_service_nursery_that_is_entered_when_cancelled_already_is_left_again():
    async def main(_: Gate) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with open_service_nursery():
                await trio.sleep_forever()

    engine.run("door", main)


class BrokenScan(MemoryStore):
    """Has a defect that shows while requests are under way."""

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        await trio.sleep(3)
        return await super().read(keys, sessions)

    async def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        await trio.sleep(1)
        raise ZeroDivisionError("a defect")
        yield


def test_a_defect_in_a_task_of_the_service_ends_it_though_somebody_waits_in_line():
    async def main(_: Gate) -> None:
        clock, logger = TrioClock(), SimLogger(Ledger())
        async with open_leases(
            BrokenScan(clock),
            clock=clock,
            rng=Random(0),
            logger=logger,
            audit=logger,
            sweeping=Sweeping(0, 0),
            limits=Limits(LimitSettings(), now_us=clock.boot_us, refused=lambda _: None),
            encode=watch_line,
        ) as leases:
            await leases.acquire_waiting(CONTENDED, Acquire("h", MICROSECONDS), 30)

    with pytest.RaisesGroup(ZeroDivisionError, allow_unwrapped=True, flatten_subgroups=True):
        engine.run("defect", main)
