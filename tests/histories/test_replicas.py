"""Two real servers on one store, contended and broken: what they answer is linearizable, unless a rule is
broken.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import trio

from tests.histories.backends import NAMES, Name
from tests.histories.leases import judge
from tests.histories.operations import Operation, by_key, read_lines
from tests.histories.run import HISTORY, Plan, Report, run
from tests.histories.test_mutations import ALWAYS_WRONG, changed

SECONDS = 12.0
BROKEN_SECONDS = 6.0


@pytest.mark.parametrize("store", NAMES)
def test_what_two_servers_answer_is_linearizable(store: Name, tmp_path: Path) -> None:
    plan = Plan(store, seed=1, seconds=SECONDS, fault_seconds=0.8)
    report = _run(plan, tmp_path)
    assert not report.violations, "\n".join(report.violations)
    assert report.reached["tenures"] > plan.keys
    assert report.faults
    assert read_lines(tmp_path / HISTORY) == report.history
    noticed = [*_noticed(report.history)]
    assert sum(noticed) > len(noticed) / 2


def test_it_is_noticed_where_it_is_not(tmp_path: Path) -> None:
    report = _run(Plan("postgres", seed=1, seconds=BROKEN_SECONDS, breach="reads are stale"), tmp_path)
    assert any(" is wrong: " in violation for violation in report.violations)


def _run(plan: Plan, folder: Path) -> Report:
    return trio.run(run, plan, folder, lambda _: None)


def _noticed(history: list[Operation]) -> Iterator[bool]:
    """Whether a changed reply in a real history is found, for some of them."""
    for operations in by_key(history).values():
        for change in ALWAYS_WRONG:
            wrong = changed(operations, change, Random(1))
            if wrong is not None:
                yield judge(wrong, observes=True).answer == "wrong"
