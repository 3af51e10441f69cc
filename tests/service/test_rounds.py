"""Rounds: each rule of the module's promise, seen at the store's side."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
import trio.testing

from berth.core.names import Key
from berth.core.records import Record, Session
from berth.core.requests import (
    Acquire,
    Acquired,
    Lost,
    NotAcquired,
    Release,
    Released,
    Renew,
    Renewed,
    Request,
)
from berth.core.sessions import EndSession, OpenSession, RenewSession, SessionAlive, SessionOver
from berth.runtime.clock import ManualClock
from berth.service.asking import Change, LeaseChange, Operation
from berth.service.rounds import ATTEMPTS_MAX, PENDING_MAX, Rounds
from berth.store.api import Store, StoreFault
from berth.store.memory import MemoryStore
from tests.service.recording import RecordingStore, down

SECOND_US = 1_000_000
KEY = Key("team", "db")


class Bench:
    """A memory store on a clock that stands still, and rounds over it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.clock = ManualClock(boot_us=1, wall_us=1_790_000_000 * SECOND_US)
        self.store = RecordingStore(MemoryStore(self.clock))
        self.changes: list[Change] = []
        self.renewals: list[Key] = []
        self.nursery = nursery
        self.rounds = self.another(self.store)

    def another(self, store: Store) -> Rounds:
        """As another server on the same store."""
        rounds = Rounds(
            store,
            rng=Random(1),
            on_change=self.changes.append,
            on_renewals=lambda keys, _: self.renewals.extend(keys),
        )
        self.nursery.start_soon(rounds.run)
        return rounds

    async def acquire(self, holder: str, key: Key = KEY, **fields: object) -> object:
        request: Request = Acquire(holder, **{"ttl_us": 10 * SECOND_US, **fields})  # type: ignore[arg-type]
        return await self.rounds.ask(key, request)


@asynccontextmanager
async def bench() -> AsyncGenerator[Bench]:
    async with trio.open_nursery() as nursery:
        yield Bench(nursery)
        nursery.cancel_scope.cancel()


def key(number: int) -> Key:
    return Key("team", f"lease-{number}")


async def test_requests_that_arrive_while_a_round_is_in_flight_share_the_next_one() -> None:
    async with bench() as at, trio.open_nursery() as nursery:
        at.store.gate = trio.Event()
        nursery.start_soon(at.acquire, "a", key(0))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(1, 200):
            nursery.start_soon(at.acquire, "a", key(number))
        await trio.testing.wait_all_tasks_blocked()
        assert at.store.reads == [{key(0)}], "the round in flight was closed before its read"
        at.store.gate.set()
        at.store.gate = None
    assert [len(writes) for writes in at.store.writes] == [1, 199]


async def test_no_answer_leaves_before_the_write_behind_it() -> None:
    async with bench() as at, trio.open_nursery() as nursery:
        await at.acquire("a")
        at.store.gate = trio.Event()
        answers: list[object] = []

        async def ask(request: Request) -> None:
            answers.append(await at.rounds.ask(KEY, request))

        # The refusal of b rests on nothing that is being written, and still waits for its round.
        nursery.start_soon(ask, Acquire("a", ttl_us=20 * SECOND_US))
        nursery.start_soon(ask, Acquire("b", ttl_us=10 * SECOND_US))
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        at.store.gate.set()
    assert {type(answer) for answer in answers} == {Acquired, NotAcquired}


async def test_requests_for_one_lease_act_in_order_and_one_write_carries_them() -> None:
    async with bench() as at:
        ttl_us = 10 * SECOND_US
        answers = await at.rounds.submit(
            [
                Operation(KEY, Acquire("a", ttl_us)),
                Operation(KEY, Acquire("b", ttl_us)),
                Operation(KEY, Release("a", 1)),
                Operation(KEY, Acquire("b", ttl_us)),
                Operation(KEY, Renew("a", 1, ttl_us)),
            ]
        )
        assert [type(answer) for answer in answers] == [Acquired, NotAcquired, Released, Acquired, Lost]
        ((record,),) = at.store.writes
        assert isinstance(record, Record)
        assert (record.version, record.token, record.tenures[0].holder) == (1, 2, "b")


