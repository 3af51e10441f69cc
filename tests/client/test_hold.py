"""Holding, on a mocked clock and a real lease service: alive, cancelled in time, released last."""

from random import Random

import pytest
import trio

from berth.client import LeaseLost, LeaseNotAcquired
from berth.core.requests import ForceRelease
from berth.service.leases import LeaseService
from tests.client.direct import (
    KEY,
    TTL,
    DirectLeases,
    Mocked,
    NodeClock,
    Weather,
    cut_off_after,
    holder_of,
    holding,
    serving,
)


async def test_the_work_runs_under_a_token_and_the_lease_is_given_back(autojump_clock: Mocked) -> None:
    async with serving() as service:
        async with holding(DirectLeases(service)) as held:
            assert (held.token, held.holder, await holder_of(service)) == (1, "a", "a")
            assert 8.9 < held.remaining() < 9
            held.check()
        assert await holder_of(service) is None
        async with holding(DirectLeases(service), "b") as held:
            assert held.token == 2


async def test_a_holder_without_an_instance_of_its_own_gets_one(autojump_clock: Mocked) -> None:
    async with serving() as service, holding(DirectLeases(service), instance=None) as one:
        assert one.holder.startswith("a:")
        with pytest.raises(LeaseNotAcquired):
            async with holding(DirectLeases(service), instance=None, wait_seconds=0):
                raise AssertionError("two of one name must exclude each other")


async def test_it_is_kept_alive_for_as_long_as_the_work_takes(autojump_clock: Mocked) -> None:
    async with serving() as service:
        leases = DirectLeases(service)
        async with holding(leases) as held:
            await trio.sleep(10 * TTL)
            held.check()
            assert held.token == 1
        renewals = [at for at, what in leases.log if what == "renew"]
        assert len(renewals) == pytest.approx(10 * TTL / 4, abs=1)


async def test_the_work_is_cancelled_before_the_deadline_when_nothing_is_heard(
    autojump_clock: Mocked,
) -> None:
    async with serving() as service:
        start = trio.current_time()
        leases = DirectLeases(service, cut_off_after(5, lost_there=True))
        with pytest.raises(LeaseLost) as lost:
            async with holding(leases):
                await trio.sleep_forever()
        # The newest renewal that was granted was sent after 4 s.
        assert trio.current_time() - start == pytest.approx(4 + 11.976 - 3, abs=0.01)
        assert lost.value.loss == "deadline"


async def test_the_deadline_counts_from_before_the_request_was_sent(autojump_clock: Mocked) -> None:
    async with serving() as service:
        start = trio.current_time()
        leases = DirectLeases(service, lambda _: Weather(there_seconds=0.1, back_seconds=3.5))
        with pytest.raises(LeaseLost):
            async with holding(leases) as held:
                assert trio.current_time() - start == pytest.approx(3.6)
                assert held.remaining() == pytest.approx(11.976 - 3 - 3.6, abs=0.01)
                leases.weather = lambda _: Weather(lost_there=True)
                await trio.sleep_forever()
        assert trio.current_time() - start == pytest.approx(11.976 - 3, abs=0.01)


async def test_a_renewal_counts_from_before_it_was_sent(autojump_clock: Mocked) -> None:
    async with serving() as service:
        start = trio.current_time()

        def weather(what: str) -> Weather:
            late = trio.current_time() > start + 5
            return Weather(back_seconds=3.5 if what == "renew" else 0, lost_there=late)

        with pytest.raises(LeaseLost):
            async with holding(DirectLeases(service, weather)):
                await trio.sleep_forever()
        # One renewal was granted: sent after 4 s, its reply was there after 7.5 s.
        assert trio.current_time() - start == pytest.approx(4 + 11.976 - 3, abs=0.01)


