"""Several callers at one lease: its terms (semantics, holders, lock delay), and who wins a race for it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.roles.apiserver.conftest import HELD_KEYS, REFERENCE_KEYS, Lease, calling, new_path
from tests.roles.apiserver.https import Json
from tests.support.apiserver import Apiserver, until

CALLERS = 12


def test_several_may_hold_at_once(lease: Lease) -> None:
    terms = {"semantics": "at-least-once", "maxHolders": 2}
    first = lease.acquire("a", **terms)
    assert set(first) == HELD_KEYS | {"holders"}
    second = lease.acquire("b", **terms)
    assert [(each["holder"], each["fencingToken"]) for each in second["holders"]] == [("a", 1), ("b", 2)]
    full = lease.acquire("c", **terms)
    assert (full["acquired"], full["reason"], full["holder"]) == (False, "held", "b")
    assert lease.acquire("a", **terms)["fencingToken"] == 1
    assert lease.renew("b", 2)["acquired"] is True
    assert lease.release("a", 1).status == 204
    assert lease.release("a", 1).status == 204, "a repeated release says so again"
    assert lease.acquire("c", **terms)["fencingToken"] == 3
    told = lease.get().ok()
    assert (told["semantics"], told["maxHolders"], told["holder"]) == ("at-least-once", 2, "c")
    assert [each["fencingToken"] for each in told["holders"]] == [2, 3]


def test_without_a_limit_everybody_may_hold(lease: Lease) -> None:
    for token in range(1, 13):
        held = lease.acquire(f"h{token}", semantics="at-least-once")
        assert (held["acquired"], held["fencingToken"], len(held["holders"])) == (True, token, token)
    assert "maxHolders" not in lease.get().ok()


def test_the_newest_limit_counts(lease: Lease) -> None:
    lease.acquire("a", semantics="at-least-once", maxHolders=1)
    assert lease.acquire("b", semantics="at-least-once", maxHolders=2)["acquired"] is True
    assert lease.acquire("c", semantics="at-least-once", maxHolders=2)["acquired"] is False


@pytest.mark.parametrize(
    ("held", "asked"), [("at-most-once", "at-least-once"), ("at-least-once", "at-most-once")]
)
def test_semantics_change_only_while_free(lease: Lease, held: str, asked: str) -> None:
    lease.acquire("a", semantics=held)
    for holder in ("a", "b"):
        reply = lease.ask("acquire", holder=holder, ttlSeconds=9, semantics=asked)
        assert (reply.status, reply.code) == (409, "semantics_mismatch")
    lease.release("a", 1)
    assert lease.acquire("b", semantics=asked)["fencingToken"] == 2
    assert lease.get().ok()["semantics"] == asked


def test_a_lock_delay_follows_an_expiry(lease: Lease) -> None:
    lease.acquire("h", 1, lockDelaySeconds=1)
    until(lambda: lease.get().ok()["state"] == "free")
    told = lease.acquire("other")
    assert set(told) == REFERENCE_KEYS - {"holder"} | {
        "remainingSeconds",
        "reason",
        "availableAfterSeconds",
    }
    assert (told["acquired"], told["reason"]) == (False, "lock_delay")
    assert 0 < told["availableAfterSeconds"] <= 1
    free = lease.get().ok()
    assert free["state"] == "free"
    assert 0 < free["availableAfterSeconds"] <= 1
    until(lambda: lease.acquire("other")["acquired"])
    assert lease.acquire("other")["fencingToken"] == 2


def test_no_lock_delay_follows_a_release(lease: Lease) -> None:
    lease.acquire("h", lockDelaySeconds=600)
    lease.release("h", 1)
    assert "availableAfterSeconds" not in lease.get().ok()
    assert lease.acquire("other")["acquired"] is True


def at_once(call: Callable[[int], Json]) -> list[Json]:
    """What so many callers are told who call at the same time."""
    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(call, range(CALLERS)))


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_of_many_who_ask_at_once_one_gets_it(request: pytest.FixtureRequest, store: str) -> None:
    server: Apiserver = request.getfixturevalue(store)
    path = new_path()

    def acquire(number: int) -> Json:
        with closing(calling(server)) as caller:
            return Lease(caller, path).acquire(f"h{number}")

    told = at_once(acquire)
    assert [each["acquired"] for each in told].count(True) == 1
    assert len({(each["holder"], each["fencingToken"]) for each in told}) == 1


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_holder_never_loses_to_its_own_renewals(request: pytest.FixtureRequest, store: str) -> None:
    server: Apiserver = request.getfixturevalue(store)
    path = new_path()

    def renew(_: int) -> Json:
        with closing(calling(server)) as caller:
            return Lease(caller, path).renew("h", 1)

    with closing(calling(server)) as caller:
        Lease(caller, path).acquire("h")
    assert all(each["acquired"] for each in at_once(renew))
