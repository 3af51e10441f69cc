"""Operators: whole operators on whole clusters, whose pods are what must never be in two of them at once.

Owns the clusters, which outlive the processes that work in them, and what goes wrong on either side of an
operator. What is promised holds while one side fails at a time: who can neither renew nor stop is beyond any
lease. So troubles come in turns, of the ways to the leases, of the ways to the clusters, and of the processes
themselves, and each is over before the next begins; the clocks are off all the time.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from random import Random
from typing import Literal, Self

import trio

from berth.kube.api import KubeClient
from berth.kube.faults import NotFound
from berth.kube.informer import Changed
from berth.kube.objects import Object, Resource, uid_of
from berth.roles.operator.instruments import Instruments
from berth.roles.operator.options import OperatorOptions
from berth.roles.operator.working import Working
from berth.runtime.http import NotSent, OutcomeUnknown, Reply
from berth.runtime.metrics import Metrics
from tests.kube.conftest import BERTH_LEASES
from tests.kube.controllers.manager import run_controllers
from tests.kube.kubelet import Kubelet, terminal
from tests.kube.server.kinds import DEPLOYMENTS, NAMESPACES, custom
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Flow, Known, Network
from tests.roles.operator.objects import berth_lease, workload
from tests.sim.actors import Actor
from tests.sim.engine import Process
from tests.sim.ledger import Ledger
from tests.sim.logs import SimLogger
from tests.sim.nemesis import Nemesis
from tests.sim.plan import MANY
from tests.sim.world import CONVERGE_SECONDS, ONLOOKER, World, all_leave, nemesis_of, nothing_is_left

NAMESPACE = MANY[0].namespace
NAMES = tuple(key.name for key in MANY)
TTL_SECONDS, HEARTBEAT_SECONDS = 12, 3
"""The stop budget is 3 s then."""

END_SECONDS = 1.0
"""How long pods take to end."""

STILL_SECONDS = 1.0
"""How long a process may stand still: with the pods' end it fits into the budget."""

LATENCY_SECONDS = 0.02

Cut = Literal["", "refused", "lost", "unheard"]
"""What happens to a request: nothing, it cannot be sent, it never arrives, its answer never does."""


class Link:
    """An operator's way to its cluster. It lives outside all processes: what was sent gets there."""

    def __init__(self, inner: Network, outside: Process, nursery: trio.Nursery) -> None:
        self._inner = inner
        self._outside = outside
        self._nursery = nursery
        self._mended = trio.Event()
        self.cut: Cut = ""

    def mend(self) -> None:
        self.cut = ""
        self._mended.set()
        self._mended = trio.Event()

    async def mended(self) -> None:
        while self.cut:
            await self._mended.wait()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_seconds: float,
        max_body_bytes: int = 0,
    ) -> Reply:
        answers: list[Reply] = []
        answered = trio.Event()

        async def deliver() -> None:
            await trio.sleep(LATENCY_SECONDS)
            if self.cut == "lost":
                return
            with suppress(OutcomeUnknown):
                reply = await self._inner.request(
                    method, url, headers=headers, body=body, timeout_seconds=timeout_seconds
                )
                if not self.cut:
                    answers.append(reply)
                    answered.set()

        if self.cut == "refused":
            await trio.lowlevel.checkpoint()
            raise NotSent("no route")
        self._outside.spawn(self._nursery, deliver)
        with trio.move_on_after(timeout_seconds):
            await answered.wait()
            return answers[0]
        raise OutcomeUnknown("no answer in time")

    async def pieces(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float,
        idle_seconds: float,
    ) -> "LinkedFlow | Reply":
        if self.cut:
            await trio.sleep(0 if self.cut == "refused" else timeout_seconds)
            raise NotSent("no route") if self.cut == "refused" else OutcomeUnknown("no answer in time")
        await trio.sleep(LATENCY_SECONDS)
        flow = await self._inner.pieces(
            method, url, headers=headers, timeout_seconds=timeout_seconds, idle_seconds=idle_seconds
        )
        return flow if isinstance(flow, Reply) else LinkedFlow(flow, self, idle_seconds)


class LinkedFlow:
    """A watch over a link: while that is cut, nothing comes."""

    def __init__(self, flow: Flow, link: Link, idle_seconds: float) -> None:
        self._flow = flow
        self._link = link
        self._idle_seconds = idle_seconds

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._flow)
        with trio.move_on_after(self._idle_seconds):
            await self._link.mended()
            return piece
        raise OutcomeUnknown("silent")

    async def aclose(self) -> None:
        await self._flow.aclose()


