"""Scenes: directed scenarios, each the one in which a certain rule is all that stands between two holders.

Owns what happens in them, and nothing of the verdict: the ledger judges as in every run. In all of them time
for stopping is used up to its end, and somebody waits for the lease all the time.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from math import inf

import trio

from berth.client import hold, hold_session
from berth.core.holding import stop_budget_us
from berth.core.names import Key
from berth.runtime.clock import MICROSECONDS
from tests.sim.actors import Actor, Terms, call_plainly, left_us
from tests.sim.network import Weather
from tests.sim.nodes import Role
from tests.sim.plan import CONTENDED, MANY, PLAIN, Plan
from tests.sim.world import World

NEAR = Weather(latency_seconds=0.001)


async def hold_steadily(actor: Actor, *, ttl_seconds: int, work_seconds: float = inf) -> None:
    """Work under the contended lease until it is lost or the work is done; stopping takes all it may."""
    async with hold(
        actor.client,
        *CONTENDED,
        holder=f"{actor.name}/hold",
        instance=actor.instance(),
        ttl_seconds=ttl_seconds,
        clock=actor.host.clock,
        rng=actor.rng,
    ) as held:
        await actor.work(CONTENDED, held.holder, held.token, held, work_seconds, _budget_seconds(ttl_seconds))


async def hold_under_session(actor: Actor, *, ttl_seconds: int, key: Key = MANY[0]) -> None:
    async with hold_session(
        actor.client,
        holder=actor.name,
        ttl_seconds=ttl_seconds,
        instance=actor.instance(),
        clock=actor.host.clock,
        rng=actor.rng,
    ) as session:
        reply = await session.acquire(*key)
        while not reply.acquired:
            await trio.sleep(0.05)
            reply = await session.acquire(*key)
        who, token = f"{actor.name}@{session.id[:8]}", reply.fencing_token
        await actor.work(key, who, token, session, inf, _budget_seconds(ttl_seconds))


async def _renew_for_less(actor: Actor) -> None:
    """Act until the end of the first ttl, which no renewal can take back."""
    sent = actor.now()
    reply = await actor.client.acquire(*PLAIN, holder=actor.caller, ttl_seconds=9)
    span = actor.ledger.begin(PLAIN, actor.caller, reply.fencing_token, actor.process)
    token = reply.fencing_token
    await actor.client.renew(*PLAIN, holder=actor.caller, fencing_token=token, ttl_seconds=1)
    while (span_us := left_us([(sent, 9)], actor.now())) > 0:
        span.touch()
        await trio.sleep(min(0.3, span_us / MICROSECONDS))
    span.stop()
    await trio.sleep_forever()


def _budget_seconds(ttl_seconds: int) -> float:
    return stop_budget_us(ttl_seconds * MICROSECONDS) / MICROSECONDS


def near(world: World, *roles: Role) -> None:
    """One server and nodes a, b, … close by; a comes first."""
    world.network.weather = NEAR
    world.network.kept_for_later = 0
    if not world.servers:
        world.add_server("s1")
    for name, role in zip("abcd", roles, strict=False):
        world.add_node(name, role)


async def one_by_one(world: World) -> None:
    for node in world.nodes:
        node.start()
        await trio.sleep(0.5)


async def turns(world: World, count: int) -> None:
    """Wait until so many tenures have begun."""
    while world.ledger.tenures.total() < count:  # noqa: ASYNC110 - the ledger has no events of its own
        await trio.sleep(0.05)


def _cut_off(world: World, name: str) -> None:
    for server in world.servers:
        world.network.cut |= {(name, server.host.name), (server.host.name, name)}


async def cut_off_after_a_slow_reply(world: World) -> None:
    """The replies to a take long; then a is cut off, and b takes over."""
    holding = partial(hold_steadily, ttl_seconds=6)
    near(world, holding, holding)
    world.network.delays["s1", "a"] = 1.5
    await one_by_one(world)
    await trio.sleep(9)
    _cut_off(world, "a")
    await trio.sleep(12)


async def cut_off_with_slow_clocks(world: World) -> None:
    """As slow as clocks may be on a, as fast as they may be where expiry is judged, and a long ttl."""
    holding = partial(hold_steadily, ttl_seconds=120)
    near(world, holding, holding)
    world.store_host.clock.set_rates(1.001, 1.001)
    world.hosts[1].clock.set_rates(0.999, 0.999)
    await one_by_one(world)
    await trio.sleep(0.5)
    _cut_off(world, "a")
    await trio.sleep(130)


async def hold_for_a_while(world: World) -> None:
    holding = partial(hold_steadily, ttl_seconds=3)
    near(world, holding, holding)
    await one_by_one(world)
    await trio.sleep(6)
    world.nodes[0].leave()
    await turns(world, 2)


async def turn_by_turn(world: World) -> None:
    """Both work for a second each, and the lease is free in between."""
    holding = partial(hold_steadily, ttl_seconds=3, work_seconds=1)
    near(world, holding, holding)
    await one_by_one(world)
    await trio.sleep(8)


async def called_off(world: World) -> None:
    """The caller of a's hold calls it off; a takes its time to stop."""
    holding = partial(hold_steadily, ttl_seconds=8)
    near(world, holding, holding)
    await one_by_one(world)
    world.nodes[0].leave()
    await trio.sleep(4)


