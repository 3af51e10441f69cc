"""The page: docs/benchmarks.md, written from what was measured, and the same in short for the terminal."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .findings import Finding, NotMeasured, Row
from .stage import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"

HEAD = """\
# Benchmarks

Written by `build/bench.py`, which measures berth beside its peers in one run on one machine. Ratios are worth
more than numbers: a faster machine makes both sides faster. Every server has one core to itself and the load
another, everything goes over TLS on loopback, and replies are checked: a server that refuses is fast. The
goals are what berth is built to; where one is missed, the page says so.

To measure a server of your own from outside, under a load like yours and with the safety check on, use
[`berth bench`](cli.md#bench).
"""

COMMANDS = """\

## The commands

What was run, each with `taskset --cpu-list` on its core; the numbers of connections vary, and so do ports and
the database's directory. The batches are sent by `build/benchmarks/wire.py`.

```sh
"""

REPRODUCE = """\

## How to reproduce it

On Debian 12 with Python 3.11 to 3.13, as root, on a machine that does nothing else:

```sh
python3 build/bench.py
```

It sets up `.venv`, installs `redis-server`, `etcd-server`, `etcd-client`, `wrk`, `postgresql` and
`mariadb-server` with apt, starts and stops every server on loopback ports with certificates of its own, and
writes this page. It takes about {minutes} minutes. `kubernetes`, `operator` and `takeover` need a
kube-apiserver, its controller manager and an etcd, looked for where `KUBEBUILDER_ASSETS` says, else in
`/usr/local/kubebuilder/bin`; without them the page says that they are not measured. One measure alone,
without writing:

```sh
python3 build/bench.py {example}
```

| Name | What it measures |
|---|---|
"""


def write(
    found: Mapping[str, Finding | NotMeasured],
    titles: Mapping[str, str],
    machine: Mapping[str, str],
    commands: Iterable[str],
    *,
    minutes: int,
    quiet: bool,
) -> Path:
    PAGE.write_text("".join(_parts(found, titles, machine, commands, minutes=minutes, quiet=quiet)))
    return PAGE.relative_to(ROOT)


def told(found: Finding | NotMeasured) -> str:
    """For the terminal."""
    if isinstance(found, NotMeasured):
        return f"  not measured: {found}"
    rows = (
        f"  {row.what}: {row.measured}"
        + (f", ratio {row.ratio}" if row.ratio else "")
        + (f" (goal {row.goal}: {_verdict(row)})" if row.goal else "")
        for row in found.rows
    )
    return "\n".join([*rows, f"  {found.words}"])


def _parts(
    found: Mapping[str, Finding | NotMeasured],
    titles: Mapping[str, str],
    machine: Mapping[str, str],
    commands: Iterable[str],
    *,
    minutes: int,
    quiet: bool,
) -> Iterator[str]:
    yield HEAD
    if not quiet:
        yield "\n**The machine was not quiet**: the numbers are worse than they need to be.\n"
    yield "\n| Measure | Goal | Measured | Ratio | Reached |\n|---|---|---|---|---|\n"
    for name, finding in found.items():
        if isinstance(finding, NotMeasured):
            yield f"| {titles[name]} | | not measured | | |\n"
            continue
        for row in finding.rows:
            yield f"| {row.what} | {row.goal} | {row.measured} | {row.ratio} | {_verdict(row)} |\n"
    yield "\n## What the numbers mean, and what holds them back\n"
    for name, finding in found.items():
        words = f"Not measured: {finding}." if isinstance(finding, NotMeasured) else finding.words
        yield "\n" + "\n".join(_wrapped(f"**{titles[name].rstrip('.')}.** {words}")) + "\n"
    yield "\n## The machine\n\n| | |\n|---|---|\n"
    yield from (f"| {name} | {fact} |\n" for name, fact in machine.items())
    yield COMMANDS
    yield from (f"{command}\n" for command in commands)
    yield "```\n"
    yield REPRODUCE.format(minutes=minutes, example=next(iter(found)))
    yield from (f"| `{name}` | {titles[name].rstrip('.')} |\n" for name in found)


def _verdict(row: Row) -> str:
    return "" if row.reached is None else "yes" if row.reached else "**no**"


def _wrapped(text: str, width: int = 112) -> Iterator[str]:
    """Lines for the source of the page."""
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
