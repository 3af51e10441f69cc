"""What every store owes, as tests: inherit `StoreConformance` beside fixtures named `store` and `clock`.

`clock` moves the time that the store goes by: `advance(seconds)` lets time pass, `step_wall(seconds)` sets
the wall clock. A store whose own time cannot be held still says by `slack_us` how much may pass by itself.
"""

from collections.abc import Collection
from contextlib import aclosing
from typing import Protocol

import pytest
import trio
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import Ended, Observed, Record, Session, Tenure
from berth.core.requests import Acquire, Acquired, Release
from berth.store.api import Store, Write
from tests.store.samples import (
    KEY,
    RECORDS,
    SECOND,
    SESSIONS,
    handed_over,
    held,
    many_keys,
    stored_keys,
    unmarked,
)

DAY_SECONDS = 86_400


class MovableClock(Protocol):
    def advance(self, seconds: float) -> None: ...

    def step_wall(self, seconds: float) -> None: ...


async def read_one(store: Store, key: Key = KEY) -> Observed:
    return (await store.read([key])).leases[key]


async def must_win(store: Store, *writes: Write) -> None:
    won = await store.write([handed_over(write) for write in writes])
    assert won == {write.key if isinstance(write, Record) else write.id for write in writes}


async def scanned(store: Store, after: Key | None, limit: int) -> list[Observed]:
    return [observed async for observed in store.scan(after, limit)]


async def scanned_keys(store: Store, page: int) -> list[Key]:
    """All keys, a page at a time."""
    keys: list[Key] = []
    while found := await scanned(store, keys[-1] if keys else None, page):
        keys += [observed.key for observed in found]
    return keys