class Pods:
    """Where pods of each lease are; that it is one cluster at most is the property."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._there: dict[tuple[str, str], set[str]] = {}
        self._last: dict[str, str] = {}

    def hear(self, site: str, change: Changed) -> None:
        obj = change.new or change.old
        assert obj is not None
        name, uid = str(obj["metadata"]["labels"]["app"]), uid_of(obj)
        pods = self._there.setdefault((name, site), set())
        if change.new is None or terminal(change.new):
            pods.discard(uid)
        elif uid not in pods:
            pods.add(uid)
            self._ledger.note("pod", name, site)
            if self._last.setdefault(name, site) != site:
                self._ledger.seen["a workload that moved"] += 1
            self._last[name] = site
        self.judge(name)

    def judge(self, name: str) -> None:
        if len(sites := self.sites(name)) > 1:
            self._ledger.fail(f"S1: {name} has pods in {' and '.join(sites)}")

    @property
    def missing(self) -> list[str]:
        there = {name for (name, _), pods in self._there.items() if pods}
        return [name for name in NAMES if name not in there]

    def sites(self, name: str) -> list[str]:
        return [site for (each, site), pods in self._there.items() if each == name and pods]

    @property
    def any(self) -> bool:
        return any(self._there.values())


class Site:
    """One cluster: its API server, its controllers and its kubelet, and the operator's way there."""

    def __init__(self, name: str, world: World, outside: Process, pods: Pods) -> None:
        self.name = name
        place = KubeServer(custom(BERTH_LEASES))
        self.client = KubeClient(Known(), Network(place, scripted=False))
        self.link = Link(Network(place), outside, world.nursery)
        logger = SimLogger(world.ledger)
        self._kubelet = Kubelet(self.client, logger=logger, end_seconds=END_SECONDS)
        self._kubelet.pods.listen(partial(pods.hear, name))
        outside.spawn(world.nursery, self._kubelet.run)
        outside.spawn(world.nursery, partial(run_controllers, self.client, logger=logger))

    async def deploy(self) -> None:
        """The workloads and their BerthLeases."""
        await self.client.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        for name in NAMES:
            await self._make(DEPLOYMENTS, workload(DEPLOYMENTS, name))
        await self.contend()

    async def contend(self) -> None:
        for name in NAMES:
            lease = berth_lease(name, replicas=1, ttl_seconds=TTL_SECONDS)
            lease["spec"]["heartbeatIntervalSeconds"] = HEARTBEAT_SECONDS
            await self._make(BERTH_LEASES, lease)

    async def withdraw(self) -> None:
        """Delete the BerthLeases; they go when all has ended under them."""
        for name in NAMES:
            with suppress(NotFound):
                await self.client.delete(BERTH_LEASES, name, NAMESPACE)

    async def is_clear(self) -> bool:
        return not (await self.client.list_all(BERTH_LEASES, NAMESPACE)).items

    async def _make(self, kind: Resource, obj: Object) -> None:
        named = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
        await self.client.create(kind, {**named, "metadata": {**obj["metadata"], "namespace": NAMESPACE}})