async def test_a_reply_that_is_lost_on_the_way_back_prolongs_nothing(autojump_clock: Mocked) -> None:
    async with serving() as service:
        start = trio.current_time()
        leases = DirectLeases(service, cut_off_after(1, lost_back=True))
        with pytest.raises(LeaseLost, match="in time"):
            async with holding(leases):
                await trio.sleep_forever()
        assert trio.current_time() - start == pytest.approx(11.976 - 3, abs=0.01)
        assert [what for _, what in leases.log].count("renew") >= 2, "the server went on renewing"


async def test_a_refusal_cancels_the_work_at_once_and_nothing_is_released(autojump_clock: Mocked) -> None:
    async with serving() as service:
        leases = DirectLeases(service)
        with pytest.raises(LeaseLost) as lost:
            async with holding(leases):
                await trio.sleep(1)
                await service.force_release(KEY, ForceRelease(1))
                await trio.sleep_forever()
        assert lost.value.loss == "refused"
        assert "release" not in [what for _, what in leases.log]


async def test_after_a_suspend_the_work_is_cancelled_within_a_second(autojump_clock: Mocked) -> None:
    async with serving() as service:
        clock = NodeClock()
        woken = trio.current_time() + 0.5
        with pytest.raises(LeaseLost):
            async with holding(DirectLeases(service), clock=clock) as held:
                await trio.sleep_until(woken)
                clock.suspended_us += 3600 * 1_000_000
                with pytest.raises(LeaseLost):
                    held.check()
                await trio.sleep_forever()
        assert trio.current_time() - woken <= 1


async def test_a_wall_clock_set_forward_costs_the_lease_and_set_back_changes_nothing(
    autojump_clock: Mocked,
) -> None:
    async with serving() as service:
        clock = NodeClock()
        async with holding(DirectLeases(service), clock=clock) as held:
            await trio.sleep(1)
            clock.wall_step_us = -86_400 * 1_000_000
            await trio.sleep(3 * TTL)
            assert held.remaining() < 9
        with pytest.raises(LeaseLost):
            async with holding(DirectLeases(service), clock=clock):
                clock.wall_step_us += 86_400 * 1_000_000
                await trio.sleep_forever()


async def test_work_that_does_not_yield_finds_out_by_checking(autojump_clock: Mocked) -> None:
    async with serving() as service:
        clock = NodeClock()
        effects = 0
        with pytest.raises(LeaseLost):
            async with holding(DirectLeases(service), clock=clock) as held:
                while True:
                    held.check()
                    effects += 1
                    clock.suspended_us += 1_000_000  # as if the work took a second without a checkpoint
        assert effects == 9


async def test_the_lease_is_kept_while_the_work_is_stopping_and_released_after(
    autojump_clock: Mocked,
) -> None:
    async with serving() as service:
        leases = DirectLeases(service)
        stopped_at = 0.0
        with trio.move_on_after(2):
            async with holding(leases):
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(5 * TTL)
                    stopped_at = trio.current_time()
                    assert await holder_of(service) == "a"
        assert leases.log[-1] == (stopped_at, "release")
        assert await holder_of(service) is None


async def test_what_the_work_raises_comes_out_as_it_is(autojump_clock: Mocked) -> None:
    async with serving() as service:
        with pytest.raises(ValueError, match="mine"):
            async with holding(DirectLeases(service)):
                raise ValueError("mine")
        assert await holder_of(service) is None


async def test_a_release_that_fails_is_left_to_the_ttl(autojump_clock: Mocked) -> None:
    async with serving() as service:
        start = trio.current_time()
        async with holding(DirectLeases(service, cut_off_after(1, there_seconds=60))):
            await trio.sleep(1)
        assert trio.current_time() - start <= 6.1


async def test_the_first_renewal_is_due_a_heartbeat_after_the_request_was_sent(
    autojump_clock: Mocked,
) -> None:
    async with serving() as service:
        start = trio.current_time()
        leases = DirectLeases(service, lambda what: Weather(back_seconds=3 if what == "acquire" else 0))
        async with holding(leases):
            await trio.sleep(2)
        assert [at - start for at, what in leases.log if what == "renew"] == pytest.approx([4])


