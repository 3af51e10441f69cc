"""The client and a real API server: batches, waits in line, and watches over its restarts."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import trio

from berth.client import (
    AcquireRequest,
    BerthClient,
    Conflict,
    Interrupted,
    Invalid,
    ReleaseRequest,
    RenewRequest,
    RevisionTooOld,
    follow,
)
from berth.client.watching import Sighting
from berth.wire.shapes import AcquireReply, LeaseList, WatchEvent
from tests.support.apiserver import Apiserver, Certificates, apiserver

SECONDS = 20.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Apiserver]:
    with apiserver(certificates, "--store-backend", "mem") as server:
        yield server
        server.stop()


@pytest.fixture
async def client(server: Apiserver) -> AsyncIterator[BerthClient]:
    async with BerthClient(server.url, ca_file=server.ca_file) as client:
        yield client


async def test_many_leases_are_taken_kept_and_given_up(client: BerthClient) -> None:
    names = [f"many-{number}" for number in range(6_000)]
    taken = await client.acquire_many(
        AcquireRequest("default", name, holder="me", ttl_seconds=60) for name in names
    )
    tokens = [reply.fencing_token for reply in taken if isinstance(reply, AcquireReply) and reply.acquired]
    assert tokens == [1] * 6_000
    kept = await client.renew_many(
        [
            RenewRequest("default", names[0], holder="me", fencing_token=1, ttl_seconds=60),
            RenewRequest("default", names[1], holder="me", fencing_token=9, ttl_seconds=60),
            RenewRequest("default", "BAD", holder="me", fencing_token=1, ttl_seconds=60),
        ]
    )
    assert [each.acquired if isinstance(each, AcquireReply) else type(each) for each in kept] == [
        True,
        False,
        Invalid,
    ]
    gone = await client.release_many(
        ReleaseRequest("default", name, holder=holder, fencing_token=1)
        for name, holder in zip(names[:2], ("me", "you"), strict=True)
    )
    assert gone[0] is None
    assert isinstance(gone[1], Conflict)


async def test_a_wait_is_granted_when_the_lease_is_given_up(client: BerthClient) -> None:
    acquire = partial(client.acquire, "default", "line", ttl_seconds=60)
    assert (await acquire(holder="first")).acquired
    empty = await acquire(holder="second", wait_seconds=1)
    assert (empty.acquired, empty.reason, empty.wait_position) == (False, "held", 1)
    granted: list[AcquireReply] = []

    async def wait() -> None:
        granted.append(await acquire(holder="second", wait_seconds=60))

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await waited_for(client, "line")
            await client.release("default", "line", holder="first", fencing_token=1)
    assert (granted[0].acquired, granted[0].fencing_token) == (True, 2)


async def test_a_wait_that_is_cancelled_leaves_the_line(client: BerthClient) -> None:
    acquire = partial(client.acquire, "default", "left", ttl_seconds=60)
    await acquire(holder="first")
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(acquire, holder="second", wait_seconds=60))
            await waited_for(client, "left")
            nursery.cancel_scope.cancel()
        await client.release("default", "left", holder="first", fencing_token=1)
        reply = await acquire(holder="third", wait_seconds=60)
    assert reply.acquired


async def waited_for(client: BerthClient, name: str) -> None:
    """Return once somebody is in line: then whoever joins it, each time as another, is not the next."""
    for number in count():
        reply = await client.acquire("default", name, holder=f"{number}", ttl_seconds=1, wait_seconds=1)
        if reply.wait_position != 1:
            return


async def test_changes_are_told_as_they_happen(client: BerthClient) -> None:
    with trio.fail_after(SECONDS):
        async with client.watch("watched") as events:
            assert (await anext(events)).type == "bookmark"
            await client.acquire("watched", "db", holder="me", ttl_seconds=1)
            await client.acquire("other", "db", holder="me", ttl_seconds=60)
            taken, over = await anext(events), await anext(events)
        assert [(each.type, each.object.holder) for each in (taken, over) if each.object] == [
            ("acquired", "me"),
            ("expired", ""),
        ]
        assert taken.revision < over.revision
        async with client.watch("watched", revision=taken.revision) as events:
            types = [(await anext(events)).type for _ in range(2)]
        assert types == ["bookmark", "expired"]
        with pytest.raises(RevisionTooOld):
            async with client.watch("watched", revision="of another server"):
                raise AssertionError


async def test_following_outlives_the_server(certificates: Certificates, tmp_path: Path) -> None:
    store = ("--store-backend=sql", "--sql-driver=sqlite", f"--sql-dsn={tmp_path / 'leases.db'}")
    flags = (*store, "--auth-mode=none")
    with trio.fail_after(2 * SECONDS):
        with apiserver(certificates, *flags) as server:
            address = "{}:{}".format(*server.address)
            client = BerthClient(server.url, ca_file=server.ca_file)
            async with client, follow(client) as seen:
                await client.acquire("default", "before", holder="me", ttl_seconds=60)
                assert names(await until(seen, lambda each: isinstance(each, LeaseList))) == ["before"]
                await client.acquire("default", "seen", holder="me", ttl_seconds=60)
                event = await until(seen, lambda each: isinstance(each, WatchEvent) and bool(each.object))
                assert names(event) == ["seen"]

                server.signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(server.wait) == 0
                with apiserver(certificates, *flags, "--listen-addr", address) as again:
                    listed = await until(seen, lambda each: isinstance(each, LeaseList))
                    assert names(listed) == ["before", "seen"]
                    again.stop()


async def until(seen: AsyncIterator[Sighting], wanted: Callable[[Sighting], bool]) -> Sighting:
    async for each in seen:
        if wanted(each):
            return each
        assert isinstance(each, Interrupted) or (isinstance(each, WatchEvent) and each.type == "bookmark")
    raise AssertionError


def names(sighting: Sighting) -> list[str]:
    match sighting:
        case LeaseList(items=items):
            return [lease.name for lease in items]
        case WatchEvent(object=lease) if lease:
            return [lease.name]
        case _:
            raise AssertionError(sighting)
