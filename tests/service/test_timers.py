"""Timers: due once, in order, at their instant, and for free when they are put off."""

import trio
import trio.testing

from berth.core.names import Key
from berth.service.timers import SLACK, Timers
from tests.support.clocks import TrioClock

SECOND_US = 1_000_000


def key(number: int) -> Key:
    return Key("team", f"lease-{number:05}")


def in_seconds(seconds: float) -> int:
    return TrioClock().boot_us() + round(seconds * SECOND_US)


async def test_what_is_due_comes_at_its_instant_and_once(autojump_clock: trio.testing.MockClock) -> None:
    timers = Timers(TrioClock())
    start = trio.current_time()
    timers.set(key(1), in_seconds(5))
    timers.set(key(2), in_seconds(3))
    assert await timers.next_due(10) == [key(2)]
    assert trio.current_time() - start == 3
    assert await timers.next_due(10) == [key(1)]
    assert trio.current_time() - start == 5
    assert len(timers) == 0


async def test_putting_off_a_thousand_times_adds_nothing_to_the_heap(
    autojump_clock: trio.testing.MockClock,
) -> None:
    timers = Timers(TrioClock())
    for second in range(1000):
        timers.set(key(1), in_seconds(10 + second))
    assert len(timers._heap) == 1
    start = trio.current_time()
    assert await timers.next_due(10) == [key(1)]
    assert trio.current_time() - start == 1009


async def test_an_earlier_time_wakes_the_waiting_task(autojump_clock: trio.testing.MockClock) -> None:
    timers = Timers(TrioClock())
    timers.set(key(1), in_seconds(50))
    start = trio.current_time()

    async def bring_forward() -> None:
        await trio.sleep(1)
        timers.set(key(2), in_seconds(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring_forward)
        assert await timers.next_due(10) == [key(2)]
        assert trio.current_time() - start == 2
    assert await timers.next_due(10) == [key(1)]
    assert trio.current_time() - start == 50


async def test_bringing_one_key_forward_makes_it_due_once(autojump_clock: trio.testing.MockClock) -> None:
    timers = Timers(TrioClock())
    timers.set(key(1), in_seconds(50))
    timers.set(key(1), in_seconds(5))
    assert await timers.next_due(10) == [key(1)]
    with trio.move_on_after(1000) as scope:
        await timers.next_due(10)
    assert scope.cancelled_caught


async def test_what_is_dropped_never_comes(autojump_clock: trio.testing.MockClock) -> None:
    timers = Timers(TrioClock())
    timers.set(key(1), in_seconds(5))
    timers.drop(key(1))
    timers.drop(key(2))
    with trio.move_on_after(1000) as scope:
        await timers.next_due(10)
    assert scope.cancelled_caught


async def test_a_key_that_comes_and_goes_leaves_no_more_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    timers = Timers(TrioClock())
    timers.set(key(2), in_seconds(7))
    for _ in range(10_000):
        timers.set(key(1), in_seconds(86_400))
        timers.drop(key(1))
    assert len(timers._heap) < 2 * SLACK
    assert await timers.next_due(10) == [key(2)]


async def test_no_more_than_the_limit_comes_at_once(autojump_clock: trio.testing.MockClock) -> None:
    timers = Timers(TrioClock())
    for number in range(25):
        timers.set(key(number), in_seconds(1))
    counts = [len(await timers.next_due(10)) for _ in range(3)]
    assert counts == [10, 10, 5]


async def test_many_are_put_off_at_once_and_those_that_were_not_known_are_set(
    autojump_clock: trio.testing.MockClock,
) -> None:
    timers = Timers(TrioClock())
    timers.set(key(1), in_seconds(1))
    timers.put_off([key(1), key(2)], [in_seconds(4), in_seconds(3)])
    timers.put_off([key(2)], [in_seconds(5)])
    start = trio.current_time()
    assert await timers.next_due(10) == [key(1)]
    assert trio.current_time() - start == 4
    assert await timers.next_due(10) == [key(2)]
    assert trio.current_time() - start == 5
