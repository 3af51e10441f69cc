"""Place: a lease service and the sites that want leases of it, in simulated time.

The service is the real one behind the real client; only the network, the clocks and the machines are made up.
A scene is played to its end, and then nothing may have been wrong with what the service wrote.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Self

import trio

from berth.client import BerthClient
from berth.client.tenures import LeaseId, Standing, Tenures, Terms
from berth.roles.apiserver.auth import Identity
from berth.runtime.http import Lines, Reply
from berth.store.memory import MemoryStore
from berth.wire.shapes import Role
from tests.sim import engine
from tests.sim.audit import Audit
from tests.sim.channel import SimChannel
from tests.sim.engine import Gate, Process
from tests.sim.hosts import Host
from tests.sim.ledger import Ledger
from tests.sim.logs import SimLogger
from tests.sim.network import Weather
from tests.sim.plan import Plan, StoreKind
from tests.sim.servers import SimServer
from tests.sim.stores import AuditedStore
from tests.sim.world import World

TTL = 12  # heartbeat 4, budget 3; the holder's lifetime is 11.976
TERMS = Terms(TTL, 4.0, "at-most-once", 0, 3_000_000)
SHARED = Terms(TTL, 4.0, "at-least-once", 0, 3_000_000)
NEAR = Weather(latency_seconds=0.001)


class Place(World):
    """One server, and what a scene makes of it."""

    def __init__(self, gate: Gate, nursery: trio.Nursery, ledger: Ledger, store: StoreKind) -> None:
        super().__init__(Plan(0, store=store, quarantine=False, rate_error_ppm=0), gate, nursery, ledger)
        self.network.weather = NEAR
        self.network.kept_for_later = 0
        self.news_take_seconds = 0.0
        """How long a watch is behind."""
        self.server: SimServer = self.add_server("s1")

    def _audited(self, host: Host, inner: MemoryStore) -> AuditedStore:
        self._audit = Audit(self.ledger, host.clock, defaultdict(lambda: 1000))
        return AuditedStore(
            inner,
            self._audit,
            trouble=self.trouble,
            rng=self.rng("store"),
            ledger=self.ledger,
            nursery=self.nursery,
            machine=self._outside,
        )

    def site(self, name: str, *, instance: str = "", role: Role | None = None) -> "Site":
        """A site with its machine; the first process starts with `start`."""
        if role:
            self.grant(name, role)
        return Site(self, self._host(name), instance or f"uid-{name}", f"key-{name}" if role else None)

    def grant(self, name: str, role: Role) -> None:
        """What the key of a site allows from now on."""
        self._identities[f"key-{name}"] = Identity(name, role)

    def by_hand(self) -> BerthClient:
        """Of somebody who may act as anybody."""
        return BerthClient(["https://s1"], rng=Random(4), channel=SimChannel(self.network, self._outside))

    def lose_replies(self, name: str) -> None:
        """What `name` asks for is heard and carried out, and not answered."""
        self.network.cut.add(("s1", name))

    def cut_off(self, name: str) -> None:
        """Nothing gets through; `name:watch` is a site's watch alone."""
        for each in (name, f"{name}:watch"):
            self.network.cut |= {(each, "s1"), ("s1", each)}

    def join(self, name: str) -> None:
        for each in (name, f"{name}:watch"):
            self.network.cut -= {(each, "s1"), ("s1", each)}

    def requests(self, since: float = 0.0, text: str = "") -> list[str]:
        """What the server has answered since then."""
        return [
            str(event[1])
            for at, event in self.ledger.events
            if at >= since and event[0] == "s1" and len(event) == 5 and text in str(event[1])
        ]


class Site:
    """One holder of leases on a machine of its own."""

    def __init__(self, place: Place, host: Host, instance: str, key: str | None) -> None:
        self.place = place
        self.host = host
        self.instance = instance
        self._key = key
        self.changes: list[tuple[float, LeaseId, Standing]] = []
        self.tenures: Tenures = self.start()

    @property
    def client(self) -> BerthClient:
        channel = SiteChannel(self.place, self.host.process)
        return BerthClient(["https://s1"], api_key=self._key, rng=Random(3), channel=channel)

    def start(self) -> Tenures:
        """A new process."""
        self.tenures = Tenures(
            self.client,
            instance=self.instance,
            clock=self.host.clock,
            rng=Random(self.host.name),
            logger=SimLogger(self.place.ledger),
            on_change=self._told,
        )
        self.host.process.spawn(self.place.nursery, self.tenures.run)
        return self.tenures

    def crash(self) -> None:
        self.host.crash()

    def lease(self, name: str) -> LeaseId:
        return LeaseId("team", name, self.host.name)

    def want(self, name: str = "db", terms: Terms = TERMS, recorded_token: int = 0) -> LeaseId:
        lease = self.lease(name)
        self.tenures.want(lease, terms, recorded_token)
        return lease

    def standing(self, name: str = "db") -> Standing:
        return self.tenures.standing(self.lease(name))

    def told(self, name: str = "db", since: float = 0.0) -> list[Standing]:
        return [standing for at, lease, standing in self.changes if lease.name == name and at >= since]

    def _told(self, lease: LeaseId) -> None:
        self.changes.append((trio.current_time(), lease, self.tenures.standing(lease)))


class SiteChannel(SimChannel):
    """A way into the network on which the watch can be cut off, or slow, by itself."""

    def __init__(self, place: Place, process: Process) -> None:
        super().__init__(place.network, process)
        self._place = place
        self._watching = SimChannel(place.network, Process(f"{process.name}:watch", place.gate))

    async def lines(self, method: str, url: str, **options: Any) -> Lines | Reply:
        lines = await self._watching.lines(method, url, **options)
        return SlowLines(self._place, lines) if isinstance(lines, Lines) else lines


class SlowLines(Lines):
    """Lines that take their time to arrive."""

    def __init__(self, place: Place, lines: Lines) -> None:
        self._place = place
        self._lines = lines

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await anext(self._lines)
        await trio.sleep(self._place.news_take_seconds)
        return line

    async def aclose(self) -> None:
        await self._lines.aclose()


Scene = Callable[[Place], Awaitable[None]]


def played(store: StoreKind = "durable") -> Callable[[Scene], Callable[[], None]]:
    """A test that plays the scene."""

    def make(scene: Scene) -> Callable[[], None]:
        def test() -> None:
            ledger = Ledger()

            async def main(gate: Gate) -> None:
                async with trio.open_nursery() as nursery:
                    place = Place(gate, nursery, ledger, store)
                    try:
                        await trio.sleep(0.01)
                        await scene(place)
                    finally:
                        place.unwind()
                        with trio.CancelScope(shield=True):
                            await trio.sleep(0.01)
                        nursery.cancel_scope.cancel()

            engine.run(scene.__name__, main)
            assert ledger.violations == []

        test.__doc__, test.__name__ = scene.__doc__, scene.__name__
        return test

    return make
