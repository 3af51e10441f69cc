"""Data on stdout, in the form that was asked for; talk on stderr.

`json` and `yaml` are the objects of the wire, for programs; tables are for people and may change. What came
from a server cannot drive the terminal: whatever is not a plain character is printed as an escape.
"""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

WIDTH_MAX = 100

Form = Literal["table", "wide", "json", "yaml", "name"]


def print_data(data: Any, form: Literal["json", "yaml"]) -> None:
    """A wire object, as built-in types, for programs."""
    if form == "json":
        print(json.dumps(data, indent=2))
    else:
        import yaml  # only here, for it is slow to import

        print(yaml.safe_dump(data, sort_keys=False), end="")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Sequence[int]:
    """Columns as wide as they must be, three blanks between them. The widths are for rows that follow."""
    lines = [[printable(cell) or "-" for cell in row] for row in (headings, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print_row(line, widths)
    return widths


def print_row(row: Sequence[str], widths: Sequence[int]) -> None:
    """A row of a table whose columns are so wide; a cell that is wider moves those after it."""
    cells = ((printable(cell) or "-").ljust(width) for cell, width in zip(row, widths, strict=True))
    print("   ".join(cells).rstrip())


def print_record(record: Mapping[str, object], form: Literal["table", "json", "yaml"]) -> None:
    """One flat object; as a table, a line for each field."""
    if form != "table":
        print_data(record, form)
        return
    width = max(map(len, record)) + 1
    for key, value in record.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        print(f"{key + ':':<{width}} {printable(text)}".rstrip())


def printable(text: str) -> str:
    """`text` with everything that a terminal would not show as a character written as an escape."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def paragraph(text: str, *, indent: str = "") -> str:
    """Each line of `text` wrapped to the terminal's width, with `indent` before what goes on below it."""
    width = min(shutil.get_terminal_size().columns, WIDTH_MAX)
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )


def span(seconds: float) -> str:
    """A length of time for people, rounded down to two units: `12s`, `3m05s`, `2h03m`, `5d04h`."""
    left = max(0, int(seconds))
    for unit, unit_seconds, smaller, smaller_seconds in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if left >= unit_seconds:
            whole, rest = divmod(left, unit_seconds)
            return f"{whole}{unit}{rest // smaller_seconds:02d}{smaller}"
    return f"{left}s"


def talk(text: str) -> None:
    """A line for people, on stderr, where it is not taken for data."""
    print(text, file=sys.stderr)
