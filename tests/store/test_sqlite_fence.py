"""An SQLite file that was restored and told so: no token is given twice, nothing while a lost grant holds."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import TOKEN_MAX, Ended, Record, Session
from berth.core.requests import Acquire, Acquired, Refused, Renew, Renewed
from berth.runtime.clock import ManualClock
from berth.store.doubts import stretched_us
from berth.store.schema import known_migrations
from berth.store.sqlite import SqliteStore, open_sqlite
from berth.store.sqlite_schema import bring_up_to_date
from tests.store.conformance import must_win, read_one, scanned
from tests.store.samples import KEY, SECOND, held

NEW = Key("default", "new")
HOUR = 3_600 * SECOND


@asynccontextmanager
async def opened(path: Path, clock: ManualClock, boot_id: str = "boot-1") -> AsyncGenerator[SqliteStore]:
    async with open_sqlite(str(path), clock=clock, boot_id=boot_id) as store:
        yield store


async def refusals(store: SqliteStore) -> list[str | None]:
    """What an acquire of each lease is refused with, None where it would be granted."""
    found = (await store.read([KEY, NEW])).leases.values()
    outcomes = [decide(observed, Acquire("other", SECOND)).outcome for observed in found]
    return [outcome.reason if isinstance(outcome, Refused) else None for outcome in outcomes]


async def next_token(store: SqliteStore, key: Key) -> int:
    outcome = decide(await read_one(store, key), Acquire("other", SECOND)).outcome
    assert isinstance(outcome, Acquired)
    return outcome.view.token


async def test_a_jump_grants_nothing_and_then_tokens_that_are_new(path: Path, clock: ManualClock):
    async with opened(path, clock) as store:
        await must_win(store, held(token=7))
        assert await store.change_incarnation(2) == stretched_us(30 * SECOND)
    async with opened(path, clock) as store:
        for _ in range(2):  # from the file, and from what is remembered of it
            assert await refusals(store) == ["quarantine", "quarantine"]
        (listed,) = await scanned(store, None, 10)
        assert listed.quarantine is not None
        renewal = decide(await read_one(store), Renew("edge-1", 7, SECOND))
        assert isinstance(renewal.outcome, Renewed)
        assert renewal.write is not None
        await must_win(store, renewal.write)
        clock.advance(30)
        assert await refusals(store) == ["quarantine", "quarantine"]
        clock.advance(0.1)
        assert (await next_token(store, KEY), await next_token(store, NEW)) == (2_008, 2_001)


async def test_what_was_done_before_the_jump_in_this_process_loses(path: Path, clock: ManualClock):
    async with opened(path, clock) as store:
        await must_win(store, held())
        await store.change_incarnation(1)
        assert await store.write([held(version=2, token=2)]) == set()
        clock.advance(100)
        assert await next_token(store, KEY) == 1_002


async def test_another_boot_does_not_shorten_it(path: Path, clock: ManualClock):
    async with opened(path, clock) as store:
        await must_win(store, held())
        await store.change_incarnation(1)
    later = ManualClock(boot_us=5, wall_us=clock.wall_us() + 1_000 * SECOND)
    async with opened(path, later, "boot-2") as store:
        assert await refusals(store) == ["quarantine", "quarantine"]
        later.advance(31)
        assert await refusals(store) == [None, None]


async def test_the_longest_ttl_is_known_when_nobody_holds_so_long_any_more(path: Path, clock: ManualClock):
    async with opened(path, clock) as store:
        long = held()
        await must_win(
            store, replace(long, tenures=(replace(long.tenures[0], ttl_us=HOUR),), lock_delay_us=5)
        )
        await must_win(store, Record(KEY, 2, 1, (), ended=Ended(1, 2, True)))
        await must_win(store, held(version=3, token=2))
        assert await store.change_incarnation(1) == stretched_us(HOUR + 5)
        await must_win(store, Session("s-1", 1, "edge-1", "", 2 * HOUR, 1))
        assert await store.change_incarnation(1) == stretched_us(2 * HOUR)


async def test_a_file_of_before_knows_the_longest_of_what_it_holds(path: Path, clock: ManualClock):
    first = known_migrations("sqlite")[:1]
    tenures = '[{"holder":"a","token":1,"acquired_at_us":1,"ttl_us":40000000,"session":null,"mark":1}]'
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        bring_up_to_date(db, "auto", first)
        db.execute(
            "INSERT INTO berth_leases (namespace, name, version, token, semantics, lock_delay_us, tenures)"
            " VALUES ('default', 'a', 1, 1, 'at-most-once', 2000000, ?)",
            (tenures,),
        )
    async with opened(path, clock) as store:
        assert (await read_one(store)).token_floor == 0
        assert await store.change_incarnation(1) == stretched_us(42 * SECOND)


@pytest.mark.parametrize("times", [1, TOKEN_MAX])
async def test_a_jump_does_not_go_beyond_the_last_token(path: Path, clock: ManualClock, times: int):
    async with opened(path, clock) as store:
        await must_win(store, held(token=TOKEN_MAX - 10))
        await store.change_incarnation(times)
        renewed = decide(await read_one(store), Renew("edge-1", TOKEN_MAX - 10, SECOND)).outcome
        assert isinstance(renewed, Renewed)
        clock.advance(100)
        assert (await refusals(store))[0] == "token_exhausted"


async def test_jumps_add_up(path: Path, clock: ManualClock):
    async with opened(path, clock) as store:
        await must_win(store, held())
        await store.change_incarnation(1)
        await store.change_incarnation(1)
        clock.advance(100)
        assert (await next_token(store, KEY), await next_token(store, NEW)) == (2_002, 2_001)