async def test_a_lost_compare_and_swap_is_decided_again_on_a_fresh_read() -> None:
    async with bench() as at, trio.open_nursery() as nursery:
        at.store.gate = trio.Event()
        outcome: list[object] = []

        async def ask() -> None:
            outcome.append(await at.acquire("slow"))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        other = at.another(at.store.store)
        assert isinstance(await other.ask(KEY, Acquire("quick", 10 * SECOND_US)), Acquired)
        at.store.gate.set()
    (answer,) = outcome
    assert isinstance(answer, NotAcquired)
    assert answer.standing.newest is not None
    assert answer.standing.newest.holder == "quick"
    assert len(at.store.reads) == 2
    assert len(at.store.writes) == 1, "what lost is not written again"


async def test_a_renewal_that_loses_to_the_holders_own_renewal_is_made_again() -> None:
    async with bench() as at, trio.open_nursery() as nursery:
        await at.acquire("a")
        other = at.another(at.store.store)
        at.store.gate = trio.Event()
        outcome: list[object] = []

        async def renew() -> None:
            outcome.append(await at.rounds.ask(KEY, Renew("a", 1, 10 * SECOND_US)))

        nursery.start_soon(renew)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(await other.ask(KEY, Renew("a", 1, 10 * SECOND_US)), Renewed)
        at.store.gate.set()
    assert isinstance(outcome[0], Renewed)


async def test_taking_over_from_an_expired_session_ends_it_in_an_earlier_write() -> None:
    async with bench() as at:
        opened = await at.rounds.submit([Operation("s1", OpenSession("s1", "a", "x", 5 * SECOND_US))])
        assert isinstance(opened[0], SessionAlive)
        await at.acquire("a", ttl_us=0, session="s1")
        at.clock.advance(5.000_001)
        at.store.writes.clear()
        taken = await at.acquire("b")
        assert isinstance(taken, Acquired)
        assert taken.view.token == 2
        assert not taken.clean_handover
        first, second = at.store.writes
        assert [type(write) for write in first] == [Session]
        assert [type(write) for write in second] == [Record]
        (renewed,) = await at.rounds.submit([Operation("s1", RenewSession())])
        assert renewed == SessionOver("expired")


async def test_the_round_that_ends_a_session_takes_none_of_its_leases() -> None:
    async with bench() as at:
        await at.rounds.submit([Operation("s1", OpenSession("s1", "a", "x", 5 * SECOND_US))])
        await at.acquire("a", ttl_us=0, session="s1")
        at.store.writes.clear()
        ended, taken = await at.rounds.submit(
            [Operation("s1", EndSession("clean")), Operation(KEY, Acquire("b", 10 * SECOND_US))]
        )
        assert ended == SessionOver("ended")
        # One round reads both, so the lease is judged as it was before the session ended.
        assert isinstance(taken, NotAcquired)
        later = await at.acquire("b")
        assert isinstance(later, Acquired)
        assert later.clean_handover


@pytest.mark.parametrize("call", ["read", "write"])
async def test_a_store_fault_is_told_to_all_who_wait_and_the_next_round_runs(call: str) -> None:
    async with bench() as at:
        at.store.faults[call].append(down(outcome_known=call == "read"))
        operations = [Operation(key(number), Acquire("a", 10 * SECOND_US)) for number in range(3)]
        answers = await at.rounds.submit(operations)
        assert [type(answer) for answer in answers] == [StoreFault] * 3
        assert isinstance(await at.acquire("a"), Acquired)


async def test_a_defect_shown_by_one_lease_is_answered_to_it_alone() -> None:
    async with bench() as at:
        # No check on the wire lets such a request through; the core asserts against it.
        poison = Operation(key(1), Acquire("a", ttl_us=0))
        answers = await at.rounds.submit([poison, Operation(key(2), Acquire("a", 10 * SECOND_US))])
        assert isinstance(answers[0], AssertionError)
        assert isinstance(answers[1], Acquired)
        with pytest.raises(AssertionError):
            await at.rounds.ask(key(1), Acquire("a", ttl_us=0))


async def test_endless_contention_ends_with_a_fault_that_changed_nothing(autojump_clock: object) -> None:
    async with bench() as at:
        at.store.losing.add(KEY)
        with pytest.raises(StoreFault, match="contend") as raised:
            await at.acquire("a")
        assert raised.value.outcome_known
        assert len(at.store.writes) == ATTEMPTS_MAX
        assert isinstance(await at.acquire("a", key(2)), Acquired)


async def test_who_gives_up_before_his_round_begins_leaves_no_trace() -> None:
    async with bench() as at, trio.open_nursery() as nursery:
        at.store.gate = trio.Event()
        nursery.start_soon(at.acquire, "a", key(1))
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as impatient:
                impatient.start_soon(at.acquire, "b", key(2))
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        at.store.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        reading = await at.store.store.read([key(2)])
        assert reading.leases[key(2)].record is None


