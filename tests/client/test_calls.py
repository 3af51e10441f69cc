"""What each call sends, and what it makes of a good reply."""

from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import trio

from berth.client import AcquireRequest, BerthClient, Invalid, OutcomeUnknown, ReleaseRequest
from berth.runtime.http import MAX_CONNECTIONS
from berth.version import VERSION
from berth.wire.routes import OPERATIONS, Operation
from tests.client.conftest import Connect
from tests.client.scripted import Scripted, Stall, answer, grant, granted, hang_up, problem

LEASE = {
    "namespace": "default",
    "name": "db",
    "state": "free",
    "semantics": "at-most-once",
    "fencingToken": 7,
    "holders": [],
}
PAGE = {"items": [LEASE], "revision": "r1"}
SESSION = {
    "id": "s1",
    "alive": True,
    "holder": "team/me",
    "instance": "",
    "ttlSeconds": 30,
    "expiresAt": "2026-11-20T12:00:30Z",
    "remainingSeconds": 30.0,
}
WHOAMI = {"tenant": "team", "role": "holder", "authMode": "static-keys"}
ARGUMENTS: dict[str, tuple[str, dict[str, Any], int, Any]] = {
    "acquire": ("acquire", {"holder": "team/me", "ttl_seconds": 30}, 200, grant()),
    "renew": ("renew", {"holder": "team/me", "fencing_token": 7, "ttl_seconds": 30}, 200, grant()),
    "release": ("release", {"holder": "team/me", "fencing_token": 7}, 204, b""),
    "verify": ("verify", {"fencing_token": 7}, 200, {"current": True, "fencingToken": 7}),
    "force-release": (
        "force_release",
        {"fencing_token": 7, "reason": "node is gone"},
        200,
        {"released": {"holder": "team/me", "fencingToken": 7}, "mayActForSeconds": 12.5},
    ),
    "get": ("get_lease", {}, 200, LEASE),
    "list": ("list_page", {}, 200, PAGE),
    "list-all": ("list_page", {}, 200, PAGE),
    "open-session": ("open_session", {"holder": "team/me", "ttl_seconds": 30}, 201, SESSION),
    "renew-session": ("renew_session", {}, 200, SESSION),
    "end-session": ("end_session", {}, 204, b""),
    "get-session": ("get_session", {}, 200, SESSION),
    "whoami": ("whoami", {}, 200, WHOAMI),
    "version": ("server_version", {}, 200, {"version": "0.1.0", "commit": "c", "python": "3.11"}),
    "healthz": ("ping", {}, 200, b"ok\n"),
}
# What is called by no method of its own, or by one that is another kind of call.
NOT_CALLED = {"batch", "openapi", "livez", "readyz", "list-sessions"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
async def test_each_operation_is_called_as_the_table_has_it(
    client: BerthClient, server: Scripted, operation: Operation
) -> None:
    if operation.id in NOT_CALLED:
        assert operation.id not in ARGUMENTS
        return
    method, arguments, status, body = ARGUMENTS[operation.id]
    where = [
        value
        for name, value in (("{namespace}", "default"), ("{name}", "db"), ("{id}", "s1"))
        if name in operation.path
    ]
    server.will(answer(status, body))

    reply = await getattr(client, method)(*where, **arguments)

    [request] = server.requests
    assert request.method == operation.method
    assert request.target == operation.path.format(namespace="default", name="db", id="s1")
    assert request.headers["user-agent"] == f"berth/{VERSION}"
    assert "authorization" not in request.headers
    assert type(reply) is (operation.reply or type(None))


async def test_acquire_sends_what_is_given_and_nothing_else(client: BerthClient, server: Scripted) -> None:
    server.will(granted(), granted())
    await client.acquire("default", "db", holder="team/me", ttl_seconds=30)
    await client.acquire(
        "default",
        "db",
        holder="team/me",
        ttl_seconds=30,
        semantics="at-least-once",
        max_holders=3,
        lock_delay_seconds=0,
    )
    assert [request.body for request in server.requests] == [
        {"holder": "team/me", "ttlSeconds": 30},
        {
            "holder": "team/me",
            "ttlSeconds": 30,
            "semantics": "at-least-once",
            "maxHolders": 3,
            "lockDelaySeconds": 0,
        },
    ]
    assert server.requests[0].headers["content-type"] == "application/json"


async def test_a_wait_that_ended_empty_is_a_reply(client: BerthClient, server: Scripted) -> None:
    server.will(answer(200, grant("team/other", 9, acquired=False, reason="held", waitPosition=2)))
    reply = await client.acquire("default", "db", holder="team/me", ttl_seconds=30, wait_seconds=20)
    assert server.requests[0].body == {"holder": "team/me", "ttlSeconds": 30, "waitSeconds": 20}
    assert (reply.acquired, reply.wait_position) == (False, 2)


async def test_a_wait_that_is_cancelled_closes_its_connection(client: BerthClient, server: Scripted) -> None:
    begun, closed = trio.Event(), trio.Event()

    async def wait_for_the_end(stream: trio.SSLStream[trio.SocketStream]) -> None:
        begun.set()
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()
        closed.set()
        raise trio.ClosedResourceError

    server.will(wait_for_the_end)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(client.acquire, "default", "db", holder="me", ttl_seconds=30, wait_seconds=20)
            )
            await begun.wait()
            nursery.cancel_scope.cancel()
        await closed.wait()


