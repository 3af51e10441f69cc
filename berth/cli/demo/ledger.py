"""The ledger: what the clusters and their jobs have done, one line each, in the order of their writes.

It stands for whatever must not be done twice: a job writes to it all the time while it runs, so that it
shows who was active at any moment. Each line has the time by the machine's boot clock, which all processes
share. Promises that lines of several processes do not mix. Judges nothing.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

BEAT_SECONDS = 0.05
"""How often a job writes while it runs."""

UP, BEGIN, BEAT, END = "up", "begin", "beat", "end"


class Entry(NamedTuple):
    """One line. `event` is `up` (a cluster asks for every lease), or a job's `begin`, `beat` or `end`."""

    boot_us: int
    event: str
    cluster: str
    lease: str
    token: int
    pid: int


class Run(NamedTuple):
    """One job as the ledger shows it. `ended`: it said so itself; otherwise it was killed, or still runs."""

    cluster: str
    lease: str
    token: int
    pid: int
    begun_us: int
    last_us: int
    ended: bool


def append(file: Path, entry: Entry) -> None:
    """Write one line. Raises OSError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, (" ".join(map(str, entry)) + "\n").encode())  # one write is one whole line
    finally:
        os.close(descriptor)


class Reader:
    """Everything that the ledger holds; each `read` takes in what is new."""

    def __init__(self, file: Path) -> None:
        self.entries: list[Entry] = []
        self._file = file
        self._offset = 0

    def read(self) -> list[Entry]:
        if self._file.exists():
            with self._file.open("rb") as opened:
                opened.seek(self._offset)
                lines = opened.read()
            self._offset += len(lines)
            self.entries += [_parsed(line) for line in lines.decode().splitlines()]
        return self.entries


def _parsed(line: str) -> Entry:
    boot_us, event, cluster, lease, token, pid = line.split(" ")
    return Entry(int(boot_us), event, cluster, lease, int(token), int(pid))


def runs_of(entries: Iterable[Entry]) -> list[Run]:
    """The jobs, in the order of their first lines."""
    runs: dict[tuple[str, int], Run] = {}
    for entry in entries:
        if entry.event == UP:
            continue
        run = runs.get((entry.lease, entry.pid)) or Run(*entry[2:], entry.boot_us, entry.boot_us, ended=False)
        runs[entry.lease, entry.pid] = run._replace(last_us=entry.boot_us, ended=entry.event == END)
    return list(runs.values())
