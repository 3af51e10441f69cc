#!/usr/bin/env python3
"""Writes what follows from declarations: docs/configuration.md. A test finds it out of date.

`.venv/bin/python build/generate.py`
"""

from collections.abc import Iterator
from pathlib import Path

import click

from berth.cli.client_options import ClientOptions
from berth.cli.dev import DevOptions
from berth.cli.main import COMMANDS, LazyGroup
from berth.cli.options import OptionsCommand
from berth.cli.roles import ROLES
from berth.cli.store import StoreOptions
from berth.config.render import markdown_table
from berth.roles.apiserver.options import ApiserverOptions

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "docs" / "configuration.md"

HEAD = """\
# Configuration

Written by `build/generate.py` from the options' declarations.

Every option is a flag. Where a table names an environment variable it is that variable too, and for what
runs as a server a key in the TOML file that `--config FILE` names. The flag counts before the variable, the
variable before the file, the file before the default. A secret and the file that holds it (`--api-key` and
`--api-key-file`, `--sql-dsn` and `--sql-dsn-file`) are one option in this: the stronger source decides, and
none may give both. An empty value means unset, but for `--metrics-addr`. All problems are told at once, with
exit code 2.

Flags are written `--flag value`, `--flag=value`, or with one dash as Go programs take them. Durations are
written as Go writes them: `30s`, `1m30s`, `500ms`. Several roles may share one file, each with its table.
"""

SECTIONS = (
    (
        "berth apiserver",
        "apiserver",
        ApiserverOptions,
        "In a TOML file these stand in the table `[apiserver]`. SIGHUP reads again what applies on reload.",
    ),
    ("berth dev", "dev", DevOptions, "In a TOML file these stand in the table `[dev]`."),
    (
        "berth store",
        "store",
        StoreOptions,
        "In a TOML file these stand in the table `[store]`. [Stores](stores.md) tells what the commands do.",
    ),
    (
        "Client commands",
        "",
        ClientOptions,
        "They take these before or after their name. [Command line](cli.md) tells what they do.",
    ),
)


def configuration() -> str:
    sections = [
        f"\n## {title}\n\n{words}\n\n{markdown_table(options, scope)}"
        for title, scope, options, words in SECTIONS
    ]
    return HEAD + "".join(sections) + "".join(client_sections())


def client_sections() -> Iterator[str]:
    """A table for each client command that has options of its own."""
    root = click.Context(LazyGroup(COMMANDS, ROLES), info_name="berth")
    for path, command in leaves(root):
        if isinstance(command, OptionsCommand) and not command.scope:
            table = markdown_table(command.options_class, "", but=ClientOptions)
            if table:
                yield f"\n### {path}\n\n{table}"


def leaves(ctx: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Every command that is listed and holds no others, with its whole name."""
    if not isinstance(ctx.command, click.Group):
        yield ctx.command_path, ctx.command
        return
    for name in ctx.command.list_commands(ctx):
        command = ctx.command.get_command(ctx, name)
        assert command is not None
        yield from leaves(click.Context(command, parent=ctx, info_name=name))


if __name__ == "__main__":
    CONFIGURATION.write_text(configuration())
    print(f"wrote {CONFIGURATION.relative_to(ROOT)}")
