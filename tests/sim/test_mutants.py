"""Every broken rule is noticed in its scene, and without the breach nothing is."""

import pytest

from tests.sim.mutants import MUTANTS, Mutant
from tests.sim.scenes import near_plan
from tests.sim.world import simulate


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_rule_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch):
    mutant.apply(monkeypatch)
    verdict = simulate(near_plan(**(mutant.scene_given | mutant.given)), mutant.scene)
    log = "\n".join(verdict.ledger.lines()[-40:])
    assert verdict.ledger.violations, f"nothing was noticed:\n{log}"
    assert f" s: {mutant.breaks}: " in verdict.ledger.violations[0], log


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_unbroken_rule_stands_in_the_same_scene(mutant: Mutant):
    verdict = simulate(near_plan(**mutant.scene_given), mutant.scene)
    assert verdict.ledger.violations == []
    assert verdict.ledger.tenures.total() >= 2, "the other had no turn"
