"""Start-up: how long until the command line answers, and until a server does."""

import statistics
import sys
import time

from .findings import Finding, Row
from .stage import Stage

ROUNDS = 7


def times(stage: Stage) -> Finding:
    """From the start of the process to its answer."""
    version: list[float] = []
    server: list[float] = []
    for _ in range(ROUNDS):
        begun = time.monotonic()
        stage.load([sys.executable, "-m", "berth", "version"], within_seconds=60)
        version.append(time.monotonic() - begun)
        begun = time.monotonic()
        with stage.berth("sqlite"):
            server.append(time.monotonic() - begun)
    return Finding(
        [
            Row(
                "`berth version`, from its start to its end",
                "",
                f"{1000 * statistics.median(version):.0f} ms",
            ),
            Row(
                "`berth apiserver` on SQLite, until its port answers",
                "",
                f"{1000 * statistics.median(server):.0f} ms",
            ),
        ],
        f"Medians of {ROUNDS}, run from the source tree. Most of it is Python importing what is used.",
    )
