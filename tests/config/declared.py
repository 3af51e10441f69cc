"""An options class with one field of each kind, for the tests of this folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from berth.config import Duration, Opt, Secret


@dataclass(frozen=True, kw_only=True)
class Everything:
    listen_addr: Annotated[str, Opt("Where to listen", metavar="ADDR")] = ":8443"
    metrics_addr: Annotated[str, Opt("Metrics; empty: none", empty_is_value=True)] = ":8080"
    gc_interval: Annotated[Duration, Opt("Time between sweeps", reloadable=True)] = 30.0
    idle: Annotated[Duration | None, Opt("Idle limit")] = None
    qps: Annotated[float, Opt("Rate", unit="requests per second")] = 100.0
    burst: Annotated[int, Opt("Burst")] = 200
    level: Annotated[Literal["info", "warn"], Opt("Log level", fold_case=True)] = "info"
    driver: Annotated[Literal["sqlite", "mysql"] | None, Opt("Driver")] = None
    claim: Annotated[tuple[str, ...], Opt("Claim", metavar="KEY=VALUE")] = ()
    ca_file: Annotated[Path | None, Opt("CA", aliases=("ca-cert",))] = None
    api_key: Annotated[Secret | None, Opt("Key")] = None
    api_key_file: Annotated[Path | None, Opt("File with the key", instead_of="api_key")] = None
    server: Annotated[str, Opt("Server", flag="berth-api-server")] = "here"
    verbose: Annotated[bool, Opt("Talk", short="v")] = False
    yes: Annotated[bool, Opt("Really", flag_only=True)] = False
    old: Annotated[str, Opt("Gone", hidden=True)] = ""

    def problems(self) -> list[str]:
        found: list[str] = []
        if self.burst < self.qps:
            found.append("--burst must be at least --qps")
        if self.level == "warn" and self.driver is None:
            found.append("--level warn wants a --driver")
        return found


@dataclass(frozen=True, kw_only=True)
class Needy:
    cert: Annotated[Path, Opt("The certificate")]
    key: Annotated[Path, Opt("The key")]

    def problems(self) -> list[str]:
        return ["--cert and --key are the same file"] if self.cert == self.key else []
