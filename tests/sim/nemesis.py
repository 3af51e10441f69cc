"""Nemesis: what goes wrong in a run, when, and for how long.

Owns the injection of faults and their healing. Every fault ends, at the latest when `rage` is cancelled.
Faults overlap: the next one does not wait for the end of the one before.
"""

from collections.abc import Awaitable, Callable
from random import Random

import trio

from tests.sim.hosts import Host
from tests.sim.ledger import Ledger
from tests.sim.network import Network, Weather
from tests.sim.nodes import Node
from tests.sim.plan import Plan
from tests.sim.servers import SimServer
from tests.sim.stores import Trouble

STEPS_SECONDS = (-3600, -5, -0.3, 0.3, 5, 3600)


class Nemesis:
    """`rage` does harm until it is cancelled, and leaves nothing broken."""

    def __init__(
        self,
        plan: Plan,
        *,
        rng: Random,
        ledger: Ledger,
        network: Network,
        servers: list[SimServer],
        nodes: list[Node],
        trouble: Trouble,
        store: Host,
    ) -> None:
        self._plan = plan
        self._rng = rng
        self._ledger = ledger
        self._network = network
        self._servers = servers
        self._nodes = nodes
        self._trouble = trouble
        self._store = store
        self._busy: set[str] = set()
        self._harms: dict[str, Callable[[float], Awaitable[None]]] = {
            "partition": self.partition,
            "one-way partition": self.one_way_partition,
            "storm": self.storm,
            "slow network": self.slow_network,
            "late duplicates": self.late_duplicates,
            "node pause": self.node_pause,
            "node suspend": self.node_suspend,
            "node crash": self.node_crash,
            "node wall step": self.node_wall_step,
            "server pause": self.server_pause,
            "server suspend": self.server_suspend,
            "server crash": self.server_crash,
            "server restart": self.server_restart,
            "server wall step": self.server_wall_step,
            "store slow": self.store_slow,
            "store faults": self.store_faults,
        }

    async def rage(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._rng.uniform(*self._plan.calm_seconds))
                harm = self._harms[self._rng.choice(self._plan.faults)]
                seconds = self._rng.choice((0.5, 1, 2, 4, 8)) * self._rng.uniform(0.5, 1.5)
                nursery.start_soon(harm, seconds)

    def _tell(self, fault: str, *what: object) -> None:
        self._ledger.faults[fault] += 1
        self._ledger.note("fault:", fault, *what)

    async def partition(self, seconds: float) -> None:
        await self._cut("partition", seconds, both=True)

    async def one_way_partition(self, seconds: float) -> None:
        await self._cut("one-way partition", seconds, both=False)

    async def _cut(self, fault: str, seconds: float, *, both: bool) -> None:
        """Some nodes from one server, or from all."""
        nodes = self._rng.sample(self._nodes, self._rng.choice((1, 1, 2, len(self._nodes))))
        servers = self._rng.choice((self._servers, [self._rng.choice(self._servers)]))
        cut = [(node.host.name, server.host.name) for node in nodes for server in servers]
        back = [(server, node) for node, server in cut]
        if both:
            cut += back
        elif self._rng.random() < 0.5:
            cut = back
        self._tell(fault, *(f"{source}>{target}" for source, target in cut), f"{seconds:.2f} s")
        self._network.cut.update(cut)
        try:
            await trio.sleep(seconds)
        finally:
            self._network.cut.difference_update(cut)

    async def storm(self, seconds: float) -> None:
        loss = self._rng.uniform(0.1, 0.5)
        await self._weather("storm", seconds, Weather(0.1, loss, slow=0.1, twice=0.1, reset=0.1))

    async def slow_network(self, seconds: float) -> None:
        await self._weather("slow network", seconds, Weather(0.5, slow=0.3, twice=0.05))

    async def _weather(self, fault: str, seconds: float, weather: Weather) -> None:
        self._tell(fault, weather)
        self._network.weather = weather
        try:
            await trio.sleep(seconds)
        finally:
            self._network.weather = Weather()

    async def late_duplicates(self, seconds: float) -> None:
        self._tell("late duplicates")
        for _ in range(4):
            self._network.replay()
            await trio.sleep(seconds / 4)

    async def node_pause(self, seconds: float) -> None:
        await self._stand_still(self._rng.choice(self._nodes).host, "node pause", seconds, Host.pause)

    async def node_suspend(self, seconds: float) -> None:
        await self._stand_still(self._rng.choice(self._nodes).host, "node suspend", seconds, Host.suspend)

    async def server_pause(self, seconds: float) -> None:
        await self._stand_still(self._rng.choice(self._servers).host, "server pause", seconds, Host.pause)

    async def server_suspend(self, seconds: float) -> None:
        host = self._rng.choice(self._servers).host
        await self._stand_still(host, "server suspend", seconds, Host.suspend)

    async def _stand_still(
        self, host: Host, fault: str, seconds: float, stop: Callable[[Host], None]
    ) -> None:
        if host.name in self._busy:
            return
        self._busy.add(host.name)
        self._tell(fault, host.name, f"{seconds:.2f} s")
        self._ledger.stood_still(host.process)
        stop(host)
        try:
            await trio.sleep(seconds)
        finally:
            self._ledger.went_on(host.process)
            host.resume()
            self._ledger.note(host.name, "goes on")
            self._busy.discard(host.name)

    async def node_crash(self, seconds: float) -> None:
        node = self._rng.choice(self._nodes)
        if node.host.name in self._busy:
            return
        self._busy.add(node.host.name)
        self._tell("node crash", node.host.name)
        self._ledger.died(node.host.process)
        node.crash()
        try:
            await trio.sleep(seconds)
        finally:
            node.start()
            self._busy.discard(node.host.name)

    async def server_crash(self, seconds: float) -> None:
        server = self._rng.choice(self._servers)
        if server.host.name in self._busy or not server.listening:
            return
        self._busy.add(server.host.name)
        self._tell("server crash", server.host.name)
        server.crash()
        try:
            await trio.sleep(seconds / 2)
        finally:
            server.start()
            self._busy.discard(server.host.name)

    async def server_restart(self, seconds: float) -> None:
        server = self._rng.choice(self._servers)
        if server.host.name in self._busy or not server.listening:
            return
        self._busy.add(server.host.name)
        self._tell("server restart", server.host.name)
        try:
            with trio.CancelScope(shield=True):
                await server.stop()
            await trio.sleep(seconds / 4)
        finally:
            server.start()
            self._busy.discard(server.host.name)

    async def node_wall_step(self, _: float) -> None:
        self._step(self._rng.choice(self._nodes).host, "node wall step")

    async def server_wall_step(self, _: float) -> None:
        hosts = [self._store, *(server.host for server in self._servers)]
        self._step(self._rng.choice(hosts), "server wall step")

    def _step(self, host: Host, fault: str) -> None:
        seconds = self._rng.choice(STEPS_SECONDS)
        self._tell(fault, host.name, f"{seconds} s")
        host.clock.step_wall(seconds)

    async def store_slow(self, seconds: float) -> None:
        self._tell("store slow")
        self._trouble.latency_seconds = self._rng.choice((0.1, 0.5, 2.0))
        try:
            await trio.sleep(seconds)
        finally:
            self._trouble.latency_seconds = 0.0

    async def store_faults(self, seconds: float) -> None:
        self._tell("store faults")
        self._trouble.fault_rate = self._rng.uniform(0.1, 0.6)
        try:
            await trio.sleep(seconds)
        finally:
            self._trouble.fault_rate = 0.0
