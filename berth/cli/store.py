"""`berth store …`: the commands on a database itself. What they do is imported only to run one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import click

from berth.cli.options import HELP_FLAGS, OptionsCommand
from berth.config import Opt
from berth.config.secret import Secret
from berth.roles.apiserver.options import Driver

SCOPE = "store"
_JUMP_MOST = 1_000_000


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    sql_driver: Annotated[Driver | None, Opt("Kind of the database; mysql is MariaDB, too")] = None
    sql_dsn: Annotated[Secret | None, Opt("Data source, as the API server takes it", metavar="DSN")] = None
    sql_dsn_file: Annotated[Path | None, Opt("File that holds the data source", instead_of="sql_dsn")] = None
    store_durability: Annotated[
        Literal["async", "sync"],
        Opt("As the API server is given it: whether a failover of the database may lose writes"),
    ] = "async"

    def problems(self) -> list[str]:
        found = [] if self.sql_driver else ["--sql-driver: required (postgres, mysql or sqlite)"]
        if self.sql_dsn is None and self.sql_dsn_file is None:
            found.append("--sql-dsn, --sql-dsn-file: one of them is required")
        return found


@dataclass(frozen=True, kw_only=True)
class CheckOptions(StoreOptions):
    output: Annotated[Literal["table", "json"], Opt("Form of the output", short="o")] = "table"


@dataclass(frozen=True, kw_only=True)
class JumpOptions(StoreOptions):
    by: Annotated[
        int, Opt("How many tenures of one lease may have been lost, at most; in thousands", metavar="N")
    ] = 1_000
    yes: Annotated[bool, Opt("Do it; nothing is granted for as long as the longest ttl")] = False

    def problems(self) -> list[str]:
        found = super().problems()
        if not 1 <= self.by <= _JUMP_MOST:
            found.append(f"--by must be 1 to {_JUMP_MOST}")
        if not self.yes:
            found.append("--yes: required, for nothing is granted afterwards for as long as the longest ttl")
        return found


_file = click.Argument(["file"], type=click.Path(path_type=Path), metavar="FILE")

store = click.Group(
    "store",
    help="Look after the database of an API server.",
    context_settings=HELP_FLAGS,
    commands=[
        OptionsCommand(
            "check",
            CheckOptions,
            "berth.cli.store_run:check",
            scope=SCOPE,
            summary="Verify that a server could be started on the database, and show what it says of itself.",
        ),
        OptionsCommand(
            "migrate",
            StoreOptions,
            "berth.cli.store_run:migrate",
            scope=SCOPE,
            summary="Bring the database's schema up to date, for servers that run with --sql-migrate off. "
            "Takes a database of skaphos/berth over.",
        ),
        OptionsCommand(
            "export",
            StoreOptions,
            "berth.cli.store_run:export",
            scope=SCOPE,
            summary="Write all leases and sessions to stdout, as lines of JSON. Stop the servers first: what "
            "is granted afterwards is not in it.",
        ),
        OptionsCommand(
            "import",
            StoreOptions,
            "berth.cli.store_run:import_file",
            scope=SCOPE,
            arguments=[_file],
            summary="Write an export into a database that has none of its leases, before a server is started "
            "on it. Tokens stay; what is held counts as renewed now. Exits with 3 where something was there "
            "already.",
        ),
        OptionsCommand(
            "fence-jump",
            JumpOptions,
            "berth.cli.store_run:fence_jump",
            scope=SCOPE,
            summary="After a backup was restored: give no token that may have been given since that backup, "
            "and grant nothing for as long as what was granted since may hold.",
        ),
    ],
)
