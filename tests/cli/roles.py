"""Roles for the tests: small ones that serve nothing, and ways for them to fail."""

import sys
from dataclasses import dataclass
from typing import Annotated

import trio

from berth.cli.roles import Role
from berth.config import Duration, Opt, Secret
from berth.config.common import LogOptions
from berth.runtime.log import Logs
from berth.runtime.supervise import Handle


@dataclass(frozen=True, kw_only=True)
class EchoOptions(LogOptions):
    listen_addr: Annotated[str, Opt("Where to listen", metavar="ADDR")] = ":8443"
    ttl: Annotated[Duration, Opt("How long")] = 30.0
    burst: Annotated[int, Opt("How many")] = 1
    key: Annotated[Secret | None, Opt("Key")] = None
    fail: Annotated[str, Opt("How to fail")] = ""
    label: Annotated[tuple[str, ...], Opt("Labels")] = ()
    dry: Annotated[bool, Opt("Change nothing")] = False

    def problems(self) -> list[str]:
        return ["--ttl must be positive"] if self.ttl == 0 else []


class PortTaken(Exception):
    """Stands for a fault that explains itself."""


# A module of the executable's own, as far as the runner can see.
PortTaken.__module__ = "berth.roles.echo"


async def serve(options: EchoOptions, *, logs: Logs, task_status: trio.TaskStatus[Handle]) -> None:
    """Print the options and return, or wait for a drain, or fail, as told."""
    match options.fail:
        case "told":
            raise PortTaken("cannot listen on :1: the port is in use; choose another port")
        case "os":
            raise FileNotFoundError(2, "No such file or directory", "/no/such/key")
        case "bug":
            raise KeyError("surprise")
    drained = trio.Event()

    async def drain() -> None:
        drained.set()

    async def reload() -> None:
        logs.logger("echo").info("reloaded")

    task_status.started(Handle((options.listen_addr,), drain, reload))
    if options.fail == "drain":
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        await drained.wait()
    sys.stdout.write(f"{options}\n")


ECHO = Role("echo", "Say the options", options="tests.cli.roles:EchoOptions", serve="tests.cli.roles:serve")
