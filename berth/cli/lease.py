"""`berth lease …`: the commands and their options. What they do is imported only to run one."""

from dataclasses import dataclass
from typing import Annotated, Literal

import click

from berth.cli.client_options import ClientOptions, DataOptions, FormOptions
from berth.cli.hold_line import HoldCommand
from berth.cli.options import OptionsCommand, OptionsGroup
from berth.config import Duration, Opt

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class ListOptions(ClientOptions, FormOptions):
    all_namespaces: Annotated[bool, Opt("Leases of all namespaces", short="A", flag_only=True)] = False
    watch: Annotated[
        bool, Opt("After the list, a line for each change as it happens", short="w", flag_only=True)
    ] = False


@dataclass(frozen=True, kw_only=True)
class GetOptions(ClientOptions, FormOptions):
    pass


@dataclass(frozen=True, kw_only=True)
class HolderOptions(ClientOptions):
    holder: Annotated[
        str,
        Opt("Who acts; unless given, user@host, with your tenant and a slash before it", metavar="HOLDER"),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class TtlOptions(HolderOptions):
    ttl: Annotated[Duration, Opt("How long the lease lives unless it is renewed, in whole seconds")] = 30.0

    def problems(self) -> list[str]:
        whole = 1 <= self.ttl <= _INT32_MAX and self.ttl == int(self.ttl)
        return super().problems() + (
            [] if whole else [f"--ttl must be whole seconds, from 1s to {_INT32_MAX}s"]
        )


@dataclass(frozen=True, kw_only=True)
class GrantOptions(TtlOptions):
    semantics: Annotated[
        Literal["at-most-once", "at-least-once"] | None,
        Opt("One holder at a time, or several; unless given, at-most-once"),
    ] = None
    max_holders: Annotated[
        int | None,
        Opt("How many may hold an at-least-once lease at a time; unless given, 1000", metavar="N"),
    ] = None

    def problems(self) -> list[str]:
        return super().problems() + _out_of_range("--max-holders", self.max_holders)


@dataclass(frozen=True, kw_only=True)
class AcquireOptions(GrantOptions, FormOptions):
    session: Annotated[
        str | None,
        Opt(
            "Session that the lease lives as long as, instead of a ttl; it must be the holder's own",
            metavar="ID",
            instead_of="ttl",
        ),
    ] = None
    wait: Annotated[
        Duration | None, Opt("How long to wait for the lease, in line; unless given, one try")
    ] = None


@dataclass(frozen=True, kw_only=True)
class HoldOptions(GrantOptions):
    wait: Annotated[
        Duration | None, Opt("How long to wait for the lease; 0: one try; unless given, for ever")
    ] = None
    grace: Annotated[Duration, Opt("How long the command may take to end before it is killed")] = 5.0
    restart: Annotated[
        bool, Opt("After a loss, wait for the lease and run the command again", flag_only=True)
    ] = False


@dataclass(frozen=True, kw_only=True)
class OwnTokenOptions(HolderOptions):
    token: Annotated[
        int | None, Opt("Fencing token; unless given, the holder's current one", metavar="N")
    ] = None

    def problems(self) -> list[str]:
        return super().problems() + _out_of_range("--token", self.token)


@dataclass(frozen=True, kw_only=True)
class RenewOptions(TtlOptions, OwnTokenOptions, FormOptions):
    pass


@dataclass(frozen=True, kw_only=True)
class ReleaseOptions(OwnTokenOptions):
    pass


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(ClientOptions, DataOptions):
    token: Annotated[int, Opt("Fencing token to ask about", metavar="N")]
    holder: Annotated[
        str,
        Opt(
            "Ask also whether it is this holder's; not read from BERTH_HOLDER, which says who acts",
            metavar="HOLDER",
            flag_only=True,
        ),
    ] = ""

    def problems(self) -> list[str]:
        return super().problems() + _out_of_range("--token", self.token)


@dataclass(frozen=True, kw_only=True)
class ForceReleaseOptions(ClientOptions, DataOptions):
    reason: Annotated[str, Opt("Why, for the audit log", metavar="TEXT")]
    token: Annotated[int | None, Opt("Fencing token to end; unless given, the current one", metavar="N")] = (
        None
    )
    yes: Annotated[bool, Opt("Do it; without this it only says what it would do", flag_only=True)] = False

    def problems(self) -> list[str]:
        return super().problems() + _out_of_range("--token", self.token)


def _out_of_range(flag: str, value: int | None) -> list[str]:
    """What the wire cannot carry is refused here, by the flag's name."""
    if value is None or 1 <= value <= _INT32_MAX:
        return []
    return [f"{flag} must be from 1 to {_INT32_MAX}"]


def _command(name: str, cls: type, run: str, summary: str, *, on_lease: bool = True) -> click.Command:
    arguments = [click.Argument(["name"])] if on_lease else []
    return OptionsCommand(name, cls, f"berth.cli.lease_{run}", arguments=arguments, summary=summary)


lease = OptionsGroup(
    "lease",
    ClientOptions,
    summary="List, acquire, hold, renew, release, force-release and verify leases.",
    commands=[
        _command(
            "list",
            ListOptions,
            "list:list_leases",
            "List leases, free ones included; with --watch, also what happens to them.",
            on_lease=False,
        ),
        _command("get", GetOptions, "calls:get", "Show one lease."),
        _command(
            "acquire",
            AcquireOptions,
            "acquire:acquire",
            "Take a lease, or keep it when you hold it. Exits with 3 when it cannot be had.",
        ),
        HoldCommand(
            "hold",
            HoldOptions,
            "berth.cli.hold:hold",
            summary="Run a command while you hold the leases. It is stopped in time when one is lost (exit "
            "code 4), and dies with this process; else its own exit code is passed on.",
        ),
        _command(
            "renew",
            RenewOptions,
            "calls:renew",
            "Keep a lease that you hold. Exits with 3 when it is lost.",
        ),
        _command(
            "release",
            ReleaseOptions,
            "calls:release",
            "Give up a lease that you hold. Exits with 3 when you do not hold it.",
        ),
        _command(
            "verify",
            VerifyOptions,
            "calls:verify",
            "Ask whether a fencing token is current. Exits with 3 when it is not.",
        ),
        _command(
            "force-release",
            ForceReleaseOptions,
            "calls:force_release",
            "End another's tenure at once. Its holder may still act for a while.",
        ),
    ],
)
