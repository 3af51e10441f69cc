"""Holding a session: many leases on one sign of life, lost and given up together."""

from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from berth.client import Conflict, LeaseLost, OutcomeUnknown, hold_session
from berth.core.names import Key
from berth.core.requests import Acquire, Acquired, NotAcquired
from berth.service.leases import LeaseService
from tests.client.direct import DirectLeases, Mocked, NodeClock, Weather, cut_off_after, serving

TTL = 12  # budget 3, heartbeat 4; the holder's lifetime is 11.976
KEYS = [Key("team", f"lease-{number}") for number in range(50)]


def holding(leases: DirectLeases, holder: str = "a", **terms: Any) -> Any:
    fields = {"holder": holder, "ttl_seconds": TTL, "instance": "i", "clock": NodeClock(), "rng": Random(2)}
    return hold_session(leases, **{**fields, **terms})


async def take_over(service: LeaseService, key: Key) -> object:
    return await service.acquire(key, Acquire("b", TTL * 1_000_000))


async def test_one_renewal_keeps_all_leases_and_the_end_frees_them(autojump_clock: Mocked) -> None:
    async with serving() as service:
        leases = DirectLeases(service)
        async with holding(leases) as held:
            for key in KEYS:
                reply = await held.acquire(*key)
                assert (reply.acquired, reply.fencing_token, reply.session) == (True, 1, held.id)
            await trio.sleep(10 * TTL)
            held.check()
            assert isinstance(await take_over(service, KEYS[7]), NotAcquired)
        assert len([what for _, what in leases.log if what == "renew"]) == pytest.approx(30, abs=1)
        for key in KEYS:
            taken = await take_over(service, key)
            assert isinstance(taken, Acquired)
            assert (taken.view.token, taken.clean_handover) == (2, True)


async def test_the_deadline_is_the_sessions_and_an_acquire_does_not_move_it(autojump_clock: Mocked) -> None:
    async with serving() as service:
        start = trio.current_time()
        leases = DirectLeases(service)
        with pytest.raises(LeaseLost) as lost:
            async with holding(leases) as held:
                leases.weather = lambda what: Weather(lost_there=what == "renew")
                await trio.sleep(8)
                assert (await held.acquire(*KEYS[0])).acquired
                assert held.remaining() == pytest.approx(11.976 - 3 - 8, abs=0.01)
                await trio.sleep_forever()
        assert trio.current_time() - start == pytest.approx(11.976 - 3, abs=0.01)
        assert lost.value.loss == "deadline"


async def test_a_session_that_was_ended_elsewhere_cancels_the_work(autojump_clock: Mocked) -> None:
    async with serving() as service:
        with pytest.raises(LeaseLost) as lost:
            async with holding(DirectLeases(service)) as held:
                await held.acquire(*KEYS[0])
                await service.end_session(held.id, "forced")
                with pytest.raises(Conflict, match="ended"):
                    await held.acquire(*KEYS[1])
                await trio.sleep_forever()
        assert lost.value.loss == "refused"


async def test_nothing_is_taken_under_a_session_that_is_lost(autojump_clock: Mocked) -> None:
    async with serving() as service:
        clock = NodeClock()
        leases = DirectLeases(service)
        with pytest.raises(LeaseLost):
            async with holding(leases, clock=clock) as held:
                clock.suspended_us += 60 * 1_000_000
                await held.acquire(*KEYS[0])
        assert "acquire" not in [what for _, what in leases.log]
        with pytest.raises(LeaseLost):
            async with holding(leases, clock=clock) as held:
                leases.weather = lambda what: Weather(back_seconds=0.2 if what == "acquire" else 0)

                async def ask() -> None:
                    with pytest.raises(LeaseLost):
                        await held.acquire(*KEYS[1])

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask)
                    await trio.sleep(0.1)
                    clock.suspended_us += 60 * 1_000_000


async def test_who_takes_over_after_the_expiry_gets_the_next_token(autojump_clock: Mocked) -> None:
    async with serving() as service:
        leases = DirectLeases(service, cut_off_after(1, lost_there=True))
        with pytest.raises(LeaseLost):
            async with holding(leases) as held:
                await held.acquire(*KEYS[0])
                await trio.sleep_forever()
        # The work has stopped; the session has not been ended, for nothing goes through.
        assert isinstance(await take_over(service, KEYS[0]), NotAcquired)
        await trio.sleep(TTL)
        taken = await take_over(service, KEYS[0])
        assert isinstance(taken, Acquired)
        assert (taken.view.token, taken.clean_handover) == (2, False)


async def test_one_lease_can_be_given_back_before_the_others(autojump_clock: Mocked) -> None:
    async with serving() as service, holding(DirectLeases(service)) as held:
        for key in KEYS[:2]:
            await held.acquire(*key)
        await held.release(*KEYS[0], fencing_token=1)
        assert isinstance(await take_over(service, KEYS[0]), Acquired)
        assert isinstance(await take_over(service, KEYS[1]), NotAcquired)


async def test_what_is_asked_for_again_without_a_reply_stays_held(autojump_clock: Mocked) -> None:
    async with serving() as service:
        leases = DirectLeases(service)
        async with holding(leases) as held:
            await held.acquire(*KEYS[0])
            leases.weather = lambda what: Weather(lost_back=what == "acquire")
            with pytest.raises(OutcomeUnknown):
                await held.acquire(*KEYS[0])
            leases.weather = lambda _: Weather()
            await trio.sleep(5 * TTL)
            held.check()
            assert isinstance(await take_over(service, KEYS[0]), NotAcquired)


async def test_what_was_taken_without_a_reply_and_is_not_held_is_given_back(autojump_clock: Mocked) -> None:
    async with serving() as service:
        leases = DirectLeases(service)
        async with holding(leases) as held:
            leases.weather = lambda what: Weather(lost_back=what == "acquire")
            with pytest.raises(OutcomeUnknown):
                await held.acquire(*KEYS[0])
            assert isinstance(await take_over(service, KEYS[0]), NotAcquired)
            leases.weather = lambda _: Weather()
            await trio.sleep(TTL)
            assert isinstance(await take_over(service, KEYS[0]), Acquired)


async def test_a_release_without_a_reply_is_made_again(autojump_clock: Mocked) -> None:
    async with serving() as service:
        leases = DirectLeases(service)
        async with holding(leases) as held:
            reply = await held.acquire(*KEYS[0])
            leases.weather = lambda what: Weather(lost_there=what == "release")
            with pytest.raises(OutcomeUnknown):
                await held.release(*KEYS[0], fencing_token=reply.fencing_token)
            leases.weather = lambda _: Weather()
            await trio.sleep(TTL)
            assert isinstance(await take_over(service, KEYS[0]), Acquired)
