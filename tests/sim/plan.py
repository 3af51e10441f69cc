"""Plan: what a seed stands for: the store, the servers, the actors, and what is going to happen to them.

Owns every choice that is made before a run, so that a directed scenario can make other ones.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Literal

from berth.core.names import Key

StoreKind = Literal["memory", "durable"]

CONTENDED = Key("sim", "contended")
PLAIN = Key("sim", "plain")
MANY = (Key("sim", "many-1"), Key("sim", "many-2"))
BATCHED = tuple(Key("sim", f"batched-{number}") for number in range(4))
SHARED = Key("sim", "shared")
PLACES = 2
WAIT_AT_MOST_SECONDS = 4
"""How long a plain acquire waits at a server."""


@dataclass
class Plan:
    """One run. Times are in seconds of simulated time."""

    seed: int
    store: StoreKind = "durable"
    servers: int = 1
    storm_seconds: float = 30.0
    ttl_seconds: int = 4
    session_ttl_seconds: int = 4
    plain_ttls_seconds: tuple[int, ...] = (2, 6)
    lock_delay_seconds: int | None = None
    quarantine: bool = True
    forgets: bool = False
    """Whether a memory store is judged as if it remembered across restarts."""
    sweep_seconds: float = 0.0
    rate_error_ppm: int = 1000
    faults: tuple[str, ...] = field(default_factory=lambda: ALL_FAULTS)
    calm_seconds: tuple[float, float] = (0.3, 4.0)
    """How long nothing new goes wrong, from and to."""

    @property
    def longest_ttl_seconds(self) -> int:
        return max(self.ttl_seconds, self.session_ttl_seconds, *self.plain_ttls_seconds)


ALL_FAULTS = (
    "partition",
    "one-way partition",
    "storm",
    "slow network",
    "late duplicates",
    "node pause",
    "node suspend",
    "node crash",
    "node wall step",
    "server pause",
    "server suspend",
    "server crash",
    "server restart",
    "server wall step",
    "store slow",
    "store faults",
)


def plan_of(seed: int) -> Plan:
    """The plan of a seed: every third on memory, every third with two servers."""
    rng = Random(f"plan {seed}")
    kind: StoreKind = "memory" if seed % 3 == 0 else "durable"
    return Plan(
        seed,
        store=kind,
        servers=2 if seed % 3 == 1 else 1,
        ttl_seconds=rng.choice((2, 3, 4, 6)),
        session_ttl_seconds=rng.choice((2, 3, 5)),
        plain_ttls_seconds=rng.choice(((2, 6), (1, 4), (3, 5))),
        lock_delay_seconds=rng.choice((None, None, 1, 3)),
        sweep_seconds=rng.choice((0.0, 1.0, 3.0)),
    )
