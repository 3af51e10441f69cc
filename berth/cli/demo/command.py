"""The command lines of the demo: `berth demo`, and the two that it starts itself and hides from people.

Owns their options, the names of the demo's leases and clusters, and how this executable starts itself.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from berth.cli.client_options import ClientOptions
from berth.cli.options import OptionsCommand
from berth.config import Opt

NAMESPACE = "demo"
CLUSTERS = ("east", "west")
LEASES: Mapping[str, str] = {"payments": "east", "reports": "east", "backups": "west", "invoices": "west"}
"""Each lease, and the cluster that asks for it at once; the other one asks HEAD_START_SECONDS later."""

HEAD_START_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    ttl: Annotated[int, Opt("Ttl of the leases", unit="s", hidden=True, flag_only=True)] = 5

    def problems(self) -> list[str]:
        return [] if 2 <= self.ttl <= 60 else ["--ttl: the demo can be watched from 2 to 60 seconds"]


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The lease and its token come by the environment, as for any command under `berth lease hold`."""

    cluster: Annotated[str, Opt("Name of the cluster", flag_only=True)]
    ledger: Annotated[Path, Opt("File that everything that is done is written to", flag_only=True)]


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(JobOptions, ClientOptions):
    ttl: Annotated[int, Opt("Ttl of the leases", unit="s", flag_only=True)]


demo = OptionsCommand(
    "demo",
    DemoOptions,
    "berth.cli.demo.run:run",
    summary="Watch two clusters share four leases on this machine: one is killed and the other takes over, "
    "then one hands over in order. Takes about 40 seconds, needs nothing and leaves nothing behind; ends "
    "with what was measured, and with 0 only if nothing ran twice.",
)

cluster = OptionsCommand(
    "demo-cluster", ClusterOptions, "berth.cli.demo.cluster:run", summary="One cluster of berth demo."
)

job = OptionsCommand("demo-job", JobOptions, "berth.cli.demo.job:run", summary="One job of berth demo.")


def itself(*args: str) -> Sequence[str]:
    """The command line that runs this executable again with `args`."""
    frozen = getattr(sys, "frozen", False)
    return [sys.executable, *args] if frozen else [sys.executable, "-m", "berth", *args]
