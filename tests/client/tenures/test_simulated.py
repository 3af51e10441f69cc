"""Simulated: operators on sites that crash, freeze and are cut off, with clocks that are off; never do two of
them act under one lease, everybody gets a turn in the end, and nothing is left behind.
"""

from functools import partial

import pytest
import trio

from tests.client.tenures.operating import Site, operate, terms_of
from tests.sim.actors import administer
from tests.sim.plan import BATCHED, MANY, Plan, plan_of
from tests.sim.seeds import report
from tests.sim.world import (
    ADMIN,
    ONLOOKER,
    World,
    all_leave,
    everybody_gets_a_turn,
    nemesis_of,
    nothing_is_left,
    simulate,
)

SEEDS = 16
KEYS = (*MANY, *BATCHED)


def plan(seed: int) -> Plan:
    made = plan_of(seed)
    made.store, made.servers = "durable", 1 + seed % 2
    made.storm_seconds = 60.0
    made.ttl_seconds = made.session_ttl_seconds + 2
    return made


async def operators(world: World) -> None:
    """Three sites that want the same leases, by two ttls, and somebody who ends a session now and then. With
    one server the ttls are changed, and two of the sites leave what they have lost."""
    populate(world)
    nemesis = nemesis_of(world, world.nodes)
    with trio.move_on_after(world.plan.storm_seconds):
        await nemesis.rage()
    world.ledger.note("healed")
    await everybody_gets_a_turn(world, KEYS)
    await all_leave(world)
    await nothing_is_left(world)


def populate(world: World) -> None:
    for number in range(world.plan.servers):
        world.add_server(f"s{number + 1}")
    short = terms_of(world.plan.session_ttl_seconds, world.plan.lock_delay_seconds)
    long = terms_of(world.plan.ttl_seconds)
    for name in ("n1", "n2", "n3"):
        site = Site({**dict.fromkeys(MANY, short), **dict.fromkeys(BATCHED, long)})
        # Where there are two, each tells only of what it has written itself, and some news are missed.
        if world.plan.servers == 1:
            site.other_ttls = (short.ttl_seconds, long.ttl_seconds)
            site.may_leave = name != "n1"
        world.add_node(name, partial(operate, site=site))
    world.add_node(ADMIN, partial(administer, keys=list(KEYS), by_force=list(MANY)))
    world.add_node(ONLOOKER, world.onlooker.look_on)
    for node in world.nodes:
        node.start()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_two_never_act_under_one_lease(seed: int) -> None:
    verdict = simulate(plan(seed), operators)
    if verdict.ledger.violations:
        pytest.fail(report(verdict, whole_log=False), pytrace=False)
