"""Moving between stores: what is held stays held under its token, and no file is taken for what it is not."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import Ended, Record, Session, Tenure
from berth.core.requests import Acquire, Acquired, NotAcquired, Renew, Renewed
from berth.runtime.clock import ManualClock
from berth.store.api import Store
from berth.store.mariadb import open_mariadb
from berth.store.memory import MemoryStore
from berth.store.moving import Moved, Unreadable, check_lines, exported, import_lines
from berth.store.postgres import open_postgres
from berth.store.sqlite import open_sqlite
from tests.store.conformance import must_win
from tests.store.samples import SECOND, many_keys
from tests.store.sql_faults import quiet
from tests.support.mariadb import Mariadb
from tests.support.postgres import Postgres

HELD, FREE, UNDER, SHARED = (Key("default", name) for name in ("held", "free", "under", "shared"))


def content() -> tuple[list[Record], list[Session]]:
    records = [
        Record(HELD, 1, 7, (Tenure("edge-1", 7, 5, 30 * SECOND),), lock_delay_us=3),
        Record(FREE, 1, 9, (), ended=Ended(1, 2, True)),
        Record(UNDER, 1, 4, (Tenure("edge-1", 4, 5, 0, "s-1"),)),
        Record(SHARED, 1, 2, (Tenure("a", 1, 0, 9 * SECOND), Tenure("b", 2, 0, SECOND)), "at-least-once", 5),
    ]
    sessions = [
        Session("s-1", 1, "edge-1", "uid", 60 * SECOND, 17),
        Session("s-2", 1, "edge-1", "uid", 60 * SECOND, 17, None, "clean", 18),
    ]
    return records, sessions


async def lines_of(store: Store) -> list[bytes]:
    return [line async for line in exported(store)]


@pytest.fixture
async def lines() -> list[bytes]:
    clock = ManualClock()
    store = MemoryStore(clock)
    records, sessions = content()
    await must_win(store, *records, *sessions)
    clock.advance(25)
    return await lines_of(store)


@pytest.fixture(params=["memory", "sqlite", "postgres", "mariadb"])
async def target(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Store]:
    match request.param:
        case "memory":
            yield MemoryStore(clock)
        case "sqlite":
            async with open_sqlite(str(tmp_path / "berth.db"), clock=clock, boot_id="boot-1") as store:
                yield store
        case "postgres":
            server: Postgres = request.getfixturevalue("postgres_server")
            async with open_postgres(server.source, quiet()[0]) as store:
                yield store
            server.empty()
        case _:
            other: Mariadb = request.getfixturevalue("mariadb_server")
            async with open_mariadb(other.source, quiet()[0]) as store:
                yield store
            other.empty()


async def test_a_move_ends_nothing_early_and_gives_no_token_twice(target: Store, lines: list[bytes]):
    assert check_lines(lines).leases == 4
    assert await import_lines(target, lines) == Moved(4, 2, [])
    leases = (await target.read([HELD, FREE, UNDER, SHARED], ["s-2"])).leases
    assert isinstance(decide(leases[HELD], Renew("edge-1", 7, 30 * SECOND)).outcome, Renewed)
    assert max(leases[HELD].idle_us) < 10 * SECOND, "it counts as renewed by the import"
    for key in (HELD, UNDER):
        assert isinstance(decide(leases[key], Acquire("other", SECOND)).outcome, NotAcquired)
    taken = decide(leases[FREE], Acquire("other", SECOND)).outcome
    assert isinstance(taken, Acquired)
    assert (taken.view.token, taken.clean_handover) == (10, True)
    assert await lines_of(target) == lines


async def test_what_is_there_already_is_left_and_told(target: Store, lines: list[bytes]):
    await must_win(target, replace(content()[0][0], token=50))
    moved = await import_lines(target, lines)
    assert moved == Moved(3, 2, [str(HELD)])
    record = (await target.read([HELD])).leases[HELD].record
    assert record is not None
    assert record.token == 50


async def test_many_pages(clock: ManualClock):
    source, target = MemoryStore(clock), MemoryStore(clock)
    await must_win(source, *(Record(key, 1, 3, (), ended=Ended(1, 2, False)) for key in many_keys(1_501)))
    await must_win(source, *(replace(content()[1][0], id=f"s-{n:04}") for n in range(1_001)))
    lines = await lines_of(source)
    assert await import_lines(target, lines) == Moved(1_501, 1_001, [])
    assert await lines_of(target) == lines


async def test_tokens_of_a_database_that_has_jumped_are_not_gone_below(
    postgres_server: Postgres, lines: list[bytes]
):
    async with open_postgres(postgres_server.source, quiet()[0]) as store:
        await store.change_incarnation(2)
        assert await import_lines(store, lines) == Moved(4, 2, [])
        observed = (await store.read([HELD])).leases[HELD]
        assert isinstance(decide(observed, Renew("edge-1", 7, 30 * SECOND)).outcome, Renewed)
        assert observed.record is not None
        assert observed.record.token > 2_000
    postgres_server.empty()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda lines: lines[:-1], "breaks off"),
        (lambda lines: [], "breaks off"),
        (lambda lines: lines[1:], "out of place"),
        (lambda lines: [*lines, *lines], "out of place"),
        (lambda lines: [*lines[:2], *lines[3:]], "once had"),
        (lambda lines: [lines[0], b"{", *lines[1:]], "line 2"),
        (lambda lines: [b'{"type":"begin","form":2}', *lines[1:]], "later one"),
    ],
)
async def test_what_is_no_whole_export_is_refused(
    lines: list[bytes], spoil: Callable[[list[bytes]], list[bytes]], complaint: str
):
    with pytest.raises(Unreadable, match=complaint):
        check_lines(spoil(lines))
