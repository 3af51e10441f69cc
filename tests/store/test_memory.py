"""The memory store: the contract, and what is its own."""

from random import Random

import pytest

from berth.core.decide import decide
from berth.core.requests import Acquire, Acquired, Refused
from berth.runtime.clock import ManualClock
from berth.store.memory import MemoryStore
from berth.store.sortedkeys import SortedKeys
from tests.store.conformance import StoreConformance, must_win, read_one
from tests.store.samples import SECOND, held


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock)


class TestMemoryStore(StoreConformance):
    pass


async def test_a_quarantine_grants_nothing_until_it_is_over(clock: ManualClock):
    store = MemoryStore(clock, quarantine_seconds=30)
    clock.advance(29.999999)
    assert decide(await read_one(store), Acquire("h", SECOND)).outcome == Refused("quarantine", 1)
    clock.advance(0.000001)
    assert isinstance(decide(await read_one(store), Acquire("h", SECOND)).outcome, Acquired)


async def test_people_are_told_the_wall_clock_once_it_has_moved_away(store: MemoryStore, clock: ManualClock):
    await must_win(store, held())
    before = await read_one(store)
    clock.step_wall(0.05)
    assert (await read_one(store)).at_us == before.at_us
    clock.step_wall(0.000001)
    assert (await read_one(store)).at_us == before.at_us + 50_001 == clock.wall_us()


def test_sorted_keys_stay_in_order_however_they_come_and_go() -> None:
    rng = Random(7)
    keys, expected = SortedKeys[str](), set[str]()
    for _ in range(20_000):
        key = f"{rng.randrange(4_000):05}"
        if key in expected and rng.random() < 0.6:
            keys.remove(key)
            expected.remove(key)
        elif key not in expected:
            keys.add(key)
            expected.add(key)
    assert keys.after(None, 10_000) == sorted(expected)
    assert keys.after("02000", 10) == sorted(each for each in expected if each > "02000")[:10]
    for key in sorted(expected):
        keys.remove(key)
    assert keys.after(None, 1) == []
    keys.add("1")
    assert keys.after(None, 9) == ["1"]
