"""`NAME… -- COMMAND…`: a command line that carries another one.

Owns where the one ends and the other begins. What follows the dashes is never read as options of ours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import click

from berth.cli.options import OptionsCommand


class Line(NamedTuple):
    """The names before the dashes and the command after them; neither is empty."""

    names: tuple[str, ...]
    command: tuple[str, ...]


class HoldCommand(OptionsCommand):
    """A command whose function gets its options and a `Line`."""

    def __init__(self, name: str, cls: type, run: str, *, summary: str) -> None:
        line = click.Argument(
            ["line"], nargs=-1, metavar="NAME... -- COMMAND [ARG]...", callback=_line, required=True
        )
        super().__init__(name, cls, run, arguments=[line], summary=summary)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Click takes the first dashes away; these stay, between the names and the command.
        at = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*args[:at], "--", *args[at:]])


def _line(ctx: click.Context, _: click.Parameter, words: Sequence[str]) -> Line | None:
    if ctx.resilient_parsing:
        return None
    at = words.index("--") if "--" in words else len(words)
    line = Line(tuple(words[:at]), tuple(words[at + 1 :]))
    if not line.names:
        raise click.UsageError("which lease? Its name comes before the --", ctx)
    if not line.command:
        raise click.UsageError("which command? It comes after the names and a --", ctx)
    if len(set(line.names)) < len(line.names):
        raise click.UsageError("a lease is named twice", ctx)
    return line
