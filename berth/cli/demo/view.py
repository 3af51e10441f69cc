"""What the user of the demo sees, and the plain way of showing it: lines, each once, for pipes and files.

Owns the words about one lease. `screen` shows the same in a terminal.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import trio

from berth.cli.demo.ledger import Run
from berth.cli.output import paragraph


class Row(NamedTuple):
    """One lease at one moment: `holder` is a cluster, empty when it is free; `run` the job that is active."""

    lease: str
    holder: str
    token: int
    left_seconds: float
    run: Run | None


class View(Protocol):
    def say(self, text: str) -> None:
        """A paragraph; lines of its own stay lines."""
        ...

    def show(self, rows: Sequence[Row]) -> None:
        """How the leases stand now."""
        ...


class PlainView:
    """One line for each change of a lease, with the seconds since the start."""

    def __init__(self) -> None:
        self._start_seconds = trio.current_time()
        self._shown: dict[str, str] = {}

    def say(self, text: str) -> None:
        print(paragraph(text), flush=True)

    def show(self, rows: Sequence[Row]) -> None:
        for row in rows:
            told = f"{row.lease:<10} {_holder(row):<17} {_job(row)}"
            if self._shown.get(row.lease) != told:
                self._shown[row.lease] = told
                print(f"{trio.current_time() - self._start_seconds:6.1f} s  {told}", flush=True)


def _holder(row: Row) -> str:
    return f"{row.holder}, token {row.token}" if row.holder else "free"


def _job(row: Row) -> str:
    return f"job runs in {row.run.cluster}, process {row.run.pid}" if row.run else "no job runs"
