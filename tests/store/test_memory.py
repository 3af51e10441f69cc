"""The memory store: the contract, and what is its own."""

import pytest

from berth.core.decide import decide
from berth.core.requests import Acquire, Acquired, Refused
from berth.runtime.clock import ManualClock
from berth.store.memory import MemoryStore
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