async def restarted_server(world: World) -> None:
    """The server is killed and comes again; b is the first to ask."""
    holding = partial(hold_steadily, ttl_seconds=4)
    near(world, holding, holding)
    world.nodes[0].start()
    await turns(world, 1)
    world.servers[0].crash()
    world.servers[0].start()
    world.nodes[1].start()
    await turns(world, 2)


async def late_release(world: World) -> None:
    """A release of a's first tenure arrives once more while a has its second."""
    await _late(world, "/release")


async def late_renewal(world: World) -> None:
    """The same with a renewal."""
    await _late(world, "/renew")


async def _late(world: World, call: str) -> None:
    terms = Terms(PLAIN, work_seconds=3)
    caller = partial(call_plainly, terms=terms, ttls_seconds=(6,))
    near(world, caller, caller)
    world.nodes[0].start()
    await turns(world, 2)
    world.nodes[1].start()
    for _ in range(20):
        world.network.replay(f'{call} {{"holder":"a/0","fencingToken":1')
        await trio.sleep(0.05)


async def stepped_wall_clock(world: World) -> None:
    """The wall clock where expiry is judged is set forward."""
    holding = partial(hold_steadily, ttl_seconds=4)
    near(world, holding, holding)
    await one_by_one(world)
    world.store_host.clock.step_wall(3600)
    await trio.sleep(4)
    world.nodes[0].leave()
    await turns(world, 2)


async def cut_off_session(world: World) -> None:
    """The holder of a session is cut off; b takes what hangs on it."""
    holding = partial(hold_under_session, ttl_seconds=4)
    near(world, holding, holding)
    await one_by_one(world)
    await trio.sleep(3)
    _cut_off(world, "a")
    await trio.sleep(8)


async def shorter_renewal(world: World) -> None:
    """a renews for less than what it has left, and is then cut off."""
    waiting = partial(call_plainly, terms=Terms(PLAIN), ttls_seconds=(2,))
    near(world, _renew_for_less, waiting, waiting, waiting)
    await one_by_one(world)
    _cut_off(world, "a")
    await turns(world, 2)


async def suspended_machine(world: World) -> None:
    """The machine of a sleeps longer than the ttl, and a goes on in the middle of its work, cut off."""
    holding = partial(hold_steadily, ttl_seconds=4)
    near(world, holding, holding)
    await one_by_one(world)
    host = world.nodes[0].host
    world.ledger.stood_still(host.process)
    host.suspend()
    await trio.sleep(6)
    _cut_off(world, "a")
    world.ledger.went_on(host.process)
    host.resume()
    await trio.sleep(4)


async def silent_server(world: World) -> None:
    """Nothing that the server says reaches a, though what a asks is heard at first."""
    holding = partial(hold_steadily, ttl_seconds=4)
    near(world, holding, holding)
    await one_by_one(world)
    _cut_off(world, "a")
    await trio.sleep(10)


async def forgetful_server(world: World) -> None:
    """The server is killed and comes again, with nobody who holds anything."""
    holding = partial(hold_steadily, ttl_seconds=3, work_seconds=1)
    near(world, holding, holding)
    await one_by_one(world)
    await turns(world, 2)
    world.servers[0].crash()
    world.servers[0].start()
    await turns(world, 3)


Scene = Callable[[World], Awaitable[None]]


def near_plan(seed: int = 0, **choices: object) -> Plan:
    """The plan of a scene: a durable store, one server, clocks that are right."""
    return Plan(seed, rate_error_ppm=0, **choices)  # type: ignore[arg-type]  # the fields of a plan
