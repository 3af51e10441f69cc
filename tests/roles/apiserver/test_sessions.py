"""Sessions from outside: one sign of life for many leases, and who may give it."""

from contextlib import closing

import pytest

from tests.roles.apiserver.conftest import calling, new_path
from tests.roles.apiserver.https import Caller, Json
from tests.support.apiserver import Apiserver, until

SESSIONS = "/v1alpha1/sessions"
LIVE_KEYS = {"id", "alive", "holder", "instance", "ttlSeconds", "expiresAt", "remainingSeconds"}


def opened(caller: Caller, holder: str = "h", ttl: int = 60, **fields: object) -> Json:
    reply = caller.post(SESSIONS, {"holder": holder, "ttlSeconds": ttl, **fields})
    assert reply.status == 201
    return reply.json


def acquire(caller: Caller, path: str, holder: str, **fields: object) -> Json:
    return caller.post(f"{path}/acquire", {"holder": holder, **fields}).ok()


def test_a_session_without_an_instance_has_an_empty_one(store_caller: Caller) -> None:
    session = opened(store_caller)
    assert set(session) == LIVE_KEYS
    assert session["instance"] == ""


def test_a_session_is_opened_renewed_and_ended(store_caller: Caller) -> None:
    session = opened(store_caller, instance="i")
    assert set(session) == LIVE_KEYS
    assert (session["holder"], session["instance"], session["ttlSeconds"]) == ("h", "i", 60)
    url = f"{SESSIONS}/{session['id']}"
    renewed = store_caller.post(f"{url}/renew", {}).ok()
    assert set(renewed) == LIVE_KEYS
    assert renewed["remainingSeconds"] == 60.0
    assert store_caller.get(url).ok()["alive"] is True
    for _ in range(2):
        ended = store_caller.call("DELETE", url)
        assert (ended.status, ended.body) == (204, b"")
    lost = {"id": session["id"], "alive": False, "reason": "ended"}
    assert store_caller.post(f"{url}/renew", {}).ok() == lost
    assert store_caller.get(url).ok()["reason"] == "ended"


@pytest.mark.parametrize("name", ["0" * 32, "nonsense", "%2F", "x" * 300])
def test_a_session_that_never_was_is_a_loss_and_not_an_error(store_caller: Caller, name: str) -> None:
    renewed = store_caller.post(f"{SESSIONS}/{name}/renew", {}).ok()
    assert (renewed["alive"], renewed["reason"]) == (False, "unknown")
    assert store_caller.call("DELETE", f"{SESSIONS}/{name}").status == 204
    assert store_caller.get(f"{SESSIONS}/{name}").code == "not_found"


def test_leases_live_and_end_with_their_session(store_caller: Caller) -> None:
    session = opened(store_caller)["id"]
    paths = [new_path() for _ in range(3)]
    for path in paths:
        held = acquire(store_caller, path, "h", session=session)
        assert (held["acquired"], held["fencingToken"], held["session"]) == (True, 1, session)
        assert acquire(store_caller, path, "h", session=session)["fencingToken"] == 1
        assert acquire(store_caller, path, "other", ttlSeconds=60)["reason"] == "held"
    assert store_caller.get(paths[0]).ok()["session"] == session
    released = store_caller.post(f"{paths[0]}/release", {"holder": "h", "fencingToken": 1})
    assert released.status == 204
    assert acquire(store_caller, paths[0], "other", ttlSeconds=60)["acquired"] is True
    assert acquire(store_caller, paths[1], "other", ttlSeconds=60)["acquired"] is False
    store_caller.call("DELETE", f"{SESSIONS}/{session}")
    for path in paths[1:]:
        assert store_caller.get(path).ok()["state"] == "free"
        taken = acquire(store_caller, path, "other", ttlSeconds=60)
        assert (taken["acquired"], taken["fencingToken"], taken["cleanHandover"]) == (True, 2, True)


def test_taking_over_an_expired_session_ends_it_for_good(store_caller: Caller) -> None:
    session = opened(store_caller, ttl=1)["id"]
    path = new_path()
    acquire(store_caller, path, "h", session=session)
    until(lambda: store_caller.get(path).ok()["state"] == "free")
    taken = acquire(store_caller, path, "other", ttlSeconds=60)
    assert (taken["acquired"], taken["fencingToken"], taken["cleanHandover"]) == (True, 2, False)
    lost = {"id": session, "alive": False, "reason": "expired"}
    assert store_caller.post(f"{SESSIONS}/{session}/renew", {}).ok() == lost
    refused = store_caller.post(f"{new_path()}/acquire", {"holder": "h", "session": session})
    assert (refused.status, refused.code) == (409, "session_ended")


