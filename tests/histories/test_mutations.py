"""The model accepts whatever `decide` answers, and a single reply that is changed is noticed."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.histories.direct import Stored, violations
from tests.histories.leases import judge
from tests.histories.made import KEY, Made
from tests.histories.operations import Operation, Told, by_key, must_be_whole

OPERATIONS = 60
SEEDS = range(25)
Change = Callable[[Operation, Told], Told | None]
"""What is told instead; None where that cannot be."""


def higher(_: Operation, told: Told) -> Told | None:
    return replace(told, token=told.token + 1) if told.token else None


def lower(_: Operation, told: Told) -> Told | None:
    return replace(told, token=told.token - 1) if told.token > 1 else None


def another(_: Operation, told: Told) -> Told | None:
    return replace(told, holder="nobody") if told.holder else None


def unclean(_: Operation, told: Told) -> Told | None:
    return replace(told, clean=not told.clean) if told.clean is not None else None


def granted(asked: Operation, told: Told) -> Told | None:
    return Told("granted", told.token + 1, asked.holder) if told.word == "held" and asked.holder else None


def kept(asked: Operation, told: Told) -> Told | None:
    return Told("renewed", asked.token, asked.holder) if told.word == "lost" else None


def refused(_: Operation, told: Told) -> Told | None:
    return Told("held", told.token, "h9") if told.word == "granted" else None


def lost(asked: Operation, told: Told) -> Told | None:
    return Told("lost", told.token, asked.holder) if told.word == "renewed" else None


def released(_: Operation, told: Told) -> Told | None:
    return Told("released") if told.word == "not_holder" else None


def not_released(_: Operation, told: Told) -> Told | None:
    return Told("not_holder") if told.word == "released" else None


def forced(asked: Operation, told: Told) -> Told | None:
    return Told("forced", asked.token, "h1") if told.word == "stale_token" else None


def freed(_: Operation, told: Told) -> Told | None:
    return Told("free", told.token) if told.word == "held" else None


def unended(asked: Operation, told: Told) -> Told | None:
    return Told("alive") if told.word == "over" else None


def ended(asked: Operation, told: Told) -> Told | None:
    return Told("over") if told.word == "alive" and asked.kind == "keep" else None


# What is wrong wherever it is told; and what may happen to be right, since instants are not exact: an expiry
# that was near, or an operation of another's at the same time.
ALWAYS_WRONG: list[Change] = [higher, lower, another, refused]
MOSTLY_WRONG: list[Change] = [granted, unclean, kept, lost, released, not_released, forced, freed]
OF_SESSIONS: list[Change] = [unended, ended]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 6), st.sampled_from([0.0, 0.1, 0.2]), st.booleans())
def test_the_model_accepts_what_decide_answers(seed: int, clients: int, lossy: float, sessions: bool) -> None:
    made = Made(seed, operations=OPERATIONS, clients=clients, lossy=lossy, sessions=sessions)
    must_be_whole(made.history)
    for observes in (False, True):
        verdict = judge(_of_lease(made.history), observes=observes)
        assert verdict.answer == "right", verdict.text
    assert violations(made.history, {str(KEY): made.stored}) == []


def _of_lease(history: list[Operation]) -> list[Operation]:
    return by_key(history).get(str(KEY), [])


def changed(history: list[Operation], change: Change, rng: Random) -> list[Operation] | None:
    """The history with one reply changed, or None where none can be."""
    places = [
        (at, told)
        for at, asked in enumerate(history)
        if asked.told is not None and (told := change(asked, asked.told)) is not None
    ]
    if not places:
        return None
    at, told = rng.choice(places)
    return [*history[:at], replace(history[at], told=told), *history[at + 1 :]]


def noticed(change: Change, lossy: float, *, sessions: bool = False) -> tuple[int, int]:
    """How many of how many histories with one changed reply are wrong."""
    counts: Counter[bool] = Counter()
    for seed in SEEDS:
        made = Made(seed, operations=OPERATIONS, lossy=lossy, sessions=sessions)
        wrong = changed(_of_lease(made.history), change, Random(seed))
        if wrong is not None:
            counts[judge(wrong).answer == "wrong"] += 1
    return counts[True], counts.total()


@pytest.mark.parametrize("change", ALWAYS_WRONG, ids=lambda change: change.__name__)
def test_a_changed_reply_is_noticed(change: Change) -> None:
    found, of = noticed(change, 0)
    assert found == of >= len(SEEDS) * 0.9


@pytest.mark.parametrize("change", MOSTLY_WRONG, ids=lambda change: change.__name__)
def test_most_other_changed_replies_are_noticed(change: Change) -> None:
    found, of = noticed(change, 0)
    assert found >= of * 0.6
    assert of >= len(SEEDS) * 0.8


@pytest.mark.parametrize(
    "change", [*ALWAYS_WRONG, *MOSTLY_WRONG, *OF_SESSIONS], ids=lambda change: change.__name__
)
def test_so_it_is_with_sessions(change: Change) -> None:
    found, of = noticed(change, 0, sessions=True)
    assert found >= of * 0.5
    assert of >= len(SEEDS) * 0.6


@pytest.mark.parametrize("change", [*ALWAYS_WRONG, *MOSTLY_WRONG], ids=lambda change: change.__name__)
def test_what_nobody_knows_excuses_little(change: Change) -> None:
    """Where replies were lost, much could have happened; but not just anything."""
    found, of = noticed(change, 0.1)
    assert found >= of * 0.5


def test_a_history_is_checked_to_its_end() -> None:
    """A change of the very last reply counts as well."""
    history = Made(1, operations=OPERATIONS).history
    last = max(history, key=lambda each: each.returned_us or 0)
    assert last.told is not None
    wrong = replace(last, told=Told("granted", 999, last.holder or "h1"), kind="acquire")
    assert judge([*(each for each in history if each is not last), wrong]).answer == "wrong"


def test_stored_is_what_was_stored() -> None:
    made = Made(2, operations=OPERATIONS)
    told = max(each.told.token for each in made.history if each.told is not None)
    assert made.stored.token == told
    assert violations(made.history, {str(KEY): Stored(told - 1)}) != []
