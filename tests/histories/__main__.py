"""`python -m tests.histories --store STORE [--seconds N] [--seed N] [--faults]`: record, judge, tell.

Exit status 1 when anything was wrong, 2 when the store is not installed.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

import pytest
import trio

from tests.histories.backends import NAMES
from tests.histories.broken import BREACHES
from tests.histories.run import HISTORY, Plan, Report, run

SHOWN = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.histories")
    parser.add_argument("--store", choices=NAMES, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--keys", type=int, default=4)
    parser.add_argument("--faults", action="store_true", help="break something every few seconds")
    parser.add_argument("--broken", choices=BREACHES, default="", help="a rule that the servers break")
    asked = parser.parse_args()
    plan = Plan(
        asked.store,
        asked.seed,
        asked.seconds,
        fault_seconds=2.0 if asked.faults else 0,
        replicas=asked.replicas,
        clients=asked.clients,
        keys=asked.keys,
        breach=asked.broken,
    )
    folder = Path(mkdtemp(prefix="berth-history-"))
    try:
        report = trio.run(run, plan, folder, _say)
    except pytest.skip.Exception as missing:
        _say(f"cannot run: {missing}")
        return 2
    _tell(report, folder)
    return 1 if report.violations else 0


def _tell(report: Report, folder: Path) -> None:
    words = Counter(each.told.word if each.told else "nobody knows" for each in report.history)
    keys = len({each.key for each in report.history} - {""})
    _say(f"{len(report.history)} operations on {keys} leases, checked in {report.steps} steps")
    for title, counts in (
        ("answers", words),
        ("left out", report.left_out),
        ("faults", report.faults),
        ("reached", report.reached),
    ):
        _say(f"{title}: " + (", ".join(f"{what} {count}" for what, count in counts.most_common()) or "none"))
    _say(f"history: {folder / HISTORY}")
    for violation in report.violations[:SHOWN]:
        _say(f"\nVIOLATION: {violation}")
    right = "verdict: linearizable, and nothing else against it"
    _say(f"verdict: WRONG, {len(report.violations)} violations" if report.violations else right)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