async def test_danger_is_told_once_until_a_renewal_goes_through(autojump_clock: Mocked) -> None:
    async with serving() as service:
        start = trio.current_time()
        told: list[tuple[float, float]] = []

        def on_danger(seconds: float) -> None:
            told.append((trio.current_time() - start, seconds))

        def weather(_: str) -> Weather:
            return Weather(lost_there=2 < trio.current_time() - start < 7 or trio.current_time() - start > 30)

        with pytest.raises(LeaseLost):
            async with holding(DirectLeases(service, weather), on_danger=on_danger):
                await trio.sleep_forever()
        assert len(told) == 2
        assert all(0 < seconds < 4 for _, seconds in told)


async def test_what_a_callback_raises_stops_the_work_and_comes_out_as_it_is(autojump_clock: Mocked) -> None:
    async with serving() as service:
        stopped = False

        def on_danger(_: float) -> None:
            raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match="mine"):
            async with holding(DirectLeases(service, cut_off_after(1, lost_there=True)), on_danger=on_danger):
                try:
                    await trio.sleep_forever()
                finally:
                    stopped = True
        assert stopped
        with pytest.raises(SystemExit):
            async with holding(DirectLeases(service), "b", wait_seconds=60):
                raise SystemExit(3)


@pytest.mark.parametrize("budget", [-1, TTL, TTL + 1])
async def test_a_stop_budget_leaves_time_to_work_and_none_beyond_the_end(
    budget: float, autojump_clock: Mocked
) -> None:
    async with serving() as service:
        with pytest.raises(ValueError, match="stop_budget_seconds"):
            async with holding(DirectLeases(service), stop_budget_seconds=budget):
                raise AssertionError


async def test_shared_work_goes_on_while_nothing_is_heard_and_ends_when_refused(
    autojump_clock: Mocked,
) -> None:
    async with serving() as service:
        start = trio.current_time()

        def weather(_: str) -> Weather:
            return Weather(lost_there=1 < trio.current_time() - start < 500)

        with pytest.raises(LeaseLost) as lost:
            async with holding(DirectLeases(service, weather), semantics="at-least-once") as held:
                await trio.sleep(490)
                assert held.lost is None
                await trio.sleep_forever()
        # Its tenure had expired long before; the first renewal that gets through says so.
        assert lost.value.loss == "refused"
        assert trio.current_time() - start == pytest.approx(500, abs=2)


@pytest.mark.parametrize("seed", range(8))
async def test_two_never_work_at_once_whatever_the_network_does(seed: int, autojump_clock: Mocked) -> None:
    """Slow, lossy ways in both directions, and cleanup that takes its time within the stop budget."""
    rng = Random(seed)
    working: set[str] = set()
    worked: list[tuple[str, int]] = []

    def weather(_: str) -> Weather:
        return Weather(
            there_seconds=rng.expovariate(1 / rng.choice([0.01, 0.5, 3])),
            back_seconds=rng.expovariate(1 / rng.choice([0.01, 0.5, 3])),
            lost_there=rng.random() < 0.2,
            lost_back=rng.random() < 0.2,
        )

    async def node(service: LeaseService, name: str) -> None:
        while True:
            try:
                leases = DirectLeases(service, weather)
                async with holding(leases, name, instance=None, rng=Random(rng.random())) as held:
                    assert not working, f"{working} and {name} work at once"
                    working.add(name)
                    worked.append((name, held.token))
                    try:
                        await trio.sleep(rng.uniform(0, 40))
                    finally:
                        with trio.CancelScope(shield=True):
                            await trio.sleep(rng.uniform(0, 2.9))
                        working.remove(name)
            except LeaseLost:
                pass

    async with serving() as service:
        with trio.move_on_after(2000):
            async with trio.open_nursery() as nursery:
                for name in ("a", "b", "c"):
                    nursery.start_soon(node, service, name)
    assert {name for name, _ in worked} == {"a", "b", "c"}
    tokens = [token for _, token in worked]
    assert tokens == sorted(set(tokens))
