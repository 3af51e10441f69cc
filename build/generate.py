#!/usr/bin/env python3
"""Writes what follows from declarations: docs/configuration.md, the tables of docs/berthlease.md, the
CustomResourceDefinition, manifests. A test finds them out of date.

`.venv/bin/python build/generate.py`
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import kubernetes_store
import yaml

from berth.cli.client_options import ClientOptions
from berth.cli.dev import DevOptions
from berth.cli.main import COMMANDS, LazyGroup
from berth.cli.options import OptionsCommand
from berth.cli.roles import ROLES
from berth.cli.store import StoreOptions
from berth.config.render import markdown_table
from berth.roles.apiserver.options import ApiserverOptions
from berth.roles.operator import rbac
from berth.roles.operator.options import OperatorOptions
from berth.wire.crds import definition

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "docs" / "configuration.md"
DEFINITION = ROOT / "charts" / "berth-operator" / "crds" / "berthlease.yaml"
BERTHLEASE = ROOT / "docs" / "berthlease.md"
MANIFESTS = ROOT / "packaging" / "kubernetes"

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
        "berth operator",
        "operator",
        OperatorOptions,
        "In a TOML file these stand in the table `[operator]`. [Operator](operator.md) tells what it does.",
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


def crd() -> str:
    written = yaml.safe_dump(definition(), sort_keys=False, width=110, allow_unicode=True)
    return f"# Written by build/generate.py from berth/wire.\n{written}"


def operator_rbac() -> str:
    written = yaml.safe_dump_all(rbac.manifest(), sort_keys=False, width=110)
    return f"# Written by build/generate.py from berth/roles/operator/rbac.py.\n{written}"


def berthlease() -> str:
    """The page as it is, its tables made anew."""
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return re.sub(
        r"(?s)(<!-- fields of (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{fields_table(schema[found[2]])}{found[3]}",
        BERTHLEASE.read_text(),
    )


def fields_table(schema: dict[str, Any]) -> str:
    head = "| Field | Type | Default | |\n|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in field_rows(schema, ""))


def field_rows(schema: dict[str, Any], within: str) -> Iterator[tuple[str, ...]]:
    for name, field in schema["properties"].items():
        inner = field.get("items", field)
        path = f"{within}{name}{'[]' if inner is not field else ''}"
        kind = "required" if name in schema.get("required", ()) else ""
        kind = ", ".join(filter(None, (field.get("format", field["type"]), kind)))
        default = f"`{yaml.safe_dump(field['default']).split()[0]}`" if "default" in field else ""
        yield f"`{path}`", kind, default, field["description"]
        if "properties" in inner:
            yield from field_rows(inner, f"{path}.")


WRITTEN: dict[Path, Callable[[], str]] = {
    CONFIGURATION: configuration,
    DEFINITION: crd,
    BERTHLEASE: berthlease,
    MANIFESTS / "operator-rbac.yaml": operator_rbac,
    **{MANIFESTS / name: partial(str, content) for name, content in kubernetes_store.files()},
}


def stale() -> list[str]:
    """What is not as it would be written now."""
    return [str(path.relative_to(ROOT)) for path, text in WRITTEN.items() if path.read_text() != text()]


if __name__ == "__main__":
    for path, text in WRITTEN.items():
        path.write_text(text())
        print(f"wrote {path.relative_to(ROOT)}")
