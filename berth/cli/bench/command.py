"""`berth bench`: its options and its place on the command line."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import click

from berth.cli.client_options import ClientOptions, DataOptions
from berth.cli.options import OptionsCommand
from berth.config import Duration, Opt

Scenario = Literal["steady", "coldstart", "failover", "churn"]
Mode = Literal["single", "batch", "session"]

LEASES_MAX = 100_000
CONCURRENCY_MAX = 1_000


@dataclass(frozen=True, kw_only=True)
class BenchOptions(ClientOptions, DataOptions):
    mode: Annotated[
        Mode,
        Opt(
            "How leases are kept and asked for: each by itself, in batches, or under sessions with a watch",
            flag_only=True,
        ),
    ] = "single"
    leases: Annotated[
        int, Opt("How many leases; each has a holder and a standby", metavar="N", flag_only=True)
    ] = 2000
    ttl: Annotated[Duration, Opt("Ttl of the leases, in whole seconds", flag_only=True)] = 30.0
    heartbeat: Annotated[
        Duration, Opt("How often a holder renews, and a standby asks that does not watch", flag_only=True)
    ] = 10.0
    duration: Annotated[Duration, Opt("How long to measure, once the leases are held", flag_only=True)] = 60.0
    concurrency: Annotated[
        int, Opt("How many requests may be in flight, each on its connection", metavar="N", flag_only=True)
    ] = 64

    @property
    def ttl_seconds(self) -> int:
        return int(self.ttl)

    def problems(self) -> list[str]:
        rules = {
            f"--leases must be from 1 to {LEASES_MAX}": 1 <= self.leases <= LEASES_MAX,
            "--ttl must be whole seconds, from 1s to 24h": 1 <= self.ttl <= 86_400
            and self.ttl == int(self.ttl),
            "--heartbeat must be from 50ms, and shorter than --ttl": 0.05 <= self.heartbeat < self.ttl,
            "--duration must not be 0": self.duration > 0,
            f"--concurrency must be from 1 to {CONCURRENCY_MAX}": 1 <= self.concurrency <= CONCURRENCY_MAX,
            "--api-server must name one server: the numbers are one server's": "," not in self.api_server,
        }
        return super().problems() + [text for text, kept in rules.items() if not kept]


bench = OptionsCommand(
    "bench",
    BenchOptions,
    "berth.cli.bench.run:run",
    arguments=[click.Argument(["scenario"], type=click.Choice(get_args(Scenario)))],
    summary="Put load on a running server and measure it from outside, checking all the while that no lease "
    "has two holders and that tokens grow (exit code 1 when not). Scenarios: steady, holders renew and "
    "standbys ask; coldstart, all ask at once; failover, half of the holders fall silent; churn, a tenth of "
    "the leases changes hands every heartbeat. Uses leases named bench-N in the namespace, and frees them.",
)