class Troubles:
    """What goes wrong, in turns. Every trouble has ended when `rage` returns."""

    def __init__(self, world: World, sites: list[Site], pods: Pods, nemesis: Nemesis) -> None:
        self._world = world
        self._sites = sites
        self._pods = pods
        self._nemesis = nemesis
        self._nodes = [node for node in world.nodes if node.host.name != ONLOOKER]
        self._rng = world.rng("troubles")

    async def rage(self) -> None:
        """Each side, and the processes, in an order that the seed says."""
        turns = [
            self._at_the_leases,
            self._cut_off,
            self._at_the_clusters,
            self._at_the_processes,
            self._handed_over,
        ]
        for turn in (*self._rng.sample(turns, len(turns)), self._rng.choice(turns)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stand_still_for_moments)
                await turn()
                nursery.cancel_scope.cancel()
            self._world.network.forget()
            await trio.sleep(2 * TTL_SECONDS)

    async def _at_the_leases(self) -> None:
        with trio.move_on_after(self._rng.uniform(1, 4) * TTL_SECONDS):
            await self._nemesis.rage()

    async def _cut_off(self) -> None:
        """Who runs something hears nothing of the leases, for longer than a ttl."""
        for name in NAMES:
            sites = self._pods.sites(name)
            cut = {
                pair
                for site in sites
                for server in self._servers
                for pair in ((site, server), (server, site))
            }
            self._tell("cut off", *sites)
            self._world.network.cut.update(cut)
            await trio.sleep(self._rng.uniform(1.1, 2) * TTL_SECONDS)
            self._world.network.cut.difference_update(cut)
            await trio.sleep(self._rng.uniform(0, 1) * TTL_SECONDS)

    async def _at_the_clusters(self) -> None:
        """Up to all of them, for longer than a ttl, too."""
        for site in self._rng.sample(self._sites, self._rng.choice((1, 1, 2, 3))):
            site.link.cut = self._rng.choice(("refused", "lost", "unheard"))
            self._tell(f"cluster {site.link.cut}", site.name)
            await trio.sleep(self._rng.uniform(0, 2))
        await trio.sleep(self._rng.uniform(0.2, 2.5) * TTL_SECONDS)
        for site in self._sites:
            site.link.mend()

    async def _at_the_processes(self) -> None:
        """Killed, and soon there again."""
        for _ in range(self._rng.choice((1, 2, 3))):
            nodes = self._rng.sample(self._nodes, self._rng.choice((1, len(self._nodes))))
            for node in nodes:
                self._tell("operator killed", node.host.name)
                node.crash()
            await trio.sleep(self._rng.uniform(0, TTL_SECONDS / 4))
            for node in nodes:
                node.start()
            await trio.sleep(self._rng.uniform(0, 1.5) * TTL_SECONDS)

    async def _handed_over(self) -> None:
        """Nothing fails: who runs something deletes the BerthLease, and makes it anew when it is gone."""
        for site in self._sites:
            if any(site.name in self._pods.sites(name) for name in NAMES):
                await site.withdraw()
                with trio.move_on_after(3 * TTL_SECONDS) as patience:
                    while not await site.is_clear():  # noqa: ASYNC110 - it asks the cluster
                        await trio.sleep(self._rng.uniform(0, 1))
                if patience.cancelled_caught:
                    self._world.ledger.fail(f"{site.name}: what was deleted does not go")
                    return
                await site.contend()
                await trio.sleep(self._rng.uniform(0, 1) * TTL_SECONDS)

    async def _stand_still_for_moments(self) -> None:
        """Whatever else goes wrong: it is over in time for a stop."""
        while True:
            await trio.sleep(self._rng.uniform(1, TTL_SECONDS))
            host = self._rng.choice(self._nodes).host
            if host.stopped:
                continue
            self._tell("operator stands still", host.name)
            host.pause()
            with trio.CancelScope(shield=True):
                await trio.sleep(self._rng.uniform(0, STILL_SECONDS))
            if not host.process.dead:
                host.resume()

    @property
    def _servers(self) -> list[str]:
        return [server.host.name for server in self._world.servers]

    def _tell(self, fault: str, *what: str) -> None:
        self._world.ledger.faults[fault] += 1
        self._world.ledger.note("fault:", fault, *what)


async def operators(world: World) -> None:
    """Three clusters, an operator in each, and the same leases in all of them."""
    for number in range(world.plan.servers):
        world.add_server(f"s{number + 1}")
    outside, pods = Process("clusters", world.gate), Pods(world.ledger)
    sites = [Site(name, world, outside, pods) for name in ("c1", "c2", "c3")]
    for site in sites:
        await site.deploy()
        world.add_node(site.name, partial(operate, site=site))
    world.add_node(ONLOOKER, world.onlooker.look_on)
    for node in world.nodes:
        node.start()
    nemesis = nemesis_of(world, [node for node in world.nodes if node.host.name != ONLOOKER])
    await trio.sleep(TTL_SECONDS)
    await Troubles(world, sites, pods, nemesis).rage()
    world.ledger.note("healed")
    await _all_run(world, pods)
    await _all_is_ended(world, sites, pods)
    await nothing_is_left(world)


async def _all_run(world: World, pods: Pods) -> None:
    """L1: each workload runs, within what ttls explain."""
    with trio.move_on_after(TTL_SECONDS + CONVERGE_SECONDS):
        while pods.missing:  # noqa: ASYNC110 - it looks at several clusters
            await trio.sleep(0.25)
    for name in pods.missing:
        world.ledger.fail(f"L1: {name} runs nowhere, so long after all was healed")


async def _all_is_ended(world: World, sites: list[Site], pods: Pods) -> None:
    """Who deletes the BerthLeases has no pods left, and no BerthLeases."""
    for site in sites:
        await site.withdraw()
    with trio.move_on_after(3 * TTL_SECONDS):
        for site in sites:
            while pods.any or not await site.is_clear():  # noqa: ASYNC110 - it asks several clusters
                await trio.sleep(0.25)
    if pods.any:
        world.ledger.fail("pods run on although nobody wants them to")
    for site in sites:
        if not await site.is_clear():
            world.ledger.fail(f"{site.name} still has BerthLeases")
    await all_leave(world)


async def operate(actor: Actor, site: Site) -> None:
    """`berth operator`, without its process: until it is cancelled."""
    logger = SimLogger(actor.ledger)
    metrics = Metrics(version="", commit="", python="")
    working = Working(
        OperatorOptions(berth_api_server="https://s1", cluster_id=actor.name),
        kube=KubeClient(Known(), site.link),
        leases=actor.client,
        instance=f"uid-{actor.name}",
        instruments=Instruments(metrics, actor.host.clock),
        clock=actor.host.clock,
        rng=Random(actor.rng.getrandbits(32)),
        logger=logger,
    )
    await working.run()
