"""Large batches of renewals: told as they were won, and those that lost asked again."""

import trio
import trio.testing

from berth.core.names import Key
from berth.core.requests import Acquire, Lost, Renew, Renewed
from berth.core.standing import live_views
from berth.service.renewing import AllRenewed
from berth.store.api import StoreFault
from berth.store.memory import MemoryStore
from tests.service.recording import RecordingStore, down
from tests.support.clocks import TrioClock
from tests.support.service import opened

MINUTE = 60_000_000
KEYS = [Key("team", f"lease-{number:03}") for number in range(100)]


async def test_a_batch_is_one_read_and_one_write_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store) as leases:
        for key in KEYS[:-1]:
            await leases.acquire(key, Acquire("a", MINUTE))
        reads, writes = len(store.reads), len(store.writes)
        answers = await leases.renew_many({key: Renew("a", 1, MINUTE) for key in KEYS})
        assert isinstance(answers, list)
        assert [type(answer) for answer in answers] == [Renewed] * 99 + [Lost]
        assert (len(store.reads) - reads, len(store.writes) - writes) == (1, 1)
        renewed = await leases.renew_many({key: Renew("a", 1, 2 * MINUTE) for key in KEYS[:-1]})
        assert isinstance(renewed, AllRenewed)
        assert [(each.token, each.ttl_us) for each in renewed.tenures] == [(1, 2 * MINUTE)] * 99


async def test_one_of_several_holders_is_renewed_among_others(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(MemoryStore(TrioClock())) as leases:
        for key in KEYS:
            await leases.acquire(key, Acquire("a", MINUTE, semantics="at-least-once"))
        await leases.acquire(KEYS[3], Acquire("b", MINUTE, semantics="at-least-once"))
        answers = await leases.renew_many({key: Renew("a", 1, 2 * MINUTE) for key in KEYS})
        assert isinstance(answers, list)
        assert [answer.remaining_us for answer in answers if isinstance(answer, Renewed)] == [
            2 * MINUTE
        ] * 100
        views = live_views(await leases.get(KEYS[3]))
        assert [(view.holder, view.remaining_us) for view in views] == [("a", 2 * MINUTE), ("b", MINUTE)]


async def test_what_loses_is_asked_again_and_nothing_else_waits_for_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store) as leases:
        for key in KEYS:
            await leases.acquire(key, Acquire("a", MINUTE))
        store.losing.add(KEYS[50])
        answers: list[object] = []

        async def renew() -> None:
            told = await leases.renew_many({key: Renew("a", 1, MINUTE) for key in KEYS})
            assert isinstance(told, list)
            answers.extend(told)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(renew)
            await trio.sleep(0.01)
            store.losing.clear()
        assert [type(answer) for answer in answers] == [Renewed] * 100
        observed = await leases.get(KEYS[50])
        assert observed.record is not None
        assert observed.record.version == 2


async def test_a_fault_is_the_answer_to_all(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store) as leases:
        for key in KEYS:
            await leases.acquire(key, Acquire("a", MINUTE))
        store.faults["write"] = [down(outcome_known=False)]
        answers = await leases.renew_many({key: Renew("a", 1, MINUTE) for key in KEYS})
        assert isinstance(answers, list)
        assert [type(answer) for answer in answers] == [StoreFault] * 100
