"""Seeds: the runs that the test suite makes, in parts that workers can share, and what they must reach."""

from collections import Counter

import pytest

from tests.sim.plan import plan_of
from tests.sim.world import Verdict, simulate

PARTS = 4
DEFAULT = 200

SITUATIONS = (
    "a change that was watched",
    "a clean hand-over",
    "a clean hand-over by the end of a session",
    "a grant to a waiter",
    "a late duplicate, rejected",
    "a lost reply, then a retry",
    "a quarantine",
    "a takeover after expiry",
    "a takeover after force",
    "a takeover after the expiry of a session",
    "a takeover after the forced end of a session",
)
"""What a set of runs must have met to prove anything."""

ENOUGH = 25
"""Of so many seeds or more, some reach each situation."""

LAST_EVENTS = 40


class Reached:
    """What the seeds of one part have met so far."""

    def __init__(self) -> None:
        self.seeds = 0
        self.situations: Counter[str] = Counter()

    def check(self, verdict: Verdict, *, whole_log: bool) -> None:
        """Take the run in, and fail if something was wrong in it."""
        self.seeds += 1
        self.situations += verdict.ledger.seen
        if verdict.ledger.violations:
            pytest.fail(report(verdict, whole_log=whole_log), pytrace=False)

    def missing(self) -> list[str]:
        return [situation for situation in SITUATIONS if not self.situations[situation]]


def seeds_of(part: int, count: int, only: int | None) -> list[int]:
    """The seeds of one of the parts; a single one is the first part's."""
    if only is not None:
        return [only] if part == 0 else []
    return list(range(part, count, PARTS))


def run(seed: int) -> Verdict:
    return simulate(plan_of(seed))


def report(verdict: Verdict, *, whole_log: bool) -> str:
    lines = verdict.ledger.lines()
    shown = lines if whole_log else lines[-LAST_EVENTS:]
    return "\n".join(
        [
            f"seed {verdict.seed}: " + "; ".join(verdict.ledger.violations),
            f"replay: pytest tests/sim --seed {verdict.seed}",
            "" if whole_log else f"the last {len(shown)} of {len(lines)} events:",
            *shown,
        ]
    )
