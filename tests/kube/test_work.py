"""The queue of objects: one run at a time for each, and again when it is due."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import trio
import trio.testing

from berth.kube.work import RETRY_MAX_SECONDS, WorkQueue
from tests.runtime.conftest import Journal

Handler = Callable[[str], Awaitable[float | None]]
Clock = trio.testing.MockClock


@asynccontextmanager
async def working(
    handle: Handler, journal: Journal, concurrency: int = 2, urgent: str = ""
) -> AsyncGenerator[WorkQueue[str]]:
    queue = WorkQueue(
        handle,
        concurrency=concurrency,
        rng=Random(1),
        logger=journal.logger,
        is_urgent=lambda key: key in urgent,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run)
        yield queue
        nursery.cancel_scope.cancel()


class Runs:
    """A handler that takes some time, and remembers its runs."""

    def __init__(self, seconds: float = 0, again: list[float | None] | None = None) -> None:
        self.seconds = seconds
        self.again = again or []
        self.started: list[tuple[float, str]] = []
        self.now: list[str] = []
        self.most = 0

    async def __call__(self, key: str) -> float | None:
        assert key not in self.now, "one run at a time for each"
        self.started.append((trio.current_time(), key))
        self.now.append(key)
        self.most = max(self.most, len(self.now))
        await trio.sleep(self.seconds)
        self.now.remove(key)
        return self.again.pop(0) if self.again else None


async def test_what_is_added_often_is_looked_at_once(journal: Journal, autojump_clock: Clock) -> None:
    runs = Runs()
    async with working(runs, journal) as queue:
        for _ in range(100):
            queue.add("a")
        await trio.sleep(1)
    assert runs.started == [(0, "a")]


async def test_what_is_added_while_it_runs_is_looked_at_afterwards_once(
    journal: Journal, autojump_clock: Clock
) -> None:
    runs = Runs(seconds=5)
    async with working(runs, journal) as queue:
        queue.add("a")
        await trio.sleep(1)
        for _ in range(10):
            queue.add("a")
        await trio.sleep(20)
    assert runs.started == [(0, "a"), (5, "a")]


async def test_a_slow_object_delays_no_other(journal: Journal, autojump_clock: Clock) -> None:
    async def handle(key: str) -> None:
        done.append(key)
        await trio.sleep(1000 if key == "slow" else 1)

    done: list[str] = []
    async with working(handle, journal) as queue:
        for key in ("slow", "a", "b", "c"):
            queue.add(key)
        await trio.sleep(10)
    assert sorted(done) == ["a", "b", "c", "slow"]


async def test_so_many_at_once_and_no_more(journal: Journal, autojump_clock: Clock) -> None:
    runs = Runs(seconds=1)
    async with working(runs, journal, concurrency=3) as queue:
        for number in range(9):
            queue.add(str(number))
        await trio.sleep(10)
    assert runs.most == 3
    assert [at for at, _ in runs.started] == [0] * 3 + [1] * 3 + [2] * 3


async def test_again_when_it_is_due(journal: Journal, autojump_clock: Clock) -> None:
    runs = Runs(again=[10, 0.5, None])
    async with working(runs, journal) as queue:
        queue.add("a")
        await trio.sleep(100)
    assert runs.started == [(0, "a"), (10, "a"), (10.5, "a")]


async def test_the_newest_run_says_when(journal: Journal, autojump_clock: Clock) -> None:
    runs = Runs(again=[10, 30])
    async with working(runs, journal) as queue:
        queue.add("a")
        await trio.sleep(5)
        queue.add("a")
        await trio.sleep(100)
    assert runs.started == [(0, "a"), (5, "a"), (35, "a")]


async def test_a_run_that_wants_no_other_takes_back_what_was_due(
    journal: Journal, autojump_clock: Clock
) -> None:
    runs = Runs(again=[10, None])
    async with working(runs, journal) as queue:
        queue.add("a")
        await trio.sleep(5)
        queue.add("a")
        await trio.sleep(100)
    assert runs.started == [(0, "a"), (5, "a")]


async def test_later_on_request_and_the_sooner_counts(journal: Journal, autojump_clock: Clock) -> None:
    runs = Runs()
    async with working(runs, journal) as queue:
        for seconds in (30, 20, 40):
            queue.add_after("a", seconds)
        await trio.sleep(100)
    assert runs.started == [(20, "a")]


async def test_failures_are_tried_again_later_each_time_and_told(
    journal: Journal, autojump_clock: Clock
) -> None:
    async def handle(key: str) -> None:
        times.append(trio.current_time())
        if len(times) < 13:
            raise ValueError("not yet")

    times: list[float] = []
    async with working(handle, journal) as queue:
        queue.add("a")
        await trio.sleep(3600)
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert len(pauses) == 12
    assert 0.25 <= pauses[0] <= 0.5
    assert all(RETRY_MAX_SECONDS / 2 <= pause <= RETRY_MAX_SECONDS for pause in pauses[8:])
    assert journal.messages() == ["work on an object failed, trying again"] * 12


async def test_putting_off_over_and_over_does_not_grow(journal: Journal, autojump_clock: Clock) -> None:
    async with working(Runs(), journal) as queue:
        for number in range(20_000):
            queue.add_after("a", 20_000 - number)
        assert len(queue._heap) < 1100


async def test_what_is_urgent_waits_for_nothing_that_is_not(journal: Journal, autojump_clock: Clock) -> None:
    runs = Runs(seconds=5)
    async with working(runs, journal, concurrency=2, urgent="uvwx") as queue:
        for key in "abcduvw":
            queue.add(key)
        await trio.sleep(30)
    # As many as fit in twice the room, the urgent ones first; the others when there is room of their own.
    assert {key for at, key in runs.started if at == 0} == {"u", "v", "w"}
    assert {key for at, key in runs.started if at == 5} == {"a", "b"}
    assert runs.most == 3


async def test_what_waits_and_becomes_urgent_is_looked_at_once(
    journal: Journal, autojump_clock: Clock
) -> None:
    runs, urgent = Runs(seconds=5), set[str]()
    queue = WorkQueue[str](
        runs, concurrency=1, rng=Random(1), logger=journal.logger, is_urgent=urgent.__contains__
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run)
        for key in "abc":
            queue.add(key)
        await trio.sleep(1)
        urgent.add("c")
        queue.add("c")
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert runs.started == [(0, "a"), (1, "c"), (6, "b")]
