"""How a lease to hold is got: waited for in line, given back by who gives up, renewed when it comes late."""

from typing import Any

import pytest
import trio

from berth.client import LeaseNotAcquired, NotAllowed
from berth.client.held import Held
from berth.core.requests import Acquire, Acquired, Release
from tests.client.direct import KEY, TTL, DirectLeases, Mocked, Weather, holder_of, holding, serving


async def test_waiting_ends_with_the_lease_or_with_the_wait(autojump_clock: Mocked) -> None:
    async with serving() as service, trio.open_nursery() as nursery:
        first = DirectLeases(service)

        async def work(seconds: float, *, task_status: trio.TaskStatus[Held]) -> None:
            async with holding(first) as held:
                task_status.started(held)
                await trio.sleep(seconds)

        await nursery.start(work, 20)
        start = trio.current_time()
        with pytest.raises(LeaseNotAcquired, match="held by a") as refused:
            async with holding(DirectLeases(service), "b", wait_seconds=5):
                raise AssertionError
        assert trio.current_time() - start == pytest.approx(5)
        assert refused.value.reply is not None
        async with holding(DirectLeases(service), "b") as held:
            assert held.token == 2
            assert trio.current_time() - start == pytest.approx(20), "the moment it was given up"


async def test_the_next_in_line_has_it_the_moment_it_expires(autojump_clock: Mocked) -> None:
    async with serving() as service:
        await service.acquire(KEY, Acquire("gone", TTL * 1_000_000))
        expiry = trio.current_time() + TTL
        await trio.sleep(2)
        leases = DirectLeases(service)
        async with holding(leases) as held:
            assert trio.current_time() == pytest.approx(expiry, abs=0.01)
            assert held.remaining() == pytest.approx(11.976 - 3 - 2, abs=0.02), "from before it was asked for"
        assert [what for _, what in leases.log] == ["acquire", "wait", "wait", "wait", "release"]


async def test_holders_that_wait_take_their_turns_in_the_order_they_came(autojump_clock: Mocked) -> None:
    async with serving() as service, trio.open_nursery() as nursery:
        turns: list[tuple[str, float]] = []
        start = trio.current_time()

        async def work(name: str) -> None:
            async with holding(DirectLeases(service), name):
                turns.append((name, round(trio.current_time() - start, 3)))
                await trio.sleep(7)

        for name in "abcd":
            nursery.start_soon(work, name)
            await trio.sleep(0.01)
    assert turns == [("a", 0), ("b", 7), ("c", 14), ("d", 21)]


async def test_who_gives_up_in_line_leaves_it_at_once(autojump_clock: Mocked) -> None:
    async with serving() as service:
        await service.acquire(KEY, Acquire("other", 600 * 1_000_000))
        start = trio.current_time()
        with trio.move_on_after(3):
            async with holding(DirectLeases(service)):
                raise AssertionError
        assert trio.current_time() - start == 3
        await service.release(KEY, Release("other", 1))
        assert isinstance(await service.acquire(KEY, Acquire("next", 1_000_000)), Acquired)


async def test_a_server_that_cannot_be_reached_is_asked_again_and_a_wrong_key_is_not(
    autojump_clock: Mocked,
) -> None:
    async with serving() as service:
        down_until = trio.current_time() + 30
        leases = DirectLeases(service, lambda _: Weather(lost_there=trio.current_time() < down_until))
        async with holding(leases) as held:
            assert held.token == 1

        class Forbidden(DirectLeases):
            async def acquire(self, *_: Any, **__: Any) -> Any:
                raise NotAllowed("no", status=403, code="forbidden_holder")

        with pytest.raises(NotAllowed):
            async with holding(Forbidden(service)):
                raise AssertionError


@pytest.mark.parametrize("seconds", [0.3, 0.5])
async def test_who_gives_up_while_it_asks_gives_back_what_is_granted(
    seconds: float, autojump_clock: Mocked
) -> None:
    async with serving() as service:
        leases = DirectLeases(service, lambda _: Weather(there_seconds=0.4, back_seconds=0.4))
        start = trio.current_time()
        with trio.move_on_after(seconds):
            async with holding(leases):
                raise AssertionError
        assert await holder_of(service) is None
        assert [what for _, what in leases.log] == ["acquire", "release"]
        leases.weather = lambda _: Weather(there_seconds=60)
        with trio.move_on_after(seconds):
            async with holding(leases):
                raise AssertionError
        assert trio.current_time() - start < 4, "a silent server is not waited for"


async def test_who_is_cancelled_just_when_it_is_granted_holds_nothing(autojump_clock: Mocked) -> None:
    async with serving() as service:
        with trio.CancelScope() as scope:
            leases = DirectLeases(service)
            grant = leases.acquire

            async def acquire_and_cancel(*where: Any, **terms: Any) -> Any:
                reply = await grant(*where, **terms)
                scope.cancel()
                return reply

            leases.acquire = acquire_and_cancel
            async with holding(leases):
                await trio.sleep_forever()
        assert await holder_of(service) is None


async def test_a_grant_that_comes_too_late_is_renewed_before_the_work_starts(autojump_clock: Mocked) -> None:
    async with serving() as service:
        slow_once = iter([Weather(back_seconds=9.5)])
        leases = DirectLeases(service, lambda _: next(slow_once, Weather()))
        async with holding(leases) as held:
            assert held.remaining() > 8
        assert [what for _, what in leases.log] == ["acquire", "acquire", "release"]


async def test_a_grant_that_leaves_little_time_is_renewed_before_the_work_starts(
    autojump_clock: Mocked,
) -> None:
    async with serving() as service:
        # The first renewal is lost; of the tenure there are 3 s left when it is made.
        ways = iter([Weather(back_seconds=6), Weather(lost_there=True)])
        leases = DirectLeases(service, lambda _: next(ways, Weather()))
        async with holding(leases) as held:
            assert held.remaining() > 8
        assert [what for _, what in leases.log] == ["acquire", "renew", "release"]


async def test_who_gives_up_while_a_late_grant_is_renewed_gives_it_back(autojump_clock: Mocked) -> None:
    async with serving() as service:
        ways = {"acquire": Weather(back_seconds=6), "renew": Weather(there_seconds=60)}
        leases = DirectLeases(service, lambda what: ways.get(what, Weather()))
        with trio.move_on_after(7):
            async with holding(leases):
                raise AssertionError
        assert await holder_of(service) is None


async def test_a_silent_server_is_not_waited_for_longer_than_asked(autojump_clock: Mocked) -> None:
    async with serving() as service:
        start = trio.current_time()
        with pytest.raises(LeaseNotAcquired, match="did not answer"):
            async with holding(DirectLeases(service, lambda _: Weather(there_seconds=600)), wait_seconds=0):
                raise AssertionError
        assert trio.current_time() - start <= 3
