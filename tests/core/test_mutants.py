"""The rules of `core`, broken one by one in a copy of its source: each breach is noticed.

This shows that the searches can fail. A row that no longer finds its text in the source, or whose breach goes
unnoticed, fails: the rule moved, or nothing tests it any more.
"""

import inspect
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from berth.core import decide, sessions, standing
from tests.core.enumeration import SCOPES, enumerate_scope
from tests.core.test_interleavings import SCENES, Scene, moments
from tests.core.test_machine import LeaseMachine
from tests.core.world import Core

MODULES = {"decide": decide, "sessions": sessions, "standing": standing}


def mutant(module: str, rule: str, breach: str) -> Core:
    """The core with `breach` in the place of `rule`, once, in a copy of `module`."""
    copies = {name: inspect.getsource(source) for name, source in MODULES.items()}
    assert copies[module].count(rule) == 1, f"{module} holds {rule!r} once"
    copies[module] = copies[module].replace(rule, breach)
    spaces: dict[str, dict[str, Any]] = {name: {"__name__": MODULES[name].__name__} for name in copies}
    for name in ("standing", "sessions", "decide"):
        exec(compile(copies[name], name, "exec"), spaces[name])
        # The shapes stay what they are: a copy of a class would match nothing.
        spaces[name].update(
            {word: value for word, value in vars(MODULES[name]).items() if isinstance(value, type)}
        )
    for name in ("lives", "standing", "view"):
        spaces["decide"][name] = spaces["standing"][name]
    return Core(spaces["decide"]["decide"], spaces["sessions"]["decide_session"])


QUICK = settings(
    max_examples=300,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def search(core: Core) -> None:
    """Look for a breach, the largest of the small worlds last."""
    *small, largest = SCOPES
    for scope in small:
        enumerate_scope(core, scope)

    class Machine(LeaseMachine):
        decides = core

    run_state_machine_as_test(Machine, settings=QUICK)
    enumerate_scope(core, largest)


def row(name: str, module: str, rule: str, breach: str):
    return pytest.param(module, rule, breach, id=name)


RULES = [
    # Time.
    row("the last instant is lost", "standing", "if left_us >= 0:", "if left_us > 0:"),
    row("an instant too much", "standing", "if left_us >= 0:", "if left_us >= -1:"),
    row("no lock delay", "standing", "if left_us + lock_delay_us >= 0 else after", "if False else after"),
    row(
        "a lock delay cut short", "standing", "lock_delay_us >= 0 else after", "lock_delay_us > 0 else after"
    ),
    row(
        "no lock delay after a session",
        "standing",
        'lock_delay_us, "over")\n        return',
        '0, "over")\n        return',
    ),
    row("an expiry that moves back", "decide", "max(ttl_us, life.left_us)", "ttl_us"),
    row("a renewal without a mark", "decide", "ttl_us=longest_us, mark=None", "ttl_us=longest_us"),
    row("an expired renewal", "decide", "if left_us < 0:", "if False:"),
    # Tokens and those who name them.
    row(
        "a token used again", "decide", "(record.token if record else 0) + 1", "record.token if record else 1"
    ),
    row(
        "a token left out",
        "decide",
        "(record.token if record else 0) + 1",
        "(record.token if record else 0) + 2",
    ),
    row(
        "renewed under any token",
        "decide",
        "if token != request.token or holder != request.holder:",
        "if holder != request.holder:",
    ),
    row(
        "renewed by anybody",
        "decide",
        "if token != request.token or holder != request.holder:",
        "if token != request.token:",
    ),
    row(
        "released under any token",
        "decide",
        "if (life.tenure.holder, life.tenure.token) == (request.holder, request.token)",
        "if life.tenure.holder == request.holder",
    ),
    row(
        "released by anybody",
        "decide",
        "if (life.tenure.holder, life.tenure.token) == (request.holder, request.token)",
        "if life.tenure.token == request.token",
    ),
    row("forced under any token", "decide", "if life.tenure.token == request.token:", "if True:"),
    row("kept by anybody", "decide", "if tenure.holder != request.holder:", "if False:"),
    # Places.
    row("one holder too many", "decide", "len(in_the_way) >= capacity", "len(in_the_way) > capacity"),
    row("semantics changed while held", "decide", "observed.record.semantics != request.semantics", "False"),
    row("a place for the dead", "decide", 'if life.state != "over"]', "]"),
    row("an expiry told as clean", "decide", 'last.end == "clean")', "True)"),
    row(
        "a told holder without a write",
        "decide",
        "Decision(write, _acquired(write, judged, kept, taken=False))",
        "Decision(None, _acquired(write, judged, kept, taken=False))",
    ),
    # Sessions.
    row(
        "a doubtful session taken at once", "standing", 'lock_delay_us, "doubtful")', 'lock_delay_us, "over")'
    ),
    row("taken under an expired session", "decide", " or seen.idle_us > seen.session.ttl_us", ""),
    row("taken under an ended session", "decide", " or seen.session.ended is not None", ""),
    row("taken under another's session", "decide", "seen.session.holder == request.holder", "True"),
    row("an instance for another", "decide", "theirs.instance == ours.instance", "True"),
    row("a tenure changes its session", "decide", "if mine.tenure.session != request.session:", "if False:"),
    row("a session renewed after its end", "sessions", "if seen.idle_us > seen.session.ttl_us:", "if False:"),
    row("a session that does not renew", "sessions", "version + 1, mark=None", "version + 1"),
    row("a live session expires", "sessions", 'how == "expired" and left_us >= 0', "False"),
    row(
        "the last instant of a session",
        "sessions",
        'how == "expired" and left_us >= 0',
        'how == "expired" and left_us > 0',
    ),
    row("an ended session holds on", "standing", 'session.ended in ("clean", "forced")', "False"),
]


@pytest.mark.parametrize(("module", "rule", "breach"), RULES)
def test_a_broken_rule_is_noticed(module: str, rule: str, breach: str):
    core = mutant(module, rule, breach)
    with pytest.raises(AssertionError):
        search(core)


def test_a_session_taken_over_in_one_step_is_noticed_between_two_servers():
    core = mutant("standing", 'lock_delay_us, "doubtful")', 'lock_delay_us, "over")')
    assert any(_breaks(core, scene) for scene in SCENES)


def _breaks(core: Core, scene: Scene) -> bool:
    try:
        return not list(moments(core, scene))
    except AssertionError as breach:
        return "granted while others may act" in str(breach)


def test_an_unbroken_copy_is_not():
    search(mutant("decide", "def decide(", "def decide("))
