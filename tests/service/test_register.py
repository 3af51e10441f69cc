"""The register, on a mocked clock: each change told once, in order, at its instant, and at no cost while it
waits.
"""

from functools import partial
from typing import Any

import trio
import trio.testing

from berth.core.names import Key
from berth.core.requests import Acquire, Acquired, Release, Renew
from berth.core.sessions import OpenSession, SessionAlive
from berth.runtime.log import Logger
from berth.service.asking import Origin
from berth.service.leases import LeaseService
from berth.service.sweeper import Sweeping
from berth.store.memory import MemoryStore
from tests.service.recording import RecordingStore, down
from tests.support.clocks import TrioClock
from tests.support.service import opened

SECOND_US = 1_000_000
MINUTE = 60 * SECOND_US


class Heard:
    """An audit logger that keeps what it is told, and when."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, str, dict[str, Any]]] = []

    def info(self, msg: str, /, **fields: Any) -> None:
        self.lines.append((trio.current_time(), msg, fields))

    warning = debug = error = info

    def told(self) -> list[tuple[str, str, int]]:
        return [(msg, fields["lease"], fields["fencing_token"]) for _, msg, fields in self.lines]


def key(number: int) -> Key:
    return Key("team", f"lease-{number:04}")


async def take(leases: LeaseService, which: Key, holder: str = "a", **terms: Any) -> int:
    outcome = await leases.acquire(which, Acquire(holder, **{"ttl_us": MINUTE, **terms}))
    assert isinstance(outcome, Acquired)
    return outcome.view.token


async def session(leases: LeaseService, name: str = "s", ttl_us: int = MINUTE) -> str:
    outcome = await leases.open_session(OpenSession(name, "a", "", ttl_us))
    assert isinstance(outcome, SessionAlive)
    return name


def hearing() -> tuple[Heard, Logger]:
    heard = Heard()
    return heard, heard


async def test_an_expiry_is_told_once_at_its_instant(autojump_clock: trio.testing.MockClock) -> None:
    heard, audit = hearing()
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store, audit=audit, sweeping=Sweeping(30, 60)) as leases:
        start = trio.current_time()
        await take(leases, key(1))
        writes = len(store.writes)
        await trio.sleep(60.1)
        assert len(store.writes) == writes, "without a write"
        await trio.sleep(300)
        assert len(store.writes) == writes + 1, "the sweep"
        assert heard.told() == [
            ("lease.acquired", "team/lease-0001", 1),
            ("lease.expired", "team/lease-0001", 1),
        ]
        assert round(heard.lines[1][0] - start, 4) == 60.0


async def test_renewals_put_it_off(autojump_clock: trio.testing.MockClock) -> None:
    heard, audit = hearing()
    async with opened(MemoryStore(TrioClock()), audit=audit) as leases:
        await take(leases, key(1))
        for _ in range(10):
            await trio.sleep(50)
            await leases.renew(key(1), Renew("a", 1, MINUTE))
        assert len(heard.lines) == 1
        await trio.sleep(61)
        assert [told[0] for told in heard.told()] == ["lease.acquired", "lease.expired"]


async def test_a_batch_of_renewals_puts_them_all_off(autojump_clock: trio.testing.MockClock) -> None:
    heard, audit = hearing()
    async with opened(MemoryStore(TrioClock()), audit=audit) as leases:
        for number in range(200):
            await take(leases, key(number))
        for _ in range(5):
            await trio.sleep(50)
            await leases.renew_many({key(number): Renew("a", 1, MINUTE) for number in range(200)})
        assert len(heard.lines) == 200
        await trio.sleep(61)
        assert len(heard.lines) == 400


async def test_one_of_several_holders_expires_by_himself(autojump_clock: trio.testing.MockClock) -> None:
    heard, audit = hearing()
    terms = {"semantics": "at-least-once"}
    async with opened(MemoryStore(TrioClock()), audit=audit) as leases:
        await take(leases, key(1), "a", **terms)
        await take(leases, key(1), "b", **terms)
        await trio.sleep(30)
        await leases.renew_many(
            {**{key(n): Renew("x", 1, 1) for n in range(2, 100)}, key(1): Renew("b", 2, MINUTE)}
        )
        await trio.sleep(31)
        assert heard.told()[-1] == ("lease.expired", "team/lease-0001", 1)
        await trio.sleep(30)
        assert heard.told()[-1] == ("lease.expired", "team/lease-0001", 2)


async def test_a_thousand_leases_under_one_session_cost_what_one_costs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    heard, audit = hearing()
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store, audit=audit) as leases:
        await session(leases)
        for number in range(1000):
            await take(leases, key(number), ttl_us=0, session="s")
        reads, writes = len(store.reads), len(store.writes)
        for _ in range(30):
            await trio.sleep(20)
            await leases.renew_session("s")
        assert len(store.writes) - writes == 30
        assert sum(len(keys) for keys in store.reads[reads:]) == 0, "no lease is read while its session lives"
        assert len(heard.lines) == 1000
        await trio.sleep(61)
        ended = heard.told()[1000:]
        assert ended == [("lease.expired", str(key(number)), 1) for number in range(1000)]


async def test_who_ends_a_session_is_named_for_each_of_its_leases(
    autojump_clock: trio.testing.MockClock,
) -> None:
    heard, audit = hearing()
    async with opened(MemoryStore(TrioClock()), audit=audit) as leases:
        await session(leases)
        for number in range(3):
            await take(leases, key(number), ttl_us=0, session="s")
        await leases.end_session("s", "clean", Origin("east", "r1"))
        await trio.testing.wait_all_tasks_blocked()
        ended = heard.lines[3:]
        assert [line[1] for line in ended] == ["lease.released"] * 3
        assert {(line[2]["tenant"], line[2]["request_id"]) for line in ended} == {("east", "r1")}


async def test_a_take_over_before_the_timer_tells_both_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    heard, audit = hearing()
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store, audit=audit) as leases:
        await take(leases, key(1))
        store.faults["read"] = [down(outcome_known=True)]  # the register's look fails
        await trio.sleep(60.5)
        await take(leases, key(1), "b")
        await trio.sleep(5)
        assert [told[0] for told in heard.told()] == ["lease.acquired", "lease.expired", "lease.acquired"]
        previous = heard.lines[-1][2]
        assert (previous["previous_holder"], previous["previous_fencing_token"]) == ("a", 1)
        assert previous["clean_handover"] is False


async def test_after_a_fault_it_looks_again(autojump_clock: trio.testing.MockClock) -> None:
    heard, audit = hearing()
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store, audit=audit) as leases:
        await session(leases)
        await take(leases, key(1))
        await take(leases, key(2), ttl_us=0, session="s")
        store.faults["read"] = [down(outcome_known=True)] * 4
        await trio.sleep(65)
        assert sorted(heard.told()[2:]) == [("lease.expired", str(key(n)), 1) for n in (1, 2)]


async def test_what_ended_before_the_start_is_old_news_and_what_is_held_is_followed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    heard, audit = hearing()
    store = MemoryStore(TrioClock())
    async with opened(store) as leases:
        await take(leases, key(1), ttl_us=SECOND_US)
        await take(leases, key(2))
        await session(leases)
        await take(leases, key(3), ttl_us=0, session="s")
        await take(leases, key(4))
        await leases.release(key(4), Release("a", 1))
        await trio.sleep(2)
    async with opened(store, audit=audit):
        await trio.sleep(100)
        assert sorted(heard.told()) == [("lease.expired", str(key(n)), 1) for n in (2, 3)]


async def test_a_lease_written_before_it_was_listed_is_known_as_it_was(
    autojump_clock: trio.testing.MockClock,
) -> None:
    heard, audit = hearing()
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store.store) as leases:
        for number in range(3):
            await take(leases, key(number))
    async with opened(store, audit=audit) as leases:
        await leases.release(key(2), Release("a", 1))  # the listing has not begun
        await take(leases, key(2), "b")
        await trio.sleep(61)
        assert sorted(heard.told()) == sorted(
            [("lease.released", str(key(2)), 1), ("lease.acquired", str(key(2)), 2)]
            + [("lease.expired", str(key(n)), token) for n, token in ((0, 1), (1, 1), (2, 2))]
        )


async def test_what_is_being_renewed_in_time_is_not_told_as_expired(
    autojump_clock: trio.testing.MockClock,
) -> None:
    heard, audit = hearing()
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store, audit=audit) as leases, trio.open_nursery() as nursery:
        await session(leases)
        await take(leases, key(1))
        await take(leases, key(2), ttl_us=0, session="s")
        await trio.sleep(59)
        store.gate = trio.Event()
        nursery.start_soon(leases.renew, key(1), Renew("a", 1, MINUTE))
        nursery.start_soon(leases.renew_session, "s")
        await trio.sleep(10)
        assert len(heard.lines) == 2, "the writes are on their way"
        store.gate.set()
        store.gate = None
        await trio.sleep(40)
        await leases.renew_session("s")
        assert len(heard.lines) == 2
        await trio.sleep(70)
        assert sorted(heard.told()[2:]) == [("lease.expired", str(key(n)), 1) for n in (1, 2)]


async def test_a_lease_taken_in_the_round_that_ends_its_session_is_told_as_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    heard, audit = hearing()
    store = RecordingStore(MemoryStore(TrioClock()))
    async with opened(store, audit=audit) as leases, trio.open_nursery() as nursery:
        await session(leases)
        store.gate = trio.Event()
        nursery.start_soon(take, leases, key(9))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(leases.end_session, "s", "clean")
        nursery.start_soon(partial(take, leases, key(1), ttl_us=0, session="s"))
        await trio.testing.wait_all_tasks_blocked()
        store.gate.set()
        store.gate = None
        await trio.sleep(1)
        assert heard.told()[1:] == [("lease.acquired", str(key(1)), 1), ("lease.released", str(key(1)), 1)]
