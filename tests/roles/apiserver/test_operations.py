"""What the operations make of a lease: each row of their tables, on each store."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.roles.apiserver.conftest import HELD_KEYS, REFERENCE_KEYS, Lease, new_path
from tests.roles.apiserver.https import Caller, Json
from tests.support.apiserver import until

ZERO = "0001-01-01T00:00:00Z"
CLOCK_ERROR = timedelta(seconds=2)


def at(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def told_now(text: str) -> bool:
    return abs(datetime.now(UTC) - at(text)) < CLOCK_ERROR


EXPIRED_MOST = 12


@pytest.fixture(scope="module")
def expired_leases(store_caller: Caller) -> list[Lease]:
    """Leases whose one tenure, h's, has expired: all at once, so that the wait is one."""
    leases = [Lease(store_caller, new_path()) for _ in range(EXPIRED_MOST)]
    for lease in leases:
        lease.acquire("h", 1)
    until(lambda: all(lease.get().ok()["state"] == "free" for lease in leases))
    return leases


@pytest.fixture
def expired(expired_leases: list[Lease]) -> Lease:
    return expired_leases.pop()


def test_acquire_what_never_was(lease: Lease) -> None:
    held = lease.acquire("h", 30)
    assert set(held) == HELD_KEYS
    assert held["acquired"] is True
    assert (held["holder"], held["fencingToken"], held["cleanHandover"]) == ("h", 1, True)
    assert held["remainingSeconds"] == 30.0
    assert told_now(held["acquiredAt"])
    assert at(held["expiresAt"]) - at(held["acquiredAt"]) == timedelta(seconds=30)


def test_acquire_what_is_mine_keeps_it(lease: Lease) -> None:
    first = lease.acquire("h", 30)
    again = lease.acquire("h", 60)
    assert set(again) == HELD_KEYS
    assert (again["acquired"], again["fencingToken"]) == (True, 1)
    assert again["acquiredAt"] == first["acquiredAt"]
    assert at(again["expiresAt"]) > at(first["expiresAt"])


def test_a_shorter_ttl_takes_nothing_back(lease: Lease) -> None:
    first = lease.acquire("h", 60)
    assert at(lease.acquire("h", 5)["expiresAt"]) >= at(first["expiresAt"]) - timedelta(milliseconds=1)
    assert at(lease.renew("h", 1, 5)["expiresAt"]) >= at(first["expiresAt"]) - timedelta(milliseconds=1)


def test_acquire_what_another_holds_is_refused_with_200(lease: Lease) -> None:
    held = lease.acquire("h", 30)
    told = lease.acquire("other", 30)
    assert set(told) == REFERENCE_KEYS | {"remainingSeconds", "reason"}
    assert (told["acquired"], told["reason"]) == (False, "held")
    assert (told["holder"], told["fencingToken"]) == ("h", 1)
    assert told["acquiredAt"] == held["acquiredAt"]
    assert abs(at(told["expiresAt"]) - at(held["expiresAt"])) < timedelta(milliseconds=500)
    assert 25 < told["remainingSeconds"] <= 30


def test_acquire_what_was_released(lease: Lease) -> None:
    lease.acquire("h")
    lease.release("h", 1)
    for token, holder in enumerate(("other", "h"), 2):
        held = lease.acquire(holder)
        assert (held["acquired"], held["fencingToken"], held["cleanHandover"]) == (True, token, True)
        lease.release(holder, token)


@pytest.mark.parametrize("holder", ["h", "other"])
def test_acquire_what_has_expired(expired: Lease, holder: str) -> None:
    held = expired.acquire(holder)
    assert (held["acquired"], held["fencingToken"], held["cleanHandover"]) == (True, 2, False)
    assert told_now(held["acquiredAt"])


def test_renew_what_never_was(lease: Lease) -> None:
    reply = lease.ask("renew", holder="h", fencingToken=1, ttlSeconds=9)
    assert reply.ok() == {"acquired": False, "expiresAt": ZERO, "acquiredAt": ZERO}
    assert lease.get().code == "not_found"


def test_renew_what_is_mine(lease: Lease) -> None:
    first = lease.acquire("h", 30)
    renewed = lease.renew("h", 1, 60)
    assert set(renewed) == REFERENCE_KEYS
    assert (renewed["acquired"], renewed["holder"], renewed["fencingToken"]) == (True, "h", 1)
    assert renewed["acquiredAt"] == first["acquiredAt"]
    assert at(renewed["expiresAt"]) > at(first["expiresAt"])


@pytest.mark.parametrize(("holder", "token"), [("other", 1), ("h", 2), ("other", 2), ("h", 2**31 - 1)])
def test_renew_what_is_not_mine(lease: Lease, holder: str, token: int) -> None:
    lease.acquire("h", 30)
    told = lease.renew(holder, token, 600)
    assert set(told) == REFERENCE_KEYS
    assert (told["acquired"], told["holder"], told["fencingToken"]) == (False, "h", 1)
    assert lease.get().ok()["remainingSeconds"] <= 30


def test_renew_what_has_expired(expired: Lease) -> None:
    told = expired.renew("h", 1)
    assert set(told) == REFERENCE_KEYS
    assert (told["acquired"], told["holder"], told["fencingToken"]) == (False, "h", 1)
    assert abs(at(told["expiresAt"]) - at(told["acquiredAt"]) - timedelta(seconds=1)) < timedelta(seconds=0.1)
    assert expired.get().ok()["state"] == "free"


