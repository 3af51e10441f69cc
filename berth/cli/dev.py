"""`berth dev`: the API server for trying things out, without a flag."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from berth.cli.options import OptionsCommand
from berth.config import Opt
from berth.config.address import address_problems
from berth.config.common import LogOptions


@dataclass(frozen=True, kw_only=True)
class DevOptions(LogOptions):
    listen_addr: Annotated[str, Opt("Address to serve the lease API on", metavar="ADDR")] = "127.0.0.1:8443"
    metrics_addr: Annotated[str, Opt("Address to serve metrics on; none unless given", metavar="ADDR")] = ""
    data_dir: Annotated[
        Path | None,
        Opt("Where leases, certificates and the key are kept (berth/dev in the user's data directory)"),
    ] = None
    ephemeral: Annotated[bool, Opt("Keep everything in memory and in a directory that goes with it")] = False
    log_level: Annotated[
        Literal["debug", "info", "warn", "warning", "error"],
        Opt("Least severe level that is logged", fold_case=True),
    ] = "error"
    log_format: Annotated[Literal["json", "text"], Opt("Form of the log's lines", fold_case=True)] = "text"

    def problems(self) -> list[str]:
        found = [*address_problems(listen_addr=self.listen_addr, metrics_addr=self.metrics_addr)]
        if self.ephemeral and self.data_dir:
            found.append("--ephemeral and --data-dir exclude each other")
        return found


dev = OptionsCommand(
    "dev",
    DevOptions,
    "berth.cli.dev_server:run",
    scope="dev",
    summary="Serve the lease API on this machine for trying things out: makes its certificate and its key, "
    "and prints how to use them.",
)