async def test_what_waits_takes_no_connection_from_what_does_not(
    client: BerthClient, server: Scripted
) -> None:
    stalls = [Stall() for _ in range(MAX_CONNECTIONS + 1)]
    server.will(*stalls)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            wait = partial(client.acquire, "default", holder="me", ttl_seconds=30, wait_seconds=60)
            for number in range(len(stalls)):
                nursery.start_soon(wait, f"lease-{number}")
            for stall in stalls:
                await stall.begun.wait()
            server.will(granted())
            await client.renew("default", "db", holder="team/me", fencing_token=7, ttl_seconds=30)
            nursery.cancel_scope.cancel()


async def test_held_by_another_is_a_reply(client: BerthClient, server: Scripted) -> None:
    server.will(answer(200, grant("team/other", 9, acquired=False, reason="held", remainingSeconds=4.25)))
    reply = await client.acquire("default", "db", holder="team/me", ttl_seconds=30)
    assert not reply.acquired
    assert (reply.holder, reply.fencing_token, reply.reason) == ("team/other", 9, "held")
    assert reply.remaining_seconds == 4.25


async def test_a_lost_renewal_is_a_reply_even_when_it_names_nobody(
    client: BerthClient, server: Scripted
) -> None:
    zero = "0001-01-01T00:00:00Z"
    server.will(answer(200, {"acquired": False, "expiresAt": zero, "acquiredAt": zero}))
    reply = await client.renew("default", "db", holder="team/me", fencing_token=7, ttl_seconds=30)
    assert not reply.acquired


async def test_a_reply_may_hold_keys_that_are_not_known_yet(client: BerthClient, server: Scripted) -> None:
    server.will(granted(mood="good"))
    assert (await client.acquire("default", "db", holder="team/me", ttl_seconds=30)).acquired


@pytest.mark.parametrize(
    ("name", "segment"),
    [("a/b", "a%2Fb"), ("..", "%2E%2E"), (".", "%2E"), ("a b?c#d%", "a%20b%3Fc%23d%25"), ("é", "%C3%A9")],
)
async def test_a_name_is_one_segment_whatever_is_in_it(
    client: BerthClient, server: Scripted, name: str, segment: str
) -> None:
    server.will(problem(400, "invalid_name"))
    with pytest.raises(Invalid):
        await client.get_lease("default", name)
    assert server.requests[0].target == f"/v1alpha1/namespaces/default/leases/{segment}"


async def test_a_name_that_is_empty_is_refused_unsent(client: BerthClient, server: Scripted) -> None:
    with pytest.raises(Invalid, match="must not be empty"):
        await client.get_lease("default", "")
    with pytest.raises(Invalid, match="must not be empty"):
        await client.list_page("")
    assert not server.requests


async def test_all_pages_are_listed_in_order(client: BerthClient, server: Scripted) -> None:
    first = {"items": [LEASE | {"name": "a"}, LEASE | {"name": "b"}], "revision": "r1", "continue": "k&1"}
    server.will(answer(200, first), answer(200, {"items": [LEASE], "revision": "r2"}))
    assert [lease.name async for lease in client.list_leases("default")] == ["a", "b", "db"]
    assert [request.target for request in server.requests] == [
        "/v1alpha1/namespaces/default/leases",
        "/v1alpha1/namespaces/default/leases?continue=k%261",
    ]


async def test_a_page_may_be_limited(client: BerthClient, server: Scripted) -> None:
    server.will(answer(200, PAGE))
    await client.list_page(limit=2, after="k")
    assert server.requests[0].target == "/v1alpha1/leases?limit=2&continue=k"


