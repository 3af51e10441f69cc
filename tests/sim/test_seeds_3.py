"""Part 3 of the seeds: every run keeps all promises, and together they reach what can break them."""

import pytest

from tests.sim.seeds import ENOUGH, Reached, run

PART = 3


def test_seed(seed: int, reached: Reached, whole_log: bool):
    reached.check(run(seed), whole_log=whole_log)


def test_the_seeds_reach_every_situation(reached: Reached):
    if reached.seeds < ENOUGH:
        pytest.skip(f"{reached.seeds} seeds are too few")
    assert reached.missing() == []