class StoreConformance:
    slack_us = 0

    def same_time(self, found_us: int, expected_us: int) -> bool:
        return abs(found_us - expected_us) <= self.slack_us

    # What is written is what is read.

    async def test_what_was_never_written_is_told_as_such(self, store: Store):
        reading = await store.read([KEY], ["s-1"])
        assert reading.leases == {KEY: Observed(KEY, reading.at_us)}
        assert reading.sessions == {}

    @pytest.mark.parametrize("record", RECORDS, ids=range(len(RECORDS)))
    async def test_a_record_comes_back_as_it_was_written(self, store: Store, record: Record):
        await must_win(store, record)
        observed = await read_one(store, record.key)
        assert observed.record is not None
        asked = tuple(tenure.mark for tenure in record.tenures)
        marks = tuple(tenure.mark for tenure in observed.record.tenures)
        assert None not in marks
        assert all(mark in (None, kept) for mark, kept in zip(asked, marks, strict=True))
        assert unmarked(observed.record) == unmarked(record)
        again = replace(observed.record, version=2)
        await must_win(store, again)
        assert (await read_one(store, record.key)).record == again

    async def test_a_session_comes_back_as_it_was_written(self, store: Store):
        await must_win(store, *SESSIONS)
        found = (await store.read([], [session.id for session in SESSIONS])).sessions
        for session in SESSIONS:
            seen = found[session.id].session
            assert seen.mark is not None
            assert session.mark in (None, seen.mark)
            assert unmarked(seen) == unmarked(session)

    async def test_a_later_version_replaces_every_field(self, store: Store):
        await must_win(store, RECORDS[4], SESSIONS[0])
        record = Record(KEY, 2, 10, (Tenure("b", 10, 1, 2),), "at-least-once", 3, 4, Ended(5, 6, True))
        ended = replace(SESSIONS[0], version=2, ended="forced", ended_at_us=9)
        await must_win(store, record, ended)
        reading = await store.read([KEY], [ended.id])
        observed = reading.leases[KEY]
        assert observed.record is not None
        assert unmarked(observed.record) == record
        assert unmarked(reading.sessions[ended.id].session) == ended

    async def test_keys_are_told_apart_byte_by_byte(self, store: Store):
        keys = [Key("a", "b-c"), Key("a-b", "c"), Key("a", "b.c"), Key("a", "b")]
        keys += [Key("a", "B"), Key("a", "b "), Key("a", "\u00e9"), Key("a", "e\u0301"), Key("a", "e")]
        await must_win(store, *(held(key, holder=str(key)) for key in keys))
        found = (await store.read(keys)).leases
        holders = [observed.record.tenures[0].holder for observed in found.values() if observed.record]
        assert holders == [str(key) for key in found]

    async def test_many_keys_in_one_call(self, store: Store):
        keys = many_keys(2_500)
        await must_win(store, *stored_keys(keys[:2_000]))
        found = (await store.read(keys)).leases
        assert [key for key in keys if found[key].record] == keys[:2_000]
        assert len(found) == len(keys)

    async def test_nothing_asked_is_nothing_done(self, store: Store):
        assert await store.write([]) == set()
        reading = await store.read([])
        assert (reading.leases, reading.sessions) == ({}, {})

    async def test_ping_changes_nothing(self, store: Store):
        await store.ping()
        await must_win(store, held())
        before = await read_one(store)
        await store.ping()
        assert (await read_one(store)).record == before.record

    # Compare and swap.

    async def test_only_the_next_version_wins(self, store: Store):
        assert await store.write([held(version=2)]) == set()
        assert (await read_one(store)).record is None
        await must_win(store, held())
        for version in (1, 3, 1_000):
            assert await store.write([held(version=version, holder="loser")]) == set()
        observed = await read_one(store)
        assert observed.record is not None
        assert unmarked(observed.record) == held()
        await must_win(store, held(version=2, holder="next"))

    async def test_a_session_wins_likewise(self, store: Store):
        session = SESSIONS[0]
        assert await store.write([replace(session, version=2)]) == set()
        await must_win(store, session)
        assert await store.write([replace(session, instance="loser")]) == set()
        assert await store.write([replace(session, version=3, instance="loser")]) == set()
        assert unmarked((await store.read([], [session.id])).sessions[session.id].session) == session

    async def test_each_of_a_batch_wins_or_loses_alone(self, store: Store):
        there, new, gap = Key("default", "there"), Key("default", "new"), Key("default", "gap")
        await must_win(store, held(there), SESSIONS[0])
        batch: list[Write] = [
            held(gap, version=5),
            held(there, version=2, holder="next"),
            replace(SESSIONS[0], instance="loser"),
            held(new),
            SESSIONS[1],
        ]
        assert await store.write(batch) == {there, new, SESSIONS[1].id}
        reading = await store.read([there, new, gap], [SESSIONS[0].id])
        versions = [observed.record and observed.record.version for observed in reading.leases.values()]
        assert versions == [2, 1, None]
        assert reading.sessions[SESSIONS[0].id].session.instance == SESSIONS[0].instance

    # Time.

    async def test_idle_is_the_time_since_the_renewal(self, store: Store, clock: MovableClock):
        await must_win(store, held(), SESSIONS[0])
        for elapsed_us in (0, 10 * SECOND, 20 * SECOND):
            reading = await store.read([KEY], [SESSIONS[0].id])
            assert self.same_time(reading.leases[KEY].idle_us[0], elapsed_us)
            assert self.same_time(reading.sessions[SESSIONS[0].id].idle_us, elapsed_us)
            clock.advance(10)

    async def test_only_what_is_renewed_is_marked_anew(self, store: Store, clock: MovableClock):
        shared = Record(KEY, 1, 2, (Tenure("a", 1, 0, 9), Tenure("b", 2, 0, 9)), "at-least-once")
        await must_win(store, shared)
        clock.advance(10)
        before = (await read_one(store)).record
        assert before is not None
        kept, renewed = before.tenures[0], replace(before.tenures[1], mark=None)
        await must_win(store, replace(before, version=2, tenures=(kept, renewed)))
        clock.advance(1)
        idle_us = (await read_one(store)).idle_us
        assert self.same_time(idle_us[0], 11 * SECOND)
        assert self.same_time(idle_us[1], 1 * SECOND)

    async def test_an_end_keeps_the_last_sign_of_life(self, store: Store, clock: MovableClock):
        await must_win(store, SESSIONS[0])
        clock.advance(90)
        seen = (await store.read([], ["s-1"])).sessions["s-1"]
        await must_win(store, replace(seen.session, version=2, ended="expired", ended_at_us=1))
        clock.advance(10)
        assert self.same_time((await store.read([], ["s-1"])).sessions["s-1"].idle_us, 100 * SECOND)

    @pytest.mark.parametrize("step_seconds", [DAY_SECONDS, -DAY_SECONDS])
    async def test_a_step_of_the_wall_clock_ages_nothing(
        self, store: Store, clock: MovableClock, step_seconds: int
    ):
        await must_win(store, held(), SESSIONS[0])
        clock.advance(5)
        clock.step_wall(step_seconds)
        reading = await store.read([KEY], ["s-1"])
        assert self.same_time(reading.leases[KEY].idle_us[0], 5 * SECOND)
        assert self.same_time(reading.sessions["s-1"].idle_us, 5 * SECOND)

    async def test_a_renewal_is_told_as_the_same_instant_in_every_reading(
        self, store: Store, clock: MovableClock
    ):
        await must_win(store, held(), held(Key("default", "b")))
        told: set[int] = set()
        for seconds in (0, 0.000001, 0.3, 7, 10_000):
            clock.advance(seconds)
            clock.step_wall(0.004)  # a wall clock that is slewed
            for observed in (await store.read([KEY, Key("default", "b")])).leases.values():
                told.add(observed.at_us - observed.idle_us[0])
        assert max(told) - min(told) <= self.slack_us

    async def test_one_reading_has_one_instant(self, store: Store):
        await must_win(store, *stored_keys(many_keys(1_000)))
        reading = await store.read(many_keys(1_000))
        assert {observed.at_us for observed in reading.leases.values()} == {reading.at_us}
        assert len({observed.idle_us for observed in reading.leases.values()}) == 1

    # Sessions come with the leases that hang on them.

    async def test_a_reading_holds_the_sessions_its_leases_refer_to(self, store: Store):
        known, gone = held(session="s-1"), held(Key("default", "gone"), session="s-9")
        await must_win(store, known, gone, SESSIONS[0], SESSIONS[1])
        reading = await store.read([KEY, gone.key], ["S-1", "s-unknown"])
        assert reading.sessions.keys() == {"s-1", "S-1"}
        for observed in reading.leases.values():
            assert observed.sessions.keys() >= {"S-1"}
        assert reading.leases[KEY].sessions["s-1"] == reading.sessions["s-1"]
        (first, *_) = await scanned(store, None, 10)
        assert first.sessions["s-1"].session == reading.sessions["s-1"].session

    async def test_sessions_are_paged_in_the_order_of_their_ids(self, store: Store):
        assert (await store.sessions(None, 10)).sessions == {}
        await must_win(store, *(replace(SESSIONS[0], id=f"s-{number:03}") for number in range(0, 500, 2)))
        first = await store.sessions(None, 100)
        assert list(first.sessions) == [f"s-{number:03}" for number in range(0, 200, 2)]
        second = await store.sessions("s-197", 3)
        assert list(second.sessions) == ["s-198", "s-200", "s-202"]
        assert second.sessions["s-198"].session.holder == SESSIONS[0].holder
        assert list((await store.sessions("s-498", 10)).sessions) == []

    # Scan.

    async def test_a_scan_is_paged_and_ordered(self, store: Store):
        keys = many_keys(10_000)
        await must_win(store, *stored_keys(keys))
        assert await scanned_keys(store, 999) == sorted(keys)

    async def test_a_page_begins_beyond_its_key_and_holds_its_limit(self, store: Store):
        assert await scanned(store, None, 10) == []
        keys = sorted(many_keys(10))
        await must_win(store, *stored_keys(keys))
        assert [observed.key for observed in await scanned(store, keys[2], 3)] == keys[3:6]
        between = Key(keys[2].namespace, keys[2].name + "-")
        assert [observed.key for observed in await scanned(store, between, 1)] == keys[3:4]
        assert await scanned(store, keys[-1], 3) == []
        assert await scanned(store, None, 0) == []

    async def test_a_scan_misses_nothing_while_others_write(self, store: Store):
        before, later = many_keys(2_000)[::2], many_keys(2_000)[1::2]
        await must_win(store, *stored_keys(before))
        async with trio.open_nursery() as nursery:
            for n in range(0, 1_000, 100):
                nursery.start_soon(store.write, stored_keys(later[n : n + 100]))
            found = await scanned_keys(store, 300)
        assert found == sorted(set(found))
        assert set(found) >= set(before)

    # Many at once.

    async def test_each_version_has_one_winner(self, store: Store):
        winners: list[int] = []

        async def contend(name: str) -> None:
            for version in range(1, 11):
                if await store.write([held(version=version, holder=name)]):
                    winners.append(version)

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(contend, f"h-{n}")
        assert winners == sorted(set(winners))
        observed = await read_one(store)
        assert observed.record is not None
        assert observed.record.version == winners[-1]

    async def test_there_is_one_holder_at_a_time_and_tokens_grow(self, store: Store):
        tokens: list[int] = []
        active: set[str] = set()

        async def contend(holder: str) -> None:
            for _ in range(5):
                while (token := await acquire(store, holder)) is None:
                    await trio.lowlevel.checkpoint()
                assert not active
                active.add(holder)
                tokens.append(token)
                await store.ping()
                active.remove(holder)
                while not await release(store, holder, token):
                    pass

        async with trio.open_nursery() as nursery:
            for n in range(8):
                nursery.start_soon(contend, f"h-{n}")
        assert tokens == list(range(1, 41))

    # Forgetting.

    async def test_a_session_is_forgotten_once_it_has_ended(self, store: Store):
        living, ended = (Session(each, 1, "edge", "", 60 * SECOND, 1) for each in ("living", "ended"))
        await must_win(store, living, ended)
        await must_win(store, replace(ended, version=2, ended="clean", ended_at_us=1, mark=1))
        await store.forget([living.id, ended.id, "never"])
        reading = await store.read((), [living.id, ended.id])
        assert set(reading.sessions) == {living.id}
        assert set((await store.sessions(None, 10)).sessions) == {living.id}
        await store.forget([])

    # Cancellation.

    @pytest.mark.parametrize("patience", [0, 1, 2, 3, 5, 8, 13, 21])
    async def test_a_cancelled_call_leaves_the_store_usable(self, store: Store, patience: int):
        await must_win(store, held())
        for version in range(2, 7):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.write, [held(version=version, holder="cancelled")])
                nursery.start_soon(store.read, [KEY])
                for _ in range(patience):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            observed = await read_one(store)
            assert observed.record is not None
            if observed.record.version == version - 1:
                await must_win(store, held(version=version))
            else:
                assert unmarked(observed.record) == held(version=version, holder="cancelled")

    async def test_an_abandoned_scan_leaves_the_store_usable(self, store: Store):
        await must_win(store, *stored_keys(many_keys(1_500)))
        async with aclosing(store.scan(None, 1_500)) as scan:
            async for _ in scan:
                break
        assert len(await scanned_keys(store, 1_000)) == 1_500


async def acquire(store: Store, holder: str, key: Key = KEY) -> int | None:
    """The token when this very request won, else None."""
    decision = decide(await read_one(store, key), Acquire(holder, 30 * SECOND))
    if decision.write is None or not await store.write([decision.write]):
        return None
    return decision.outcome.view.token if isinstance(decision.outcome, Acquired) else None


async def release(store: Store, holder: str, token: int, key: Key = KEY) -> Collection[object]:
    decision = decide(await read_one(store, key), Release(holder, token))
    assert decision.write is not None
    return await store.write([decision.write])