@pytest.mark.parametrize("ttl", [2.5, 2.0, True, "30", timedelta(seconds=30)])
async def test_a_ttl_that_is_no_whole_number_is_refused_unsent(
    client: BerthClient, server: Scripted, ttl: Any
) -> None:
    with pytest.raises(TypeError, match="ttl_seconds is whole seconds"):
        await client.acquire("default", "db", holder="team/me", ttl_seconds=ttl)
    with pytest.raises(TypeError, match="ttl_seconds is whole seconds"):
        await client.renew("default", "db", holder="team/me", fencing_token=7, ttl_seconds=ttl)
    assert not server.requests


async def test_text_that_no_json_can_carry_is_refused_unsent(client: BerthClient, server: Scripted) -> None:
    with pytest.raises(Invalid, match="lone surrogate"):
        await client.acquire("default", "db", holder="\udcff", ttl_seconds=30)
    assert not server.requests


async def test_a_base_url_may_have_a_path(server: Scripted, connect: Connect) -> None:
    client = await connect(server.url + "/berth/")
    server.will(answer(200, b"ok"))
    await client.ping()
    assert server.requests[0].target == "/berth/healthz"


async def test_sessions_are_listed_page_by_page(client: BerthClient, server: Scripted) -> None:
    over = {"id": "s2", "alive": False, "reason": "ended", "holder": "team/me"}
    server.will(
        answer(200, {"items": [SESSION], "continue": "czE="}),
        answer(200, {"items": [], "continue": "czE2"}),
        answer(200, {"items": [over]}),
    )
    found = [session async for session in client.list_sessions(holder="team/me", instance="a b")]
    assert [(session.id, session.alive, session.reason) for session in found] == [
        ("s1", True, ""),
        ("s2", False, "ended"),
    ]
    asked = "/v1alpha1/sessions?holder=team%2Fme&instance=a+b"
    assert [request.target for request in server.requests] == [
        asked,
        f"{asked}&continue=czE%3D",
        f"{asked}&continue=czE2",
    ]


async def test_a_lease_under_a_session_has_no_ttl_of_its_own(client: BerthClient, server: Scripted) -> None:
    server.will(granted())
    await client.acquire("default", "db", holder="team/me", session="s1")
    assert server.requests[0].body == {"holder": "team/me", "session": "s1"}


@pytest.mark.parametrize(
    "reply",
    [
        {**SESSION, "alive": False},
        {**SESSION, "id": ""},
        {**SESSION, "holder": "team/other"},
        {**SESSION, "instance": "other"},
    ],
)
async def test_a_session_of_somebody_else_is_not_believed(
    client: BerthClient, server: Scripted, reply: dict[str, Any]
) -> None:
    server.will(*[answer(201, reply)] * 4)
    with pytest.raises(OutcomeUnknown):
        await client.open_session(holder="team/me", ttl_seconds=30)
    server.will(*[answer(200, {**SESSION, "id": "s2"})] * 4)
    with pytest.raises(OutcomeUnknown, match="another session"):
        await client.renew_session("s1")


async def test_what_is_kept_while_a_release_may_yet_arrive_is_given_up_first(
    server: Scripted, connect: Connect
) -> None:
    client = await connect(server, timeout_seconds=0.3)
    server.will(*[hang_up] * 4)
    with pytest.raises(OutcomeUnknown):
        await client.release("team", "db", holder="team/me", fencing_token=7)
    asked = len(server.requests)
    server.will(granted(token=7), answer(204), granted(token=8))
    reply = await client.acquire("team", "db", holder="team/me", ttl_seconds=30)
    assert reply.fencing_token == 8
    calls = [request.target.rpartition("/")[2] for request in server.requests[asked:]]
    assert calls == ["acquire", "release", "acquire"]
    server.will(granted(token=8))
    assert (await client.acquire("team", "db", holder="team/me", ttl_seconds=30)).fencing_token == 8


async def test_many_that_are_kept_while_a_release_may_yet_arrive_are_told_apart(
    server: Scripted, connect: Connect
) -> None:
    client = await connect(server, timeout_seconds=0.3)
    server.will(*[hang_up] * 4)
    (fault,) = await client.release_many([ReleaseRequest("team", "db", holder="team/me", fencing_token=7)])
    assert isinstance(fault, OutcomeUnknown)
    result = grant(token=7) | {"status": 200}
    server.will(answer(200, {"results": [result]}))
    asked = AcquireRequest("team", "db", holder="team/me", ttl_seconds=30)
    (reply,) = await client.acquire_many([asked])
    assert isinstance(reply, OutcomeUnknown)
