"""The first answer counts, and a fault only when nobody is left to answer."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from berth.kube.faults import Conflict, Unavailable
from berth.kube.workloads.pressing import pressed

Clock = trio.testing.MockClock
Ask = Callable[[], Awaitable[str]]


def scripted(*answers: tuple[float, str | Exception]) -> tuple[Ask, list[float]]:
    """Answers one request after another, each after its seconds; and when each was asked."""
    asked: list[float] = []

    async def ask() -> str:
        seconds, answer = answers[len(asked)]
        asked.append(trio.current_time())
        await trio.sleep(seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask, asked


def broken() -> Unavailable:
    return Unavailable("broken", outcome_known=False)


async def test_an_answer_in_time_is_the_only_one(autojump_clock: Clock) -> None:
    ask, asked = scripted((0.4, "first"))
    assert await pressed(ask, late_seconds=0.5) == "first"
    assert asked == [0]


async def test_one_that_is_not_answered_is_asked_again(autojump_clock: Clock) -> None:
    ask, asked = scripted((60, "first"), (0.1, "second"))
    assert await pressed(ask, late_seconds=0.5) == "second"
    assert asked == [0, 0.5]
    assert trio.current_time() == 0.6


async def test_a_late_answer_counts_too(autojump_clock: Clock) -> None:
    ask, _ = scripted((0.8, "first"), (60, "second"))
    assert await pressed(ask, late_seconds=0.5) == "first"


async def test_a_connection_that_breaks_leaves_it_to_the_other(autojump_clock: Clock) -> None:
    ask, _ = scripted((0.6, broken()), (0.5, "second"))
    assert await pressed(ask, late_seconds=0.5) == "second"


async def test_a_connection_that_breaks_before_is_a_fault(autojump_clock: Clock) -> None:
    ask, asked = scripted((0.1, broken()))
    with pytest.raises(Unavailable):
        await pressed(ask, late_seconds=0.5)
    assert asked == [0]


async def test_both_may_fail(autojump_clock: Clock) -> None:
    ask, asked = scripted((5, broken()), (5, broken()))
    with pytest.raises(Unavailable):
        await pressed(ask, late_seconds=0.5)
    assert asked == [0, 0.5]


async def test_a_refusal_decides(autojump_clock: Clock) -> None:
    ask, _ = scripted((60, "first"), (0.1, Conflict("no", status=409)))
    with pytest.raises(Conflict):
        await pressed(ask, late_seconds=0.5)
    assert trio.current_time() == 0.6
