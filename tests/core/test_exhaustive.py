"""Every reachable state of small worlds, and every step from each, judged by the rules.

States count as one when they have the same future: times are taken as distances from now, cut off where they
stop to matter, and tokens by rank. So the search ends by itself, and what it shows holds for histories of
any length: two and three holders, two ttls, lock delays, shared and exclusive, sessions of several instances,
every way to end. In all about 12,000 states and 360,000 steps.
"""

import pytest

from berth.core.requests import Acquire
from tests.core.enumeration import SCOPES, Scope, enumerate_scope
from tests.core.world import Core


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: scope.name)
def test_no_reachable_step_breaks_a_rule(scope: Scope):
    found = enumerate_scope(Core(), scope)
    assert found.states > 100, "the scope reaches next to nothing"


def test_the_search_knows_states_of_the_same_future():
    once = enumerate_scope(Core(), Scope("one holder", (Acquire("a", 1),)))
    # Never held; free, or held at five distances from the last renewal, under the first token or a later one.
    assert once.states == 1 + 2 * (1 + 5)
