"""Waiting in line from outside: who is next, when, and what becomes of those who go."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.roles.apiserver.conftest import Lease, calling, new_path
from tests.roles.apiserver.https import Caller
from tests.roles.apiserver.streams import until_waiting, waiting
from tests.support.apiserver import Apiserver, Certificates, apiserver, until


@pytest.fixture(params=["memory", "sqlite"])
def server(request: pytest.FixtureRequest) -> Apiserver:
    return request.getfixturevalue(request.param)


@pytest.fixture
def caller(server: Apiserver) -> Iterator[Caller]:
    with closing(calling(server)) as opened:
        yield opened


@pytest.fixture
def lease(caller: Caller) -> Lease:
    return Lease(caller, new_path())


def test_a_free_lease_is_had_at_once(caller: Caller, lease: Lease) -> None:
    with waiting(caller, lease.path, "a") as asked:
        assert asked.reply().ok()["fencingToken"] == 1


def test_a_release_lets_the_next_in_line_have_it(server: Apiserver, caller: Caller, lease: Lease) -> None:
    lease.acquire("a")
    with ExitStack() as stack:
        line = []
        for number, holder in enumerate("bcd"):
            line.append(stack.enter_context(waiting(caller, lease.path, holder)))
            until_waiting(server, number + 1)
        for token, (holder, asked) in enumerate(zip("abc", line, strict=True), 1):
            assert lease.release(holder, token).status == 204
            granted = asked.reply().ok()
            assert (granted["acquired"], granted["fencingToken"]) == (True, token + 1)
            assert granted["cleanHandover"] is True
            assert granted["holder"] == "bcd"[token - 1], "first come, first served"


def test_an_expiry_lets_the_next_in_line_have_it(caller: Caller, lease: Lease) -> None:
    lease.acquire("a", ttl=1)
    with waiting(caller, lease.path, "b") as asked:
        granted = asked.reply().ok()
    assert (granted["holder"], granted["fencingToken"], granted["cleanHandover"]) == ("b", 2, False)


def test_a_renewal_keeps_the_line_waiting(server: Apiserver, caller: Caller, lease: Lease) -> None:
    lease.acquire("a", ttl=1)
    with waiting(caller, lease.path, "b", seconds=1) as asked:
        until_waiting(server, 1)
        lease.renew("a", 1, ttl=60)
        reply = asked.reply().ok()
    assert (reply["acquired"], reply["reason"], reply["waitPosition"]) == (False, "held", 1)


def test_the_end_of_a_session_lets_the_next_in_line_have_it(server: Apiserver, caller: Caller) -> None:
    session = caller.post("/v1alpha1/sessions", {"holder": "a", "ttlSeconds": 60}).json["id"]
    lease = Lease(caller, new_path())
    lease.ask("acquire", holder="a", session=session).ok()
    with waiting(caller, lease.path, "b") as asked:
        until_waiting(server, 1)
        caller.call("DELETE", f"/v1alpha1/sessions/{session}")
        granted = asked.reply().ok()
    assert (granted["holder"], granted["cleanHandover"]) == ("b", True)


def test_the_expiry_of_a_session_lets_the_next_in_line_have_it(caller: Caller) -> None:
    session = caller.post("/v1alpha1/sessions", {"holder": "a", "ttlSeconds": 1}).json["id"]
    lease = Lease(caller, new_path())
    lease.ask("acquire", holder="a", session=session).ok()
    with waiting(caller, lease.path, "b") as asked:
        granted = asked.reply().ok()
    assert (granted["holder"], granted["cleanHandover"]) == ("b", False)


def test_a_lock_delay_is_waited_out(caller: Caller, lease: Lease) -> None:
    lease.acquire("a", ttl=1, lockDelaySeconds=1)
    with waiting(caller, lease.path, "b") as asked:
        assert asked.reply().ok()["holder"] == "b"


def test_the_live_holder_does_not_wait(server: Apiserver, caller: Caller, lease: Lease) -> None:
    lease.acquire("a")
    with waiting(caller, lease.path, "b"), waiting(caller, lease.path, "a") as asked:
        assert asked.reply().ok()["fencingToken"] == 1


def test_who_does_not_wait_takes_nothing_from_those_who_do(certificates: Certificates) -> None:
    """Seen from the side: a lease with two places, of which one is free for the next in line only."""
    with apiserver(certificates) as server, closing(calling(server)) as caller:
        lease = Lease(caller, new_path())
        lease.acquire("a")
        with waiting(caller, lease.path, "b") as asked:
            until_waiting(server, 1)
            for _ in range(20):
                lease.release("a", 1)
                plain = lease.acquire("c")
                assert plain["acquired"] is False
                assert plain["reason"] in ("waiters", "held")
            assert asked.reply().ok()["holder"] == "b"


def test_who_hangs_up_leaves_the_line(server: Apiserver, caller: Caller, lease: Lease) -> None:
    lease.acquire("a")
    with waiting(caller, lease.path, "b") as first, waiting(caller, lease.path, "c") as second:
        until_waiting(server, 2)
        first.hang_up()
        until_waiting(server, 1)
        lease.release("a", 1)
        assert second.reply().ok()["fencingToken"] == 2
    until(lambda: lease.get().ok()["holder"] == "c")


def test_who_asks_again_at_once_has_the_same_place(server: Apiserver, caller: Caller, lease: Lease) -> None:
    lease.acquire("a")
    with waiting(caller, lease.path, "b", seconds=1) as first:
        until_waiting(server, 1)
        with waiting(caller, lease.path, "c", seconds=10) as second:
            until_waiting(server, 2)
            assert first.reply().ok()["waitPosition"] == 1
            with waiting(caller, lease.path, "b", seconds=10) as again:
                until_waiting(server, 2)
                lease.release("a", 1)
                assert again.reply().ok()["holder"] == "b"
                lease.release("b", 2)
                assert second.reply().ok()["holder"] == "c"


def test_shared_leases_are_waited_for_too(server: Apiserver, caller: Caller, lease: Lease) -> None:
    terms = {"semantics": "at-least-once", "maxHolders": 2}
    lease.acquire("a", **terms)
    lease.acquire("b", **terms)
    with (
        waiting(caller, lease.path, "c", **terms) as third,
        waiting(caller, lease.path, "d", **terms) as fourth,
    ):
        until_waiting(server, 2)
        lease.release("a", 1)
        lease.release("b", 2)
        assert {third.reply().ok()["holder"], fourth.reply().ok()["holder"]} == {"c", "d"}


def test_a_server_that_stops_lets_all_go(certificates: Certificates) -> None:
    with apiserver(certificates) as server, closing(calling(server)) as caller:
        lease = Lease(caller, new_path())
        lease.acquire("a")
        with waiting(caller, lease.path, "b") as asked:
            until_waiting(server, 1)
            server.process.terminate()
            reply = asked.reply()
            assert (reply.status, reply.code) == (503, "shutting_down")
            assert reply.headers["Retry-After"]
        assert server.wait() == 0
        assert server.errors() == []


@pytest.mark.parametrize("seconds", [-1, 61, 2**31 - 1])
def test_a_wait_has_bounds(lease: Lease, seconds: int) -> None:
    reply = lease.ask("acquire", holder="a", ttlSeconds=9, waitSeconds=seconds)
    assert (reply.status, reply.code) == (400, "invalid_body")
    assert "0 to 60" in reply.error
