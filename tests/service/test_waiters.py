"""Waiting in line, on a mocked clock: at the instant, in order, and nothing left behind by who gives up."""

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from berth.core.names import Key
from berth.core.requests import Acquire, Acquired, NotAcquired, Release
from berth.service.leases import LeaseService
from berth.service.waiters import KEEP_PLACE_SECONDS, Waited
from berth.store.api import StoreFault
from berth.store.memory import MemoryStore
from tests.service.recording import RecordingStore, down
from tests.support.clocks import TrioClock
from tests.support.service import opened

SECOND_US = 1_000_000
KEY = Key("team", "db")
MINUTE = 60 * SECOND_US


class Line:
    """Callers who wait for one lease, and what came of it."""

    def __init__(self, leases: LeaseService, nursery: trio.Nursery) -> None:
        self.leases = leases
        self.nursery = nursery
        self.granted: list[tuple[float, str]] = []
        self.empty: dict[str, Waited] = {}

    async def wait(self, holder: str, seconds: float = 1000, **terms: Any) -> trio.CancelScope:
        """Stand in line; the scope gives up."""
        scope = trio.CancelScope()
        self.nursery.start_soon(self._wait, holder, seconds, scope, terms)
        await trio.testing.wait_all_tasks_blocked()
        return scope

    async def _wait(
        self, holder: str, seconds: float, scope: trio.CancelScope, terms: dict[str, Any]
    ) -> None:
        request = asked(holder, **terms)
        with scope:
            waited = await self.leases.acquire_waiting(KEY, request, seconds)
            if isinstance(waited.outcome, Acquired):
                self.granted.append((trio.current_time(), holder))
            else:
                self.empty[holder] = waited


def asked(holder: str, **terms: Any) -> Acquire:
    return Acquire(holder, **{"ttl_us": MINUTE, **terms})


async def held(leases: LeaseService, holder: str = "a", **terms: Any) -> int:
    outcome = await leases.acquire(KEY, asked(holder, **terms))
    assert isinstance(outcome, Acquired)
    return outcome.view.token


async def release(leases: LeaseService, holder: str, token: int) -> None:
    await leases.release(KEY, Release(holder, token))
    await trio.testing.wait_all_tasks_blocked()


async def test_a_grant_comes_at_the_instant_after_the_last_of_a_ttl(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        start = trio.current_time()
        await held(leases)
        await line.wait("b")
        reads = len(store.reads)
        await trio.sleep(59)
        assert len(store.reads) == reads, "nobody polls"
        await trio.sleep(2)
        ((granted_at, holder),) = line.granted
        assert (holder, round(granted_at - start, 4)) == ("b", 60.0)


async def test_first_come_first_served(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(MemoryStore(TrioClock())) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        token = await held(leases)
        holders = [f"w{number}" for number in range(50)]
        for holder in holders:
            await line.wait(holder)
        previous = "a"
        for holder in holders:
            await release(leases, previous, token)
            assert line.granted[-1][1] == holder
            previous, token = holder, token + 1


async def test_who_gives_up_while_being_granted_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        token = await held(leases)
        scope = await line.wait("b")
        await line.wait("c")
        store.gate = trio.Event()
        nursery.start_soon(partial(leases.release, KEY, Release("a", token)))
        await trio.testing.wait_all_tasks_blocked()
        store.gate.set()
        store.gate = trio.Event()
        # The write that grants the lease to b is held up; b goes away meanwhile.
        await trio.testing.wait_all_tasks_blocked()
        assert len(store.writes) == 3
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        store.gate.set()
        store.gate = None
        await trio.testing.wait_all_tasks_blocked()
        assert [holder for _, holder in line.granted] == ["c"]
        record = (await leases.get(KEY)).record
        assert record is not None
        assert (record.token, record.tenures[0].holder) == (token + 2, "c")


async def test_one_who_kept_his_own_and_gives_up_keeps_it(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        await held(leases)
        store.gate = trio.Event()
        scope = await line.wait("a")
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        store.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        record = (await leases.get(KEY)).record
        assert record is not None
        assert record.tenures[0].holder == "a", "it was his before he asked"


async def test_a_place_is_kept_for_a_moment(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(MemoryStore(TrioClock())) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        token = await held(leases, ttl_us=10 * MINUTE)
        await line.wait("b", 5)
        await line.wait("c", 100)
        await trio.sleep(5.5)
        assert line.empty["b"].position == 1
        await trio.sleep(KEEP_PLACE_SECONDS - 1)
        await line.wait("b", 5)
        await release(leases, "a", token)
        assert line.granted[-1][1] == "b"
        await release(leases, "b", token + 1)
        assert line.granted[-1][1] == "c"


async def test_a_place_is_not_kept_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(MemoryStore(TrioClock())) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        token = await held(leases, ttl_us=10 * MINUTE)
        await line.wait("b", 5)
        await line.wait("c", 100)
        await trio.sleep(5 + KEEP_PLACE_SECONDS + 0.1)
        await line.wait("b", 5)
        assert (await leases.acquire(KEY, Acquire("d", MINUTE))) is not None
        await release(leases, "a", token)
        assert line.granted[-1][1] == "c"


async def test_one_who_is_between_two_waits_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(MemoryStore(TrioClock())) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        token = await held(leases)
        await line.wait("b", 1)
        await line.wait("c", 100)
        await trio.sleep(1.5)
        await release(leases, "a", token)
        assert line.granted[-1][1] == "c"


async def test_a_plain_acquire_stays_behind_those_who_wait(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        terms = {"semantics": "at-least-once", "max_holders": 2}
        token = await held(leases, **terms)
        await held(leases, "z", **terms)
        await line.wait("b", **terms)
        store.gate = trio.Event()
        nursery.start_soon(partial(leases.release, KEY, Release("a", token)))
        await trio.testing.wait_all_tasks_blocked()
        plain: list[object] = []

        async def ask() -> None:
            plain.append(
                await leases.acquire(KEY, Acquire("c", MINUTE, semantics="at-least-once", max_holders=2))
            )

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        store.gate.set()
        store.gate = None
        await trio.testing.wait_all_tasks_blocked()
        (refused,) = plain
        assert isinstance(refused, NotAcquired)
        assert refused.reason in ("waiters", "held")
        assert line.granted[-1][1] == "b"


async def test_a_fault_is_told_and_the_line_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        token = await held(leases)
        store.faults["read"] = [down(outcome_known=True)]
        with pytest.raises(StoreFault):
            await leases.acquire_waiting(KEY, Acquire("b", MINUTE), 100)
        await line.wait("c")
        await release(leases, "a", token)
        assert line.granted[-1][1] == "c"


async def test_a_server_that_stops_lets_all_go(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(MemoryStore(TrioClock())) as leases, trio.open_nursery() as nursery:
        line = Line(leases, nursery)
        await held(leases)
        await line.wait("b")
        await line.wait("c")
        leases.end_waiting()
        await trio.testing.wait_all_tasks_blocked()
        assert {holder: waited.outcome for holder, waited in line.empty.items()} == {"b": None, "c": None}
        assert await leases.acquire_waiting(KEY, Acquire("d", MINUTE), 100) == Waited(None)
