"""The demo in a terminal: what is said scrolls by, and below it stands a table of the leases as they are now.

Only plain characters: it looks the same in any locale, and fits 80 columns.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table

from berth.cli.demo.view import Row
from berth.cli.output import paragraph

_COLORS = {"east": "cyan", "west": "magenta"}


class Screen:
    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live

    def say(self, text: str) -> None:
        self._console.print(paragraph(text), markup=False, highlight=False)

    def show(self, rows: Sequence[Row]) -> None:
        self._live.update(Padding(_table(rows), (1, 0, 0, 0)), refresh=True)


@contextmanager
def open_screen() -> Iterator[Screen]:
    """A view of the leases that is kept up to date; its last state stays."""
    console = Console()
    with Live(console=console, auto_refresh=False) as live:
        yield Screen(console, live)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("LEASE", "HOLDER", "TOKEN", "LEFT", "ITS JOB RUNS IN"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(
            row.lease,
            _cluster(row.holder),
            str(row.token),
            f"{row.left_seconds:.1f} s" if row.holder else "-",
            f"{_cluster(row.run.cluster)}, process {row.run.pid}" if row.run else "no process",
        )
    return table


def _cluster(name: str) -> str:
    return f"[{_COLORS[name]}]{name}[/]" if name in _COLORS else "-"