async def test_what_waits_for_the_store_has_a_limit() -> None:
    async with bench() as at:
        too_many = [Operation(KEY, Release("a", 1))] * (PENDING_MAX + 1)
        answers = await at.rounds.submit(too_many)
        assert isinstance(answers[0], StoreFault)
        assert at.store.reads == []


async def test_every_change_is_told_once_with_what_it_was_decided_on() -> None:
    async with bench() as at:
        await at.acquire("a")
        await at.acquire("b")
        await at.rounds.ask(KEY, Release("a", 1))
        changes = [change for change in at.changes if isinstance(change, LeaseChange)]
        assert [(change.record.version, change.turns[0].before.record is None) for change in changes] == [
            (1, True),
            (2, False),
        ]
        assert [type(change.turns[0].outcome) for change in changes] == [Acquired, Released]


async def test_servers_that_contend_for_one_lease_never_share_a_token() -> None:
    """Three servers on one store, twenty holders each, taking and giving back one lease."""
    async with bench() as at:
        servers = [at.rounds, at.another(at.store.store), at.another(at.store.store)]
        granted: list[tuple[int, str]] = []
        holding: set[str] = set()

        async def work(rounds: Rounds, holder: str) -> None:
            while True:
                outcome = await rounds.ask(KEY, Acquire(holder, 10 * SECOND_US))
                if isinstance(outcome, Acquired):
                    break
                await trio.lowlevel.checkpoint()
            granted.append((outcome.view.token, holder))
            holding.add(holder)
            assert holding == {holder}
            holding.remove(holder)
            assert await rounds.ask(KEY, Release(holder, outcome.view.token)) == Released()

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(work, servers[number % 3], f"holder-{number}")
        assert [token for token, _ in granted] == list(range(1, 61))


async def test_callers_who_come_one_after_the_other_share_a_dear_write(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """64 callers who ask again 1 to 10 ms after their answer: not each has a write of his own."""
    clock = ManualClock(boot_us=1)
    store = RecordingStore(MemoryStore(clock))
    rounds = Rounds(
        store,
        rng=Random(1),
        on_change=lambda _: None,
        on_renewals=lambda _keys, _tenures: None,
        gather_seconds=0.002,
    )

    async def work(number: int) -> None:
        await rounds.ask(key(number), Acquire("a", 10 * SECOND_US))
        for _ in range(20):
            await trio.sleep(0.001 * (1 + number % 10))
            await rounds.ask(key(number), Renew("a", 1, 10 * SECOND_US))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds.run)
        async with trio.open_nursery() as callers:
            for number in range(64):
                callers.start_soon(work, number)
        nursery.cancel_scope.cancel()
    renewals = sum(len(writes) for writes in store.writes) - 64
    assert renewals == 64 * 20
    assert len(store.writes) < renewals / 10


async def test_a_caller_who_is_alone_waits_for_nobody(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(MemoryStore(ManualClock(boot_us=1)))
    rounds = Rounds(
        store,
        rng=Random(1),
        on_change=lambda _: None,
        on_renewals=lambda _keys, _tenures: None,
        gather_seconds=0.002,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds.run)
        start = trio.current_time()
        for _ in range(50):
            await rounds.ask(KEY, Acquire("a", 10 * SECOND_US))
        assert trio.current_time() == start
        nursery.cancel_scope.cancel()


async def test_many_requests_for_one_lease_take_several_rounds_in_order() -> None:
    async with bench() as at:
        ttl_us = 10 * SECOND_US
        operations = [
            Operation(KEY, request)
            for token in range(1, 501)
            for request in (Acquire("a", ttl_us), Release("a", token))
        ]
        answers = await at.rounds.submit(operations)
        assert [type(answer) for answer in answers] == [Acquired, Released] * 500
        assert 1 < len(at.store.writes) < 10


async def test_what_was_asked_together_is_one_round() -> None:
    async with bench() as at, trio.open_nursery() as nursery:
        at.store.gate = trio.Event()
        nursery.start_soon(at.acquire, "a", key(0))
        await trio.testing.wait_all_tasks_blocked()
        for start in (0, 5000):
            nursery.start_soon(
                at.rounds.submit,
                [Operation(key(start + number), Acquire("a", SECOND_US)) for number in range(1, 4000)],
            )
        await trio.testing.wait_all_tasks_blocked()
        at.store.gate.set()
        at.store.gate = None
    assert [len(writes) for writes in at.store.writes] == [1, 7998]
