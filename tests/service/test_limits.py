"""Limits: what one tenant may do, and that it costs no other."""

import pytest
import trio.testing

from berth.core.names import Key
from berth.core.requests import Acquire, Release
from berth.runtime.clock import ManualClock
from berth.service.leases import LeaseService
from berth.service.limits import BURST_SECONDS, TENANTS_MAX, Limits, LimitSettings, Places, Rate
from berth.store.memory import MemoryStore
from tests.support.clocks import TrioClock
from tests.support.service import opened

MINUTE = 60_000_000


def taken(rate: Rate, tenant: str, count: int) -> int:
    """How many of so many operations at once are let through."""
    return sum(rate.take(tenant) is None for _ in range(count))


@pytest.mark.parametrize("per_second", [1, 10, 250])
def test_a_rate_is_kept_over_time_and_a_burst_is_let_through(per_second: int) -> None:
    clock = ManualClock(boot_us=1_000_000)
    rate = Rate(per_second, clock.boot_us)
    assert taken(rate, "west", 10_000) == per_second * BURST_SECONDS
    total = 0
    for _ in range(50):
        clock.advance(0.1)
        total += taken(rate, "west", 10_000)
    assert total == pytest.approx(per_second * 5, abs=1)
    clock.advance(1000)
    assert taken(rate, "west", 10_000) == per_second * BURST_SECONDS, "what is saved up is bounded"


def test_it_says_when_there_is_room_again() -> None:
    clock = ManualClock(boot_us=1)
    rate = Rate(10, clock.boot_us)
    taken(rate, "west", 20)
    wait_seconds = rate.take("west")
    assert wait_seconds == pytest.approx(0.1)
    clock.advance(0.1)
    assert rate.take("west") is None


def test_tenants_do_not_share_a_rate_and_are_forgotten_when_there_are_too_many() -> None:
    clock = ManualClock(boot_us=1)
    rate = Rate(1, clock.boot_us)
    assert taken(rate, "west", 9) == taken(rate, "east", 9) == 2
    for number in range(TENANTS_MAX):
        rate.take(f"t{number}")
    assert taken(rate, "west", 9) == 2


def test_no_limit_is_none() -> None:
    assert taken(Rate(0, lambda: 0), "west", 100_000) == 100_000


def test_places_are_given_back() -> None:
    places = Places(2)
    with places.one("west") as first, places.one("west") as second:
        assert (first, second) == (True, True)
        with places.one("west") as third, places.one("east") as other:
            assert (third, other) == (False, True)
    with places.one("west") as again:
        assert again


def limits_of(leases: int) -> Limits:
    return Limits(LimitSettings(leases=leases), now_us=TrioClock().boot_us, refused=lambda _: None)


def may_hold(service: LeaseService, *holders: str) -> list[bool]:
    with service.limits.holdings.asking(holders) as may:
        return list(may)


async def test_leases_are_counted_however_they_begin_and_end(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(TrioClock())
    key = [Key("n", f"l{number}") for number in range(4)]
    async with opened(store) as service:
        await service.acquire(key[0], Acquire("west/a", MINUTE))
    async with opened(store, limits=limits_of(2)) as service:
        await trio.testing.wait_all_tasks_blocked()
        assert may_hold(service, "west") == [True], "what was held before the start counts"
        await service.acquire(key[1], Acquire("west/b", 10 * MINUTE))
        assert may_hold(service, "west", "east") == [False, True]
        await service.release(key[1], Release("west/b", 1))
        assert may_hold(service, "west/x", "west/y") == [True, False], "those asked for at once count too"
        await service.acquire(key[2], Acquire("west", 10 * MINUTE))
        assert may_hold(service, "west") == [False]
        await trio.sleep(61)
        assert may_hold(service, "west") == [True], "an expiry gives room"


async def test_what_is_being_asked_for_counts_until_it_is_answered() -> None:
    async with opened(MemoryStore(TrioClock()), limits=limits_of(2)) as service:
        holdings = service.limits.holdings
        with (
            holdings.asking(["west"]),
            holdings.asking(["west"]) as second,
            holdings.asking(["west"]) as third,
        ):
            assert (second, third) == ([True], [False])
        assert may_hold(service, "west", "west", "west") == [True, True, False]
