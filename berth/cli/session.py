"""`berth session …`: the commands and their options. What they do is imported only to run one."""

from dataclasses import dataclass
from typing import Annotated

import click

from berth.cli.client_options import ClientOptions, FormOptions
from berth.cli.options import OptionsCommand, OptionsGroup
from berth.config import Opt


@dataclass(frozen=True, kw_only=True)
class ListOptions(ClientOptions, FormOptions):
    holder: Annotated[
        str | None,
        Opt(
            "Only this holder's; not read from BERTH_HOLDER, which says who acts",
            metavar="HOLDER",
            flag_only=True,
        ),
    ] = None
    instance: Annotated[str | None, Opt("Only this instance's", metavar="INSTANCE", flag_only=True)] = None


@dataclass(frozen=True, kw_only=True)
class GetOptions(ClientOptions, FormOptions):
    pass


@dataclass(frozen=True, kw_only=True)
class EndOptions(ClientOptions):
    pass


def _command(name: str, cls: type, run: str, summary: str, *, on_session: bool = True) -> click.Command:
    arguments = [click.Argument(["id"])] if on_session else []
    return OptionsCommand(name, cls, f"berth.cli.session_calls:{run}", arguments=arguments, summary=summary)


session = OptionsGroup(
    "session",
    ClientOptions,
    summary="List, show and end sessions: signs of life that leases are held under.",
    commands=[
        _command(
            "list",
            ListOptions,
            "list_sessions",
            "List sessions, those that are over included.",
            on_session=False,
        ),
        _command("get", GetOptions, "get", "Show one session. Exits with 3 when there is none."),
        _command(
            "end",
            EndOptions,
            "end",
            "End a session, and free all leases under it. One that is over already stays so.",
        ),
    ],
)
