"""Watches: what is believed of one, how it ends, and how following one goes on over what breaks."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from berth.client import (
    ApiError,
    BerthClient,
    Events,
    Interrupted,
    NotAllowed,
    RevisionTooOld,
    Unreachable,
    follow,
)
from berth.client.servers import ROUNDS
from berth.client.watching import PAUSE_MAX_SECONDS, SILENCE_SECONDS, Sighting
from berth.wire.shapes import LeaseList, LeaseObject, WatchEvent
from tests.client.conftest import Connect, Start
from tests.client.scripted import Scripted, Stall, Step, answer, problem
from tests.client.test_calls import LEASE, PAGE

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
BOOKMARK = {"type": "bookmark", "revision": "r1"}
TAKEN = {"type": "acquired", "revision": "r2", "object": LEASE}


def lines(*told: Any) -> bytes:
    """The beginning of a watch, with these lines."""
    raw = b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in told)
    return HEAD + b"%x\r\n%s\r\n" % (len(raw), raw)


def drained(*told: Any) -> Step:
    async def step(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.send_all(lines(*told) + b"0\r\n\r\n")

    return step


async def test_every_event_is_told_until_the_server_drains(client: BerthClient, server: Scripted) -> None:
    server.will(drained(BOOKMARK, TAKEN), drained(BOOKMARK))
    async with client.watch("default", revision="r&0") as events:
        seen = [(event.type, event.revision) async for event in events]
    assert seen == [("bookmark", "r1"), ("acquired", "r2")]
    async with client.watch() as events:
        assert [event.type async for event in events] == ["bookmark"]
    assert [request.target for request in server.requests] == [
        "/v1alpha1/namespaces/default/leases?watch=true&revision=r%260",
        "/v1alpha1/leases?watch=true",
    ]


async def test_a_watch_can_be_left(client: BerthClient, server: Scripted) -> None:
    server.will(Stall(lines(BOOKMARK, TAKEN)), answer(200, PAGE))
    async with client.watch() as events:
        assert (await anext(events)).type == "bookmark"
    assert (await client.list_page()).revision == "r1"


async def test_a_revision_that_is_too_old_is_told_as_that(client: BerthClient, server: Scripted) -> None:
    server.will(problem(410, "revision_too_old", "list again"))
    with pytest.raises(RevisionTooOld, match="list again"):
        async with client.watch(revision="r0"):
            raise AssertionError
    assert len(server.requests) == 1


async def test_a_server_that_falls_silent_is_unreachable(
    client: BerthClient, server: Scripted, mock_clock: MockClock
) -> None:
    stall = Stall(lines(BOOKMARK))
    server.will(stall)
    async with client.watch() as events:
        await anext(events)
        async with trio.open_nursery() as nursery:

            async def let_time_pass() -> None:
                await trio.testing.wait_all_tasks_blocked(0.01)
                mock_clock.jump(SILENCE_SECONDS)

            nursery.start_soon(let_time_pass)
            with pytest.raises(Unreachable, match="sent nothing for 35 s"):
                await anext(events)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (b"<html>", "the body is not what it must be"),
        ({"type": "painted", "revision": "r2", "object": LEASE}, "painted"),
        ({"type": "acquired", "revision": "r2"}, "of which lease"),
        ({"type": "bookmark", "revision": ""}, "no revision"),
        ({**TAKEN, "object": {**LEASE, "namespace": "other"}}, "of another namespace"),
    ],
)
async def test_nonsense_is_not_believed(client: BerthClient, server: Scripted, told: Any, text: str) -> None:
    server.will(drained(BOOKMARK, told))
    async with client.watch("default") as events:
        await anext(events)
        with pytest.raises(Unreachable, match=text):
            await anext(events)


async def test_a_server_that_lists_instead_of_watching_is_no_answer(
    client: BerthClient, server: Scripted
) -> None:
    server.will(*[answer(200, PAGE)] * ROUNDS)
    with pytest.raises(Unreachable, match="but that is no watch"):
        async with client.watch():
            raise AssertionError


async def test_a_server_that_is_not_there_is_passed_over(start: Start, nobody: str, connect: Connect) -> None:
    server, other = await start(), await start()
    client = await connect(nobody, server, other)
    server.will(problem(503, "shutting_down"))
    other.will(drained(BOOKMARK), answer(200, PAGE))
    async with client.watch() as events:
        assert [event.type async for event in events] == ["bookmark"]
    await client.list_page()
    assert len(other.requests) == 2, "who is watched is also who is asked to list"


Told = Sequence[WatchEvent | Exception]


class Leases:
    """Stands for the client: a list is the next page, a watch tells the next events; a fault is raised."""

    def __init__(self, *calls: LeaseList | Exception | Told) -> None:
        self._calls = [*calls]
        self.asked: list[tuple[float, str]] = []

    def _next(self, what: str) -> Any:
        self.asked.append((trio.current_time(), what))
        call = self._calls.pop(0)
        if isinstance(call, Exception):
            raise call
        return call

    async def list_page(self, namespace: str | None = None, **_: Any) -> LeaseList:
        return cast("LeaseList", self._next("list"))

    @asynccontextmanager
    async def watch(
        self, namespace: str | None = None, *, revision: str | None = None
    ) -> AsyncGenerator[Events]:
        async with aclosing(_tell(self._next(f"watch from {revision or 'now'}"))) as events:
            yield cast("Events", events)


async def _tell(told: Told) -> AsyncGenerator[WatchEvent]:
    for each in told:
        if isinstance(each, Exception):
            raise each
        yield each


def listed(revision: str) -> LeaseList:
    return LeaseList([], revision)


def event(revision: str, kind: Any = "acquired") -> WatchEvent:
    return WatchEvent(kind, revision, LeaseObject("default", "db", "free", "at-most-once", 7, ()))


async def sightings(leases: Leases, count: int) -> list[Sighting]:
    async with follow(leases, rng=Random(1)) as seen:
        return [await anext(seen) for _ in range(count)]


GONE = Unreachable("gone")
DENIED = NotAllowed("no", status=403, code="forbidden_role")


async def test_following_lists_once_it_watches(autojump_clock: MockClock) -> None:
    leases = Leases([event("r1", "bookmark"), event("r2"), event("r3")], listed("r1"))
    seen = [listed("r1"), event("r1", "bookmark"), event("r2"), event("r3")]
    assert await sightings(leases, 4) == seen
    assert [what for _, what in leases.asked] == ["watch from now", "list"]


async def test_it_goes_on_after_a_drain_from_the_last_that_was_heard(autojump_clock: MockClock) -> None:
    leases = Leases(
        [event("r2"), event("r3", "bookmark")], listed("r1"), [event("r4", "bookmark")], [event("r5")]
    )
    seen = [listed("r1"), event("r2"), event("r3", "bookmark"), event("r4", "bookmark"), event("r5")]
    assert await sightings(leases, 5) == seen
    assert [what for _, what in leases.asked] == ["watch from now", "list", "watch from r3", "watch from r4"]


async def test_it_lists_again_where_it_may_have_missed_something(autojump_clock: MockClock) -> None:
    too_old = RevisionTooOld("no", status=410, code="revision_too_old")
    leases = Leases([event("r2"), GONE], listed("r1"), too_old, [event("s2")], listed("s1"))
    seen = [listed("r1"), event("r2"), Interrupted(GONE), listed("s1"), event("s2")]
    assert await sightings(leases, 5) == seen
    asked = ["watch from now", "list", "watch from r2", "watch from now", "list"]
    assert [what for _, what in leases.asked] == asked


async def test_it_tells_that_nothing_is_heard_and_pauses_longer_each_time(autojump_clock: MockClock) -> None:
    busy = ApiError("busy", status=429, code="too_many_connections", retry_after_seconds=30)
    leases = Leases(GONE, [event("r2"), GONE], listed("r1"), busy, *[GONE] * 60, [event("r3")])
    seen = await sightings(leases, 66)
    assert seen[:5] == [Interrupted(GONE), listed("r1"), event("r2"), Interrupted(GONE), Interrupted(busy)]
    assert seen[-1] == event("r3")
    times = [at for at, _ in leases.asked]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert 30 <= pauses[3] <= 30 + PAUSE_MAX_SECONDS
    assert 60 * PAUSE_MAX_SECONDS / 4 < sum(pauses[4:]) < 60 * PAUSE_MAX_SECONDS


async def test_a_list_that_fails_is_made_under_another_watch(autojump_clock: MockClock) -> None:
    leases = Leases([event("r2")], GONE, [event("r3")], listed("r2"))
    assert await sightings(leases, 3) == [Interrupted(GONE), listed("r2"), event("r3")]


async def test_what_no_waiting_mends_is_raised(autojump_clock: MockClock) -> None:
    with pytest.raises(NotAllowed):
        await sightings(Leases([event("r2")], listed("r1"), DENIED), 3)