def test_renew_what_was_released(lease: Lease) -> None:
    first = lease.acquire("h")
    lease.release("h", 1)
    told = lease.renew("h", 1)
    assert set(told) == REFERENCE_KEYS - {"holder"}
    assert (told["acquired"], told["fencingToken"]) == (False, 1)
    assert told["acquiredAt"] == first["acquiredAt"]
    assert told_now(told["expiresAt"]), "the time of the release"


def test_release_what_never_was(lease: Lease) -> None:
    assert lease.release("h", 7).status == 204
    assert lease.get().code == "not_found"


def test_release_what_is_mine_and_again(lease: Lease) -> None:
    lease.acquire("h")
    assert lease.release("h", 1).status == 204
    assert lease.release("h", 1).status == 204
    assert lease.release("anybody", 0).status == 204


def test_release_what_is_mine_but_has_expired(expired: Lease) -> None:
    assert expired.release("h", 1).status == 204
    assert expired.acquire("other")["cleanHandover"] is True, "its holder has said that it is done"


@pytest.mark.parametrize(("holder", "token"), [("other", 1), ("h", 2), ("h", 0), ("other", 0)])
def test_release_what_is_not_mine(lease: Lease, holder: str, token: int) -> None:
    lease.acquire("h")
    reply = lease.release(holder, token)
    assert (reply.status, reply.code) == (409, "not_holder")
    assert reply.error == "lease held by another identity or token"
    assert lease.get().ok()["state"] == "held"


def test_release_what_another_held_and_has_expired(expired: Lease) -> None:
    assert expired.release("other", 1).code == "not_holder"
    assert expired.release("h", 2).code == "not_holder"


def test_a_token_never_comes_twice(lease: Lease) -> None:
    tokens = []
    for holder in ("a", "b", "a", "a", "c"):
        held = lease.acquire(holder)
        assert held["acquired"] is True
        tokens.append(held["fencingToken"])
        lease.release(holder, held["fencingToken"])
    assert tokens == [1, 2, 3, 4, 5]


def test_get_what_is_held(lease: Lease) -> None:
    held = lease.acquire("h", 30)
    told = lease.get().ok()
    remaining = told.pop("remainingSeconds")
    assert 25 < remaining <= 30
    (tenure,) = told.pop("holders")
    assert set(tenure) == {"holder", "fencingToken", "acquiredAt", "expiresAt", "remainingSeconds"}
    namespace, _, name = lease.path.removeprefix("/v1alpha1/namespaces/").partition("/leases/")
    expires_at = told.pop("expiresAt")
    assert abs(at(expires_at) - at(held["expiresAt"])) < timedelta(milliseconds=500)
    assert told == {
        "namespace": namespace,
        "name": name,
        "state": "held",
        "semantics": "at-most-once",
        "holder": "h",
        "fencingToken": 1,
        "acquiredAt": held["acquiredAt"],
    }


def test_get_what_is_free(lease: Lease) -> None:
    lease.acquire("h")
    lease.release("h", 1)
    told = lease.get().ok()
    assert set(told) == {"namespace", "name", "state", "semantics", "fencingToken", "holders"}
    assert (told["state"], told["fencingToken"], told["holders"]) == ("free", 1, [])


def test_get_what_never_was(lease: Lease) -> None:
    reply = lease.get()
    assert (reply.status, reply.code) == (404, "not_found")


def current(lease: Lease, token: int, **holder: str) -> Json:
    return lease.ask("verify", fencingToken=token, **holder).ok()


def test_verify_what_is_held(lease: Lease) -> None:
    assert current(lease, 1) == {"current": False, "fencingToken": 0}
    lease.acquire("h")
    assert current(lease, 1) == {"current": True, "fencingToken": 1}
    assert current(lease, 1, holder="h")["current"] is True
    assert current(lease, 1, holder="other")["current"] is False
    assert current(lease, 2)["current"] is False


def test_verify_what_has_expired(expired: Lease) -> None:
    assert current(expired, 1) == {"current": False, "fencingToken": 1}
    expired.acquire("other")
    assert current(expired, 1) == {"current": False, "fencingToken": 2}
    assert current(expired, 2)["current"] is True


def test_force_release(lease: Lease) -> None:
    never = lease.ask("force-release", fencingToken=1, reason="test")
    assert (never.status, never.code) == (404, "not_found")
    lease.acquire("h", 30, lockDelaySeconds=0)
    stale = lease.ask("force-release", fencingToken=2, reason="test")
    assert (stale.status, stale.code) == (409, "stale_token")
    told = lease.ask("force-release", fencingToken=1, reason="test").ok()
    assert set(told) == {"released", "mayActForSeconds"}
    assert told["released"] == {"holder": "h", "fencingToken": 1}
    assert 25 < told["mayActForSeconds"] <= 30
    again = lease.ask("force-release", fencingToken=1, reason="test")
    assert (again.status, again.code) == (409, "stale_token")
    assert lease.renew("h", 1)["acquired"] is False
    held = lease.acquire("other")
    assert (held["acquired"], held["fencingToken"], held["cleanHandover"]) == (True, 2, False)


def test_force_release_ends_one_of_several(lease: Lease) -> None:
    for holder in ("a", "b"):
        lease.acquire(holder, semantics="at-least-once")
    lease.ask("force-release", fencingToken=1, reason="test").ok()
    assert [each["holder"] for each in lease.get().ok()["holders"]] == ["b"]


def test_leases_of_one_name_in_two_namespaces_are_two(lease: Lease) -> None:
    lease.acquire("h")
    other = Lease(lease.caller, lease.path.replace("/namespaces/n/", "/namespaces/m/"))
    assert other.acquire("other")["fencingToken"] == 1
