"""World: one run of a plan from start to verdict.

Owns the order of things: build, let it storm, heal, see that everybody gets a turn within bounds (L1), let
all leave, and see that nothing is left behind.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

import trio

from berth.client import BerthClient, BerthError
from berth.client.watching import SILENCE_SECONDS
from berth.core.names import Key
from berth.roles.apiserver.auth import Identity
from berth.store.memory import MemoryStore
from berth.wire.shapes import LeaseObject
from tests.sim import engine
from tests.sim.actors import Terms, administer, call_plainly, collected, hold_lease, hold_many
from tests.sim.audit import Audit
from tests.sim.channel import SimChannel
from tests.sim.engine import Deadlock, Gate, Process
from tests.sim.hosts import Host, HostClock
from tests.sim.ledger import Ledger
from tests.sim.more_actors import Onlooker, call_in_batches
from tests.sim.nemesis import Nemesis
from tests.sim.network import Network
from tests.sim.nodes import Node, Role
from tests.sim.plan import BATCHED, CONTENDED, MANY, PLACES, PLAIN, SHARED, WAIT_AT_MOST_SECONDS, Plan
from tests.sim.servers import SimServer
from tests.sim.stores import AuditedStore, Trouble

CONVERGE_SECONDS = 25.0
"""For tries, pauses and turns, beyond what ttls, lock delays and quarantines explain."""

ADMIN, ONLOOKER = "ops", "eyes"
KEYS = (CONTENDED, PLAIN, *MANY, *BATCHED, SHARED)


@dataclass
class Verdict:
    """What is known after a run."""

    seed: int
    ledger: Ledger
    simulated_seconds: float


class World:
    """Everything in one run; `stage` builds more into it, or something else."""

    def __init__(self, plan: Plan, gate: Gate, nursery: trio.Nursery, ledger: Ledger) -> None:
        self.plan = plan
        self.gate = gate
        self.nursery = nursery
        self.ledger = ledger
        self.network = Network(self.rng("network"), self.ledger, nursery)
        self.trouble = Trouble()
        self.store_host = self.host("store")
        self.hosts: list[Host] = []
        self.servers: list[SimServer] = []
        self.nodes: list[Node] = []
        self.onlooker = Onlooker()
        self._outside = Process("outside", gate)
        self._durable: AuditedStore | None = None
        self._audit: Audit | None = None
        self._identities = {f"key-{ADMIN}": Identity(ADMIN, "admin")}

    def rng(self, what: str) -> Random:
        return Random(f"{what} {self.plan.seed}")

    def host(self, name: str) -> Host:
        return Host(name, HostClock(self.rng(f"clock {name}"), self.plan.rate_error_ppm), self.gate)

    def add_server(self, name: str) -> SimServer:
        server = SimServer(
            self._host(name),
            self.open_store,
            ledger=self.ledger,
            rng=self.rng(f"server {name}"),
            identities=self._identities,
            sweep_seconds=self.plan.sweep_seconds,
            nursery=self.nursery,
        )
        self.servers.append(server)
        self.network.endpoints[name] = server
        server.start()
        return server

    def add_node(self, name: str, *roles: Role) -> Node:
        self._identities.setdefault(f"key-{name}", Identity(name, "holder"))
        node = Node(
            self._host(name),
            list(roles),
            network=self.network,
            ledger=self.ledger,
            rng=self.rng(f"node {name}"),
            urls=[f"https://{server.host.name}" for server in self.servers],
            steady=self.plan.store == "durable",
            nursery=self.nursery,
        )
        self.nodes.append(node)
        return node

    def _host(self, name: str) -> Host:
        host = self.host(name)
        self.hosts.append(host)
        return host

    def open_store(self, host: Host) -> AuditedStore:
        """What a server that starts stands on: the one durable store, or memory of its own."""
        if self.plan.store == "memory":
            seconds = self.plan.longest_ttl_seconds if self.plan.quarantine else 0
            return self._audited(host, MemoryStore(host.clock, quarantine_seconds=seconds))
        if self._durable is None:
            self._durable = self._audited(self.store_host, MemoryStore(self.store_host.clock))
        return self._durable

    def _audited(self, host: Host, inner: MemoryStore) -> AuditedStore:
        places = {key: PLACES if key == SHARED else 1 for key in KEYS}
        if self._audit is None or not self.plan.forgets:
            self._audit = Audit(self.ledger, host.clock, places)
        return AuditedStore(
            inner,
            self._audit,
            trouble=self.trouble,
            rng=self.rng("store"),
            ledger=self.ledger,
            nursery=self.nursery,
            machine=self._outside,
        )

    def client(self) -> BerthClient:
        """One of an onlooker to whom nothing happens."""
        urls = [f"https://{server.host.name}" for server in self.servers]
        channel = SimChannel(self.network, self._outside)
        return BerthClient(urls, api_key=f"key-{ADMIN}", rng=self.rng("onlooker"), channel=channel)

    def unwind(self) -> None:
        self.ledger.closed = True
        for host in self.hosts:
            host.unwind()


def populate(world: World) -> None:
    """The usual servers and nodes."""
    plan = world.plan
    for number in range(plan.servers):
        world.add_server(f"s{number + 1}")
    contended = Terms(CONTENDED, plan.ttl_seconds, plan.lock_delay_seconds)
    plain = Terms(PLAIN, min(plan.plain_ttls_seconds), work_seconds=4)
    shared = Terms(SHARED, plan.ttl_seconds, places=PLACES)
    many = [Terms(key, lock_delay_seconds=plan.lock_delay_seconds) for key in MANY]
    callers = partial(call_plainly, terms=plain, ttls_seconds=plan.plain_ttls_seconds)
    world.add_node("n1", partial(hold_lease, terms=contended), partial(hold_lease, terms=shared))
    world.add_node("n2", partial(hold_lease, terms=contended), callers)
    world.add_node("n3", partial(hold_lease, terms=contended), partial(hold_lease, terms=shared))
    world.add_node("n4", callers, partial(hold_lease, terms=shared))
    world.add_node("n5", partial(hold_many, terms=many, ttl_seconds=plan.session_ttl_seconds))
    batches = partial(call_in_batches, keys=BATCHED, ttl_seconds=plan.ttl_seconds, work_seconds=6)
    world.add_node("n6", partial(hold_many, terms=many, ttl_seconds=plan.session_ttl_seconds), batches)
    world.add_node("n7", callers, batches)
    world.add_node(ONLOOKER, world.onlooker.look_on)
    world.add_node(ADMIN, partial(administer, keys=list(KEYS), by_force=[CONTENDED, PLAIN]))
    for node in world.nodes:
        node.start()


Script = Callable[[World], Awaitable[None]]


def nemesis_of(world: World, nodes: list[Node]) -> Nemesis:
    """What goes wrong in this world: with these nodes, all servers and the store."""
    return Nemesis(
        world.plan,
        rng=world.rng("nemesis"),
        ledger=world.ledger,
        network=world.network,
        servers=world.servers,
        nodes=nodes,
        trouble=world.trouble,
        store=world.store_host,
    )


async def storm_and_calm(world: World) -> None:
    """The usual script."""
    populate(world)
    nemesis = nemesis_of(world, world.nodes)
    with trio.move_on_after(world.plan.storm_seconds):
        await nemesis.rage()
    world.ledger.note("healed")
    await everybody_gets_a_turn(world, KEYS)
    await all_leave(world)
    await nothing_is_left(world)


async def everybody_gets_a_turn(world: World, keys: tuple[Key, ...]) -> None:
    """L1: some candidate for each lease becomes active within what ttls and delays explain."""
    plan, ledger, since = world.plan, world.ledger, trio.current_time()
    quarantine_seconds = plan.longest_ttl_seconds if plan.store == "memory" else 0
    bound_seconds = (
        plan.longest_ttl_seconds + (plan.lock_delay_seconds or 0) + quarantine_seconds + CONVERGE_SECONDS
    )
    waiting = list(keys)
    while waiting and trio.current_time() < since + bound_seconds:
        await trio.sleep(0.25)
        waiting = [
            key for key in waiting if ledger.active_at.get(key, -1.0) < since and not ledger.is_active(key)
        ]
    for key in waiting:
        ledger.fail(f"L1: nobody became active under {key} within {bound_seconds:g} s after all was healed")


async def all_leave(world: World) -> None:
    world.network.forget()
    leaving = [node for node in world.nodes if node.host.name != ONLOOKER]
    for node in leaving:
        node.leave()
    with trio.move_on_after(30):
        for node in leaving:
            await node.done.wait()
    for node in leaving:
        if not node.done.is_set():
            world.ledger.fail(f"{node.host.name} did not end its work")
    if world.ledger.spans:
        world.ledger.fail(f"still active: {', '.join(map(str, world.ledger.spans))}")


async def nothing_is_left(world: World) -> None:
    """When all have left and a ttl is over, every lease is free, and who follows the leases knows it."""
    await trio.sleep(world.plan.longest_ttl_seconds * 1.01 + WAIT_AT_MOST_SECONDS + 1)
    try:
        leases = await collected(world.client().list_leases())
    except BerthError as fault:
        world.ledger.fail(f"the leases cannot be listed: {fault}")
        return
    for lease in leases:
        if lease.state == "held":
            world.ledger.fail(f"left: {lease.namespace}/{lease.name} is still held by {lease.holder}")
    # Each server tells of what it has written itself.
    if world.plan.servers == 1:
        await _seen_by_the_onlooker(world, leases)


async def _seen_by_the_onlooker(world: World, leases: list[LeaseObject]) -> None:
    """A broken connection may be silent for a while before somebody notices."""
    true = {Key(lease.namespace, lease.name): (lease.state, lease.fencing_token) for lease in leases}
    known: dict[Key, tuple[str, int]] = {}
    for _ in range(round(2 * SILENCE_SECONDS)):
        known = {key: (lease.state, lease.fencing_token) for key, lease in world.onlooker.leases.items()}
        if known == true:
            return
        await trio.sleep(1)
    wrong = [f"{key}: {known.get(key)} for {true[key]}" for key in true if known.get(key) != true[key]]
    world.ledger.fail(f"watch: who follows the leases believes {', '.join(wrong)}")


def simulate(plan: Plan, script: Script = storm_and_calm) -> Verdict:
    """Run the plan until its script ends or something is wrong."""

    ledger = Ledger()

    async def main(gate: Gate) -> Verdict:
        async with trio.open_nursery() as nursery:
            world = World(plan, gate, nursery, ledger)
            try:
                async with trio.open_nursery() as running:
                    running.start_soon(_until_failed, world.ledger, running.cancel_scope)
                    await script(world)
                    running.cancel_scope.cancel()
            finally:
                verdict = Verdict(plan.seed, ledger, trio.current_time())
                world.unwind()
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.01)  # what has just been started gets in through its doors
                nursery.cancel_scope.cancel()
        return verdict

    try:
        return engine.run(str(plan.seed), main)
    except Deadlock as deadlock:
        ledger.violations.append(f"deadlock: {deadlock}")
        return Verdict(plan.seed, ledger, ledger.events[-1][0])


async def _until_failed(ledger: Ledger, scope: trio.CancelScope) -> None:
    await ledger.failed.wait()
    scope.cancel()
