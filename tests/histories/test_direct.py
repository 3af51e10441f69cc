"""The direct checks, each on a history that it alone has to find."""

import pytest

from tests.histories.direct import Stored, violations
from tests.histories.samples import (
    History,
    alive,
    ended,
    forced,
    grant,
    held,
    lost,
    maybe,
    op,
    opened,
    over,
    refused,
    renew,
)
from tests.histories.tables import RIGHT, WRONG

WRONG_DIRECTLY: dict[str, tuple[History, Stored, str]] = {
    "a lower token later": (
        [held("c", 0, 1, 2, "b"), held("d", 2, 3, 1, "a")],
        Stored(2),
        "a token went back: after 0.000000 to 0.999999, c: get a: held, token 2, of b came 2.000000",
    ),
    "one token of two": (
        [grant("a", 0, 1, 1), refused("b", 0, 1, 1, "c")],
        Stored(1),
        "a token of two holders",
    ),
    "two at a time": (
        [grant("a", 0, 1, 1), grant("b", 9, 9.5, 2)],
        Stored(2),
        "two active on a: a under token 1 from 0.999999 to 9.980000 and b under token 2 from 9.499999",
    ),
    "two at a time, by a renewal": (
        [grant("a", 0, 1, 1), renew("a", 8, 9, 1), grant("b", 11, 12, 2)],
        Stored(2),
        "two active on a",
    ),
    "a third while the first is active": (
        [grant("a", 0, 1, 1), grant("b", 2, 3, 2, ttl=1), grant("c", 4, 5, 3)],
        Stored(3),
        "two active on a: a under token 1 from 0.999999 to 9.980000 and c",
    ),
    "two at a time, by a renewal of the session": (
        [opened("a", 0, 1), grant("a", 1, 2, 1, under="sa"), alive("a", 8, 9), grant("b", 12, 13, 2)],
        Stored(2),
        "two active on a: a under token 1 from 1.999999 to 17.980000 and b",
    ),
    "a grant that was not kept": (
        [grant("a", 0, 1, 1)],
        Stored(0),
        "the store has only token 0 in the end: 0.000000 to 0.999999, a: acquire",
    ),
    "a grant that was kept as another's": (
        [grant("a", 0, 1, 1)],
        Stored(1, "b"),
        "the store has this token as b's",
    ),
}
RIGHT_DIRECTLY: dict[str, History] = {
    "who has sent a release is not active": [
        grant("a", 0, 1, 1),
        maybe("a", "release", 1, 1),
        grant("b", 2, 3, 2),
    ],
    "who was told of the loss is not active": [
        grant("a", 0, 1, 1),
        lost("a", 1, 2, 1, 1),
        grant("b", 2, 3, 2),
    ],
    "who was ended by force is not active": [grant("a", 0, 1, 1), forced(1, 2, 1, "a"), grant("b", 2, 3, 2)],
    "who has sent the end of the session is not active": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        ended("a", 2, 3),
        grant("b", 3, 4, 2),
    ],
    "who was told that it is over is not active": [
        opened("a", 0, 1),
        grant("a", 1, 2, 1, under="sa"),
        over("a", 2, 3),
        grant("b", 3, 4, 2),
    ],
    "a grant does not prolong a session": [
        opened("a", 0, 1),
        grant("a", 8, 9, 1, under="sa"),
        grant("b", 10, 11, 2),
    ],
    "what was told too late was never active": [grant("a", 0, 11, 1), grant("b", 10.5, 10.9, 2)],
    "one that was asked before may tell less": [held("c", 1, 2, 2, "b"), held("d", 0, 3, 1, "a")],
}


@pytest.mark.parametrize("name", WRONG_DIRECTLY)
def test_it_is_noticed(name: str) -> None:
    history, stored, told = WRONG_DIRECTLY[name]
    (violation,) = violations(history, {"a": stored})
    assert violation.startswith(told)


@pytest.mark.parametrize("name", [*RIGHT, *RIGHT_DIRECTLY])
def test_right_histories_are_right(name: str) -> None:
    history = RIGHT_DIRECTLY.get(name) or RIGHT[name]
    assert violations(history, {"a": Stored(99)}) == []


@pytest.mark.parametrize("name", ["two holders", "a token that goes back", "two winners of two"])
def test_wrong_histories_are_wrong(name: str) -> None:
    assert violations(WRONG[name], {"a": Stored(99)}) != []


def test_a_lease_that_is_not_stored_has_no_token() -> None:
    assert violations([op("a", "acquire", 0, 1, "granted", 1, "a", holder="a")], {}) != []
