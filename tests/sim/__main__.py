"""`python -m tests.sim [--first N] [--seeds N] [--mutants | --mutant NAME]`: the numbers in the manual.

Runs seeds and says what they did and what was wrong; or, for each broken rule, how many of the seeds notice.
"""

import argparse
import sys
import time
from collections import Counter

import pytest

from tests.sim.mutants import MUTANTS, MUTANTS_BY_NAME, Mutant
from tests.sim.plan import plan_of
from tests.sim.world import Verdict, simulate


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--mutant", choices=sorted(MUTANTS_BY_NAME))
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.seeds)
    if asked.mutants:
        for mutant in MUTANTS:
            _count(mutant, seeds)
    elif asked.mutant:
        _count(MUTANTS_BY_NAME[asked.mutant], seeds)
    else:
        _sum_up([_told(simulate(plan_of(seed))) for seed in seeds])


def _told(verdict: Verdict) -> Verdict:
    for violation in verdict.ledger.violations:
        _say(f"seed {verdict.seed}: {violation}")
    return verdict


def _sum_up(verdicts: list[Verdict]) -> None:
    ledgers = [verdict.ledger for verdict in verdicts]
    faults = sum((ledger.faults for ledger in ledgers), Counter[str]())
    seen = sum((ledger.seen for ledger in ledgers), Counter[str]())
    simulated_hours = sum(verdict.simulated_seconds for verdict in verdicts) / 3600
    _say(f"{len(verdicts)} seeds, {simulated_hours:.2f} simulated hours, {time.process_time():.0f} s of CPU")
    _say(f"{sum(ledger.requests for ledger in ledgers)} requests, {sum(faults.values())} faults")
    _say(f"{sum(len(ledger.events) for ledger in ledgers)} events")
    _say(f"{sum(bool(ledger.violations) for ledger in ledgers)} seeds with a violation")
    for title, counts in (("faults", faults), ("reached", seen)):
        _say(f"{title}: " + ", ".join(f"{what} {count}" for what, count in counts.most_common()))


def _count(mutant: Mutant, seeds: range) -> None:
    """How many seeds notice the breach, and by what they do."""
    noticed: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as monkeypatch:
        mutant.apply(monkeypatch)
        for seed in seeds:
            plan = plan_of(seed)
            for choice, value in mutant.given.items():
                setattr(plan, choice, value)
            violations = simulate(plan).ledger.violations
            if violations:
                noticed[violations[0].split(": ")[1]] += 1
    what = ", ".join(f"{word} {count}" for word, count in noticed.most_common())
    _say(f"{mutant.name}: {noticed.total()} of {len(seeds)} ({what})")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
