#!/usr/bin/env python3
"""Writes what follows from declarations: docs/configuration.md. A test finds it out of date.

`.venv/bin/python build/generate.py`
"""

from pathlib import Path

from berth.cli.client_options import ClientOptions
from berth.cli.dev import DevOptions
from berth.config.render import markdown_table
from berth.roles.apiserver.options import ApiserverOptions

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = ROOT / "docs" / "configuration.md"

HEAD = """\
# Configuration

Written by `build/generate.py` from the options' declarations.

Every option is a flag, an environment variable and, for what runs as a server, a key in a TOML file that
`--config FILE` names. The flag counts before the variable, the variable before the file, the file before the
default. An empty value means unset. All problems are told at once, with exit code 2.

Flags are written `--flag value`, `--flag=value`, or with one dash as Go programs take them. Durations are
written as Go writes them: `30s`, `1m30s`, `500ms`.
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
        "Client commands",
        "",
        ClientOptions,
        "`berth lease …`, `berth whoami`. They may stand before or after the command's name.",
    ),
)


def configuration() -> str:
    sections = [
        f"\n## {title}\n\n{words}\n\n{markdown_table(options, scope)}"
        for title, scope, options, words in SECTIONS
    ]
    return HEAD + "".join(sections)


if __name__ == "__main__":
    CONFIGURATION.write_text(configuration())
    print(f"wrote {CONFIGURATION.relative_to(ROOT)}")
