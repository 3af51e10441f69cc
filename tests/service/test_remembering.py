"""A store that remembers: what is written rests on what it remembers, what is refused on what it reads."""

from collections.abc import Collection, Sequence

import trio
import trio.testing
from msgspec.structs import replace

from berth.core.names import Key
from berth.core.records import Record, Tenure
from berth.core.requests import Acquire, Acquired, Lost, NotAcquired, Release, Renew, Renewed
from berth.core.sessions import OpenSession, SessionOver
from berth.service.asking import Operation
from berth.service.renewing import AllRenewed
from berth.service.sweeper import Sweeping
from berth.store.api import PartlyRead, PartlyWritten, Reading, StoreFault, Write
from berth.store.memory import MemoryStore
from tests.service.recording import RecordingStore, down
from tests.support.clocks import TrioClock
from tests.support.service import opened

MINUTE = 60_000_000
KEYS = [Key("team", f"lease-{number:03}") for number in range(100)]
KEY = KEYS[0]


class Remembering(RecordingStore):
    """Remembers what the memory store holds; while `old` is set, what it held then."""

    def __init__(self) -> None:
        self.memory = MemoryStore(TrioClock())
        super().__init__(self.memory)
        self.old: Reading | None = None
        self.failing: set[Key | str] = set()
        self.unreadable: set[str] = set()

    def recall(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        return self.old if self.old is not None else self.memory._read(keys, sessions)

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        failed = self.unreadable & {*sessions}
        found = await super().read(keys, [each for each in sessions if each not in failed])
        if failed:
            raise PartlyRead(found, dict.fromkeys(failed, down(outcome_known=True)))
        return found

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        mine = [each for each in writes if getattr(each, "key", None) not in self.failing]
        won = await super().write(mine)
        if len(mine) < len(writes):
            raise PartlyWritten(won, dict.fromkeys(self.failing, down(outcome_known=False)))
        return won


async def test_who_is_granted_costs_no_read(autojump_clock: trio.testing.MockClock) -> None:
    store = Remembering()
    async with opened(store, recall=store.recall) as leases:
        await leases.acquire(KEY, Acquire("a", MINUTE))
        assert isinstance(await leases.renew(KEY, Renew("a", 1, MINUTE)), Renewed)
        await leases.release(KEY, Release("a", 1))
        assert store.reads == []
        assert len(store.writes) == 3


async def test_who_is_refused_is_judged_by_a_read(autojump_clock: trio.testing.MockClock) -> None:
    store = Remembering()
    async with opened(store, recall=store.recall) as leases:
        await leases.acquire(KEY, Acquire("a", MINUTE))
        store.old = store.memory._read([KEY], ())
        await store.memory.write([taken(store.old, "b")])  # by a server of which nothing was heard yet
        assert isinstance(await leases.renew(KEY, Renew("b", 2, MINUTE)), Renewed)
        assert store.reads == [{KEY}]
        store.old = store.memory._read([KEY], ())
        refused = await leases.acquire(KEY, Acquire("c", MINUTE))
        assert isinstance(refused, NotAcquired)
        assert store.reads == [{KEY}] * 2


async def test_what_is_written_over_what_was_remembered_loses_and_is_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Remembering()
    async with opened(store, recall=store.recall) as leases:
        await leases.acquire(KEY, Acquire("a", MINUTE))
        store.old = store.memory._read([KEY], ())
        await store.memory.write([taken(store.old, "b")])
        assert isinstance(await leases.renew(KEY, Renew("a", 1, MINUTE)), Lost)
        assert store.reads == [{KEY}]


async def test_a_batch_rests_on_what_is_remembered_and_its_refusals_on_a_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Remembering()
    async with opened(store, recall=store.recall) as leases:
        for key in KEYS:
            await leases.acquire(key, Acquire("a", MINUTE))
        told = await leases.renew_many({key: Renew("a", 1, MINUTE) for key in KEYS})
        assert isinstance(told, AllRenewed)
        assert store.reads == []
        await leases.release(KEY, Release("a", 1))
        answers = await leases.renew_many({key: Renew("a", 1, MINUTE) for key in KEYS})
        assert isinstance(answers, list)
        assert [type(each) for each in answers] == [Lost] + [Renewed] * 99
        assert store.reads == [{KEY}]


async def test_a_session_is_not_over_before_it_was_looked_for(autojump_clock: trio.testing.MockClock) -> None:
    store = Remembering()
    async with opened(store, recall=store.recall) as leases:
        assert isinstance(await leases.renew_session("nobody"), SessionOver)
        assert store.reads == [set()]


async def test_what_ends_with_a_session_is_told_by_a_look_at_the_session(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Remembering()
    async with opened(store, recall=store.recall) as leases:
        await leases.open_session(OpenSession("s", "a", "", MINUTE))
        for key in KEYS:
            await leases.acquire(key, Acquire("a", session="s"))
        store.reads.clear()
        told = leases.feed.open(None, None)
        assert told is not None
        await trio.sleep(61)
        lines = await leases.feed.more(told)
        assert lines is not None
        assert b"".join(lines).count(b'"expired"') == len(KEYS)
        assert store.reads
        assert not any(store.reads), "no lease was read"


async def test_a_session_that_cannot_be_read_keeps_no_other_from_being_swept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Remembering()
    async with opened(store, recall=store.recall, sweeping=Sweeping(30, 60)) as leases:
        for name in ("bad", "good"):
            await leases.open_session(OpenSession(name, "a", "", MINUTE))
        store.unreadable = {"bad"}
        await trio.sleep(300)
        assert ended(store) == {"bad": None, "good": "expired"}
        store.unreadable = set()
        await trio.sleep(31)
        assert ended(store) == {"bad": "expired", "good": "expired"}


def ended(store: Remembering) -> dict[str, str | None]:
    seen = store.memory._read((), ["bad", "good"]).sessions
    return {name: each.session.ended for name, each in seen.items()}


async def test_what_could_not_be_written_is_told_to_those_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Remembering()
    async with opened(store, recall=store.recall) as leases:
        store.failing = {KEYS[1]}
        answers = await leases.many([operation(key) for key in KEYS[:3]])
        assert [type(each) for each in answers] == [Acquired, StoreFault, Acquired]
        store.failing = set()
        await leases.many([operation(key) for key in KEYS])
        store.failing = {KEYS[7]}
        answers = await leases.renew_many({key: Renew("a", 1, MINUTE) for key in KEYS})
        assert isinstance(answers, list)
        assert [type(each) for each in answers] == [Renewed] * 7 + [StoreFault] + [Renewed] * 92


def operation(key: Key) -> Operation:
    return Operation(key, Acquire("a", MINUTE))


def taken(reading: Reading, holder: str) -> Record:
    """The lease as somebody else writes it who takes it over."""
    record = reading.leases[KEY].record
    assert record is not None
    tenure = Tenure(holder, record.token + 1, reading.at_us, MINUTE)
    return replace(record, version=record.version + 1, token=tenure.token, tenures=(tenure,))
