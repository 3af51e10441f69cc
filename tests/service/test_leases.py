"""The service as a whole on a mocked clock: the sweep, pages, and the measured store."""

from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing

from berth.core.names import Key
from berth.core.requests import Acquire, Acquired, Lost, Renew
from berth.core.sessions import OpenSession, SessionOver
from berth.service.leases import LeaseService
from berth.service.measured import MeasuredStore
from berth.service.sweeper import FORGET_US, Sweeping
from berth.store.api import Store, StoreFault
from berth.store.memory import MemoryStore
from tests.service.recording import RecordingStore, down
from tests.support.clocks import TrioClock
from tests.support.service import opened

SECOND_US = 1_000_000


def service(
    store: Store, *, interval_seconds: float = 30, grace_seconds: float = 60
) -> AbstractAsyncContextManager[LeaseService]:
    return opened(store, sweeping=Sweeping(interval_seconds, grace_seconds))


def key(number: int, namespace: str = "team") -> Key:
    return Key(namespace, f"lease-{number:04}")


async def acquire(leases: LeaseService, which: Key, holder: str = "a", seconds: int = 10) -> Acquired:
    outcome = await leases.acquire(which, Acquire(holder, seconds * SECOND_US))
    assert isinstance(outcome, Acquired)
    return outcome


async def holders(store: Store, which: Key) -> list[str]:
    record = (await store.read([which])).leases[which].record
    return [tenure.holder for tenure in record.tenures] if record else []


async def test_an_expired_tenure_is_written_down_as_ended_after_the_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore(TrioClock())
    async with service(store) as leases:
        await acquire(leases, key(1))
        await trio.sleep(69)
        assert await holders(store, key(1)) == ["a"], "the grace is not over"
        await trio.sleep(32)
        assert await holders(store, key(1)) == [], "one interval after the grace at the latest"
        observed = await leases.get(key(1))
        assert observed.record is not None
        assert (observed.record.token, observed.record.ended is not None) == (1, True)
        assert (await acquire(leases, key(1), "b")).view.token == 2


async def test_a_renewed_tenure_is_not_swept(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(TrioClock())
    async with service(store, grace_seconds=1) as leases:
        await acquire(leases, key(1))
        for _ in range(40):
            await trio.sleep(5)
            await leases.renew(key(1), Renew("a", 1, 10 * SECOND_US))
        assert await holders(store, key(1)) == ["a"]


async def test_what_was_there_before_the_start_is_swept_too(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(TrioClock())
    async with service(store, interval_seconds=0) as leases:
        for number in range(1203):
            await acquire(leases, key(number))
        await trio.sleep(500)
        assert await holders(store, key(7)) == ["a"], "an interval of 0 sweeps nothing"
    async with service(store):
        await trio.sleep(91)
        for number in (0, 600, 1202):
            assert await holders(store, key(number)) == []


async def test_sessions_are_ended_and_long_after_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore(TrioClock())

    async def stored() -> dict[str, str | None]:
        return {each: seen.session.ended for each, seen in (await store.sessions(None, 10)).sessions.items()}

    async with service(store, interval_seconds=0) as leases:
        for name in ("lost", "ended"):
            await leases.open_session(OpenSession(name, "a", "", 10 * SECOND_US))
        await leases.acquire(key(1), Acquire("a", session="lost"))
        await leases.end_session("ended", "clean")
        await trio.sleep(10 * FORGET_US / SECOND_US)
        assert await stored() == {"lost": None, "ended": "clean"}, "an interval of 0 sweeps nothing"
    async with service(store) as leases:
        await leases.open_session(OpenSession("living", "a", "", 1000 * SECOND_US))
        await trio.sleep(200)
        assert await stored() == {"lost": "expired", "ended": "clean", "living": None}
        assert await holders(store, key(1)) == []
        for _ in range(16):
            await trio.sleep(500)
            await leases.renew_session("living")
        assert await stored() == {"living": None}
        assert await leases.renew_session("lost") == SessionOver("unknown")


async def test_the_sweep_survives_a_store_that_is_down(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(MemoryStore(TrioClock()))
    async with service(store) as leases:
        await acquire(leases, key(1))
        await trio.sleep(50)
        store.faults["write"] = [down(outcome_known=True)]
        await trio.sleep(300)
        assert await holders(store, key(1)) == []


async def test_pages_stay_within_their_namespace(autojump_clock: trio.testing.MockClock) -> None:
    async with service(MemoryStore(TrioClock())) as leases:
        for namespace in ("a", "team", "z"):
            for number in range(5):
                await acquire(leases, key(number, namespace))
        first = await leases.page("team", None, 3)
        assert [observed.key for observed in first.items] == [key(number, "team") for number in range(3)]
        assert first.after == key(2, "team")
        second = await leases.page("team", first.after, 3)
        assert [observed.key for observed in second.items] == [key(3, "team"), key(4, "team")]
        assert second.after is None
        elsewhere = await leases.page("team", key(4, "a"), 3)
        assert elsewhere.items[0].key == key(0, "team")
        assert len((await leases.page(None, None, 100)).items) == 15


async def test_the_revision_grows_with_every_change_only(autojump_clock: trio.testing.MockClock) -> None:
    async with service(MemoryStore(TrioClock())) as leases:
        before = leases.feed.revision
        outcome = await leases.renew(key(1), Renew("a", 1, SECOND_US))
        assert isinstance(outcome, Lost)
        assert leases.feed.revision == before
        await acquire(leases, key(1))
        after = leases.feed.revision
        assert after > before
        await acquire(leases, key(1))
        await leases.renew(key(1), Renew("a", 1, SECOND_US))
        assert leases.feed.revision == after, "who keeps what it has changes nothing"


async def test_every_store_call_is_measured_under_its_known_name(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[tuple[str, str]] = []
    behind = RecordingStore(MemoryStore(TrioClock()))
    store = MeasuredStore(
        behind, clock=TrioClock(), observe=lambda call, result, _: seen.append((call, result))
    )
    async with service(store, interval_seconds=0) as leases:
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [("list", "ok")], "all that is held is looked at once"
        seen.clear()
        await acquire(leases, key(1))
        await leases.page(None, None, 10)
        await leases.ping()
        behind.losing.add(key(2))
        with pytest.raises(StoreFault):
            await acquire(leases, key(2))
        behind.faults["read"] = [down(outcome_known=True)]
        with pytest.raises(StoreFault):
            await acquire(leases, key(1))
    assert seen[:4] == [("get", "notfound"), ("put", "ok"), ("list", "ok"), ("ping", "ok")]
    assert ("put", "conflict") in seen
    assert seen[-1] == ("get", "error")
