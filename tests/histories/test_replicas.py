"""Two real servers on one store, contended and broken: what they answer is linearizable."""

from pathlib import Path

import pytest
import trio

from tests.histories.backends import NAMES, Name
from tests.histories.operations import read_lines
from tests.histories.run import HISTORY, Plan, run

SECONDS = 12.0


@pytest.mark.parametrize("store", NAMES)
def test_what_two_servers_answer_is_linearizable(store: Name, tmp_path: Path) -> None:
    plan = Plan(store, seed=1, seconds=SECONDS, fault_seconds=0.8)
    told: list[str] = []
    report = trio.run(run, plan, tmp_path, told.append)
    assert not report.violations, "\n".join([*told, *report.violations])
    assert report.reached["tenures"] > plan.keys
    assert report.faults
    assert read_lines(tmp_path / HISTORY) == report.history
