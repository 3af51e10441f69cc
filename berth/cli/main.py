"""The entry of the process: one table of commands, each imported only when it is chosen.

Help and completion of the table itself read only its names and summaries, so they cost no import either.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper

import click
from click.shell_completion import CompletionItem

from berth.cli import bash as bash  # registers how bash asks
from berth.cli.client_options import ClientOptions, DataOptions
from berth.cli.exit_codes import ExitCode, Failure
from berth.cli.lazy import import_named
from berth.cli.options import OptionsCommand, OptionsGroup
from berth.cli.roles import ROLES, Role
from berth.config.common import LogOptions

_SUMMARY = """Leases with fencing tokens: who may act, for a bounded time.

Commands exit with 0 when done, 1 on a fault, 2 on wrong usage or configuration, 3 when the condition is not
met (held by another, not current, not the holder, not found), 4 when a lease was lost while a command ran
under it, 5 when not allowed, 6 when the server cannot be reached. When nothing was lost, lease hold ends with
the exit code of the command that it ran.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A client command: `target` names its click command as `module:attribute`.

    What is `hidden` is for this executable's own use, and not listed.
    """

    name: str
    summary: str
    target: str
    hidden: bool = False


COMMANDS = (
    Entry("bench", "Measure a running server, and check it meanwhile", "berth.cli.bench.command:bench"),
    Entry("demo", "Watch two clusters share leases, for 40 seconds", "berth.cli.demo.command:demo"),
    Entry("demo-cluster", "", "berth.cli.demo.command:cluster", hidden=True),
    Entry("demo-job", "", "berth.cli.demo.command:job", hidden=True),
    Entry("dev", "Serve the lease API here, for trying things out", "berth.cli.dev:dev"),
    Entry(
        "lease",
        "List, acquire, hold, renew, release, force-release and verify leases",
        "berth.cli.lease:lease",
    ),
    Entry("session", "List, show and end sessions", "berth.cli.session:session"),
    Entry("doctor", "Find what is wrong between you and the servers", "berth.cli.doctor:doctor"),
    Entry("store", "Check, migrate, export and import a server's database", "berth.cli.store:store"),
    Entry("whoami", "Show who the server takes you for", "berth.cli.whoami:whoami"),
    Entry("version", "Show what this build is", "berth.cli.version:version"),
    Entry("completion", "Print a shell's completion script", "berth.cli.completion:completion"),
)


class LazyGroup(OptionsGroup):
    """The root: knows its commands by name and summary, and imports the chosen one."""

    def __init__(self, commands: Sequence[Entry], roles: Sequence[Role]) -> None:
        super().__init__("berth", ClientOptions, summary=_SUMMARY)
        self.params.append(_version_option())
        self._entries: Mapping[str, Entry | Role] = {entry.name: entry for entry in (*roles, *commands)}
        self._listed = [*roles, *(entry for entry in commands if not entry.hidden)]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [entry.name for entry in self._listed]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        match self._entries.get(cmd_name):
            case Entry(target=target):
                return import_named(target)
            case Role() as role:
                return _role_command(role)
            case None:
                return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, kind in (("Roles", Role), ("Commands", Entry)):
            with formatter.section(title):
                formatter.write_dl([(e.name, e.summary) for e in self._listed if isinstance(e, kind)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [
            CompletionItem(entry.name, help=entry.summary)
            for entry in self._listed
            if entry.name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def _version_option() -> click.Option:
    def show(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked and not ctx.resilient_parsing:
            import_named("berth.cli.version:show")(DataOptions())
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="As berth version"
    )


def _role_command(role: Role) -> click.Command:
    def run(options: LogOptions) -> int:
        return import_named("berth.cli.run:run_role")(role, options)

    return OptionsCommand(
        role.name, import_named(role.options), run, scope=role.name, summary=f"{role.summary}."
    )


def run_line(root: click.Command, args: Sequence[str]) -> int:
    """Run one command line, tell on stderr what went wrong, and give the exit code."""
    try:
        return root.main(args, prog_name="berth", standalone_mode=False) or ExitCode.DONE
    except click.exceptions.NoArgsIsHelpError as fault:
        print(fault.format_message(), file=sys.stderr)
        return ExitCode.USAGE
    except click.UsageError as fault:
        where = f"\nTry '{fault.ctx.command_path} --help'." if fault.ctx else ""
        return _told(f"{fault.format_message()}{where}", ExitCode.USAGE)
    except click.ClickException as fault:
        return _told(fault.format_message(), ExitCode.FAULT)
    except Failure as fault:
        return _told(str(fault), fault.code)
    except click.Abort:
        return 128 + signal.SIGINT


def _told(message: str, code: ExitCode) -> ExitCode:
    print(f"error: {message}", file=sys.stderr)
    return code


def main() -> None:
    """Run the command that the process's arguments name, and exit with its code."""
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal that cannot show a holder's name is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run_line(LazyGroup(COMMANDS, ROLES), sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough
        code = _output_lost()
    except OSError as fault:
        _told(f"the output cannot be written: {fault.strerror}", ExitCode.FAULT)
        code = _output_lost()
    sys.exit(code)


def _output_lost() -> ExitCode:
    """What is left of the output goes nowhere: at its exit Python would try again, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.FAULT