def test_a_live_tenure_keeps_its_kind(store_caller: Caller) -> None:
    one, two = opened(store_caller)["id"], opened(store_caller)["id"]
    path = new_path()
    acquire(store_caller, path, "h", session=one)
    for fields in ({"session": two}, {"ttlSeconds": 60}):
        reply = store_caller.post(f"{path}/acquire", {"holder": "h", **fields})
        assert (reply.status, reply.code) == (409, "held_by_session")
    renewed = store_caller.post(f"{path}/renew", {"holder": "h", "fencingToken": 1, "ttlSeconds": 60})
    assert (renewed.status, renewed.code) == (409, "held_by_session")
    by_ttl = new_path()
    acquire(store_caller, by_ttl, "h", ttlSeconds=60)
    reply = store_caller.post(f"{by_ttl}/acquire", {"holder": "h", "session": one})
    assert (reply.status, reply.code) == (409, "held_by_ttl")


def test_another_instance_is_another_holder(store_caller: Caller) -> None:
    one = opened(store_caller, instance="a")["id"]
    two = opened(store_caller, instance="b")["id"]
    path = new_path()
    acquire(store_caller, path, "h", session=one)
    reply = acquire(store_caller, path, "h", session=two)
    assert (reply["acquired"], reply["reason"]) == (False, "held")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_holder"),
        ({"holder": "h"}, "invalid_ttl"),
        ({"holder": "h", "ttlSeconds": 0}, "invalid_ttl"),
        ({"holder": "h", "ttlSeconds": 86_401}, "ttl_too_large"),
        ({"holder": "h", "ttlSeconds": 60, "instance": "a\u0000"}, "invalid_body"),
        ({"holder": "h", "ttlSeconds": 60, "instance": "i" * 254}, "invalid_body"),
        ({"holder": "h", "ttlSeconds": 60, "id": "mine"}, "invalid_body"),
    ],
)
def test_a_session_that_cannot_be(caller: Caller, body: Json, code: str) -> None:
    reply = caller.post(SESSIONS, body)
    assert (reply.status, reply.code) == (400, code)


def test_an_acquire_is_by_ttl_or_by_session(caller: Caller) -> None:
    session = opened(caller)["id"]
    both = caller.post(f"{new_path()}/acquire", {"holder": "h", "session": session, "ttlSeconds": 60})
    assert (both.status, both.code) == (400, "ttl_and_session")
    neither = caller.post(f"{new_path()}/acquire", {"holder": "h"})
    assert (neither.status, neither.code) == (400, "invalid_ttl")
    anothers = caller.post(f"{new_path()}/acquire", {"holder": "other", "session": session})
    assert (anothers.status, anothers.code) == (400, "session_holder_mismatch")


def test_a_session_is_its_tenants(keyed: Apiserver, west: Caller, admin: Caller, reader: Caller) -> None:
    session = opened(west, "west/a")["id"]
    url = f"{SESSIONS}/{session}"
    with closing(calling(keyed, "east-key")) as east:
        assert east.post(f"{url}/renew", {}).code == "forbidden_holder"
        assert east.call("DELETE", url).code == "forbidden_holder"
        assert east.post(SESSIONS, {"holder": "west/a", "ttlSeconds": 60}).code == "forbidden_holder"
        assert east.get(url).ok()["holder"] == "west/a"
    assert reader.post(f"{url}/renew", {}).code == "forbidden_role"
    assert reader.get(url).ok()["alive"] is True
    assert admin.post(f"{url}/renew", {}).code == "forbidden_holder"
    assert admin.call("DELETE", url).status == 204
    assert west.post(f"{url}/renew", {}).ok()["reason"] == "ended"


def test_sessions_are_listed_by_holder_and_instance(store_caller: Caller) -> None:
    mine = [opened(store_caller, "lister", instance=instance)["id"] for instance in ("a", "a", "b")]
    opened(store_caller, "lister2", instance="a")

    def listed(query: str) -> set[str]:
        found: set[str] = set()
        more = ""
        while True:
            page = store_caller.get(f"{SESSIONS}?{query}&limit=2{more}").ok()
            found |= {session["id"] for session in page["items"]}
            if "continue" not in page:
                return found
            more = f"&continue={page['continue']}"

    assert listed("holder=lister") == set(mine)
    assert listed("holder=lister&instance=a") == set(mine[:2])
    assert listed("holder=lister&instance=c") == set()
    assert store_caller.get(f"{SESSIONS}?limit=0").code == "invalid_body"
