"""Two servers on the Lease objects of one cluster: what one has granted, the other knows.

On the test API server, and on a real kube-apiserver where there is one.
"""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from typing import NamedTuple

import pytest

from berth.store.kubernetes_objects import LEASE, MANAGED_BY, MORE, SESSION, session_name
from tests.roles.apiserver.conftest import Lease, calling, new_path
from tests.roles.apiserver.https import Caller, Json
from tests.roles.apiserver.streams import Watch, until_waiting, waiting
from tests.support.apiserver import Apiserver, Certificates, apiserver, until
from tests.support.clusters import Cluster

SESSIONS = "/v1alpha1/sessions"


@pytest.fixture(scope="module", params=["test server", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return request.getfixturevalue("test_cluster" if request.param == "test server" else "real_cluster")


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    """Where the Lease objects of this module are."""
    return cluster.new_namespace()


class Pair(NamedTuple):
    """Two servers, and a caller of each."""

    servers: tuple[Apiserver, Apiserver]
    one: Caller
    other: Caller


@pytest.fixture(scope="module")
def pair(certificates: Certificates, cluster: Cluster, namespace: str) -> Iterator[Pair]:
    flags = cluster.flags(namespace)
    with (
        apiserver(certificates, *flags) as first,
        apiserver(certificates, *flags) as second,
        closing(calling(first)) as one,
        closing(calling(second)) as other,
    ):
        yield Pair((first, second), one, other)
        for server in (first, second):
            server.stop()
            assert [line for line in server.logged("api request") if line["status"] >= 500] == []


def object_name(path: str) -> str:
    """Of the Lease object."""
    return "n." + path.rpartition("/")[2]


def opened(caller: Caller, holder: str, ttl: int = 60) -> str:
    reply = caller.post(SESSIONS, {"holder": holder, "ttlSeconds": ttl})
    assert reply.status == 201
    return reply.json["id"]


def taken(caller: Caller, path: str, holder: str, session: str) -> Json:
    return caller.post(f"{path}/acquire", {"holder": holder, "session": session}).ok()


def test_a_lease_is_the_same_on_both(pair: Pair) -> None:
    path = new_path()
    here, there = Lease(pair.one, path), Lease(pair.other, path)
    token = here.acquire("a")["fencingToken"]
    assert there.acquire("b")["acquired"] is False
    assert there.renew("a", token)["acquired"] is True
    assert here.renew("a", token)["acquired"] is True
    assert there.release("a", token).status == 204
    won = there.acquire("b")
    assert (won["acquired"], won["fencingToken"]) == (True, token + 1)
    assert here.renew("a", token)["acquired"] is False
    assert here.get().ok()["holder"] == "b"


def test_who_waits_on_one_is_served_when_the_other_releases(pair: Pair) -> None:
    path = new_path()
    token = Lease(pair.one, path).acquire("a")["fencingToken"]
    with waiting(pair.other, path, "b") as asked:
        until_waiting(pair.servers[1], 1)
        assert Lease(pair.one, path).release("a", token).status == 204
        granted = asked.reply().ok()
    assert (granted["holder"], granted["fencingToken"], granted["cleanHandover"]) == ("b", token + 1, True)


def test_who_waits_on_one_is_served_when_what_the_other_granted_expires(pair: Pair) -> None:
    path = new_path()
    Lease(pair.one, path).acquire("a", ttl=1)
    with waiting(pair.other, path, "b") as asked:
        granted = asked.reply().ok()
    assert (granted["holder"], granted["fencingToken"], granted["cleanHandover"]) == ("b", 2, False)


def test_who_watches_one_is_told_what_happens_on_the_other(pair: Pair) -> None:
    path = new_path()
    name = path.rpartition("/")[2]
    lease = Lease(pair.one, path)
    told: list[tuple[str, str | None]] = []
    with Watch(pair.other, "/v1alpha1/namespaces/n/leases") as watch:

        def event() -> tuple[str, str | None]:
            while (line := watch.event())["object"]["name"] != name:
                pass
            return line["type"], line["object"].get("holder")

        lease.acquire("a")
        told.append(event())
        lease.renew("a", 1)
        lease.release("a", 1)
        told.append(event())
        lease.acquire("b", ttl=1)
        told += [event(), event()]
    assert told == [("acquired", "a"), ("released", None), ("acquired", "b"), ("expired", None)]


def test_a_list_on_one_has_what_the_other_wrote(pair: Pair) -> None:
    path = new_path()
    Lease(pair.one, path).acquire("a")

    def listed() -> bool:
        items = pair.other.get("/v1alpha1/namespaces/n/leases?limit=1000").ok()["items"]
        return path.rpartition("/")[2] in [item["name"] for item in items]

    until(listed)


def test_a_batch_is_carried_on_by_the_other(pair: Pair) -> None:
    paths = [new_path() for _ in range(50)]

    def batch(caller: Caller, op: str, **fields: object) -> list[Json]:
        operations = [
            {"op": op, "namespace": "n", "name": path.rpartition("/")[2], "holder": "a", **fields}
            for path in paths
        ]
        return caller.post("/v1alpha1/leases:batch", {"operations": operations}).ok()["results"]

    assert all(each["acquired"] for each in batch(pair.one, "acquire", ttlSeconds=60))
    assert all(each["acquired"] for each in batch(pair.other, "renew", ttlSeconds=60, fencingToken=1))
    assert all(each["acquired"] for each in batch(pair.one, "renew", ttlSeconds=60, fencingToken=1))
    assert {each["status"] for each in batch(pair.other, "release", fencingToken=1)} == {204}
    assert {Lease(pair.one, path).get().ok()["state"] for path in paths[:3]} == {"free"}


def test_a_session_is_the_same_on_both(pair: Pair) -> None:
    here, there = new_path(), new_path()
    session = opened(pair.one, "a")
    assert taken(pair.one, here, "a", session)["acquired"] is True
    assert taken(pair.other, there, "a", session)["acquired"] is True
    assert pair.other.post(f"{SESSIONS}/{session}/renew", {}).ok()["alive"] is True
    assert Lease(pair.other, here).acquire("b")["acquired"] is False
    assert Lease(pair.one, there).acquire("b")["acquired"] is False
    assert pair.other.get(f"{SESSIONS}/{session}").ok()["alive"] is True
    until(
        lambda: (
            [each["id"] for each in pair.other.get(f"{SESSIONS}?holder=a").ok()["items"]].count(session) == 1
        )
    )


def test_a_session_that_is_kept_on_one_is_not_taken_from_by_the_other(pair: Pair) -> None:
    path = new_path()
    session = opened(pair.one, "a", ttl=1)
    taken(pair.one, path, "a", session)
    stop = threading.Event()

    def keep() -> None:
        with closing(calling(pair.servers[0])) as keeper:
            while not stop.wait(0.3):
                assert keeper.post(f"{SESSIONS}/{session}/renew", {}).ok()["alive"] is True

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        denied = waiting(pair.other, path, "b", seconds=3)
        with denied as asked:
            assert asked.reply().ok()["acquired"] is False
    finally:
        stop.set()
        keeper.join()


def test_a_session_that_ends_on_one_frees_its_leases_on_the_other(pair: Pair) -> None:
    path, late = new_path(), new_path()
    session = opened(pair.one, "a")
    taken(pair.one, path, "a", session)
    with waiting(pair.other, path, "b") as asked:
        until_waiting(pair.servers[1], 1)
        assert pair.one.call("DELETE", f"{SESSIONS}/{session}").status == 204
        granted = asked.reply().ok()
    assert (granted["holder"], granted["fencingToken"], granted["cleanHandover"]) == ("b", 2, True)
    lost = pair.other.post(f"{SESSIONS}/{session}/renew", {}).ok()
    assert lost == {"id": session, "alive": False, "reason": "ended"}
    refused = pair.other.post(f"{late}/acquire", {"holder": "a", "session": session})
    assert (refused.status, refused.code) == (409, "session_ended")


def test_a_session_is_ended_before_its_lease_is_taken(pair: Pair, cluster: Cluster, namespace: str) -> None:
    path = new_path()
    session = opened(pair.one, "a", ttl=1)
    taken(pair.one, path, "a", session)
    with waiting(pair.other, path, "b") as asked:
        granted = asked.reply().ok()
    assert (granted["holder"], granted["fencingToken"], granted["cleanHandover"]) == ("b", 2, False)
    lost = pair.one.post(f"{SESSIONS}/{session}/renew", {}).ok()
    assert lost == {"id": session, "alive": False, "reason": "expired"}
    ended = [
        more
        for obj in cluster.leases(namespace)
        if obj["metadata"]["labels"][MANAGED_BY] == SESSION
        if (more := json.loads(obj["metadata"]["annotations"][MORE]))["id"] == session
    ]
    assert [more["ended"] for more in ended] == ["expired"]


def test_many_who_contend_on_both_hold_one_after_the_other(pair: Pair) -> None:
    """Ten times as many grants as tokens: each token once, in order, and no two at a time."""
    path = new_path()
    holding: set[str] = set()
    tokens: list[int] = []
    found: list[str] = []
    turns = count()

    def contend(server: Apiserver, holder: str) -> None:
        with closing(calling(server)) as caller:
            lease = Lease(caller, path)
            while next(turns) < 60:
                told = lease.acquire(holder, ttl=60, waitSeconds=5)
                if not told["acquired"]:
                    continue
                holding.add(holder)
                if holding != {holder}:
                    found.append(f"{holding} at a time")
                tokens.append(told["fencingToken"])
                holding.discard(holder)
                assert lease.release(holder, told["fencingToken"]).status == 204

    threads = [
        threading.Thread(target=contend, args=(server, f"{name}-{number}"))
        for name, server in zip("ab", pair.servers, strict=True)
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == []
    assert tokens == [*range(1, len(tokens) + 1)]
    assert len(tokens) > 20


@contextmanager
def third(certificates: Certificates, cluster: Cluster, namespace: str) -> Iterator[tuple[Apiserver, Caller]]:
    with (
        apiserver(certificates, *cluster.flags(namespace)) as server,
        closing(calling(server)) as caller,
    ):
        yield server, caller


def test_one_that_is_killed_is_not_missed(
    pair: Pair, certificates: Certificates, cluster: Cluster, namespace: str
) -> None:
    kept, left = new_path(), new_path()
    with third(certificates, cluster, namespace) as (server, caller):
        token = Lease(caller, kept).acquire("a")["fencingToken"]
        session = opened(caller, "a")
        taken(caller, left, "a", session)
        with waiting(pair.other, kept, "b") as asked:
            until_waiting(pair.servers[1], 1)
            server.kill()
            assert server.process.returncode == -signal.SIGKILL
            assert Lease(pair.one, kept).renew("a", token)["acquired"] is True
            assert pair.one.post(f"{SESSIONS}/{session}/renew", {}).ok()["alive"] is True
            assert Lease(pair.one, kept).release("a", token).status == 204
            assert asked.reply().ok()["holder"] == "b"
    assert Lease(pair.one, left).acquire("b")["acquired"] is False


def test_one_that_was_started_later_waits_a_whole_ttl(
    pair: Pair, certificates: Certificates, cluster: Cluster, namespace: str
) -> None:
    """It has not seen for how long the lease has not been renewed; the others have."""
    path = new_path()
    Lease(pair.one, path).acquire("a", ttl=2)
    with third(certificates, cluster, namespace) as (_, caller):
        assert Lease(caller, path).acquire("b")["acquired"] is False
        with waiting(caller, path, "b") as asked:
            granted = asked.reply().ok()
    assert (granted["holder"], granted["fencingToken"]) == ("b", 2)


@pytest.mark.parametrize("how", ["deleted", "lowered"])
def test_a_token_that_was_given_is_not_given_again(
    pair: Pair, cluster: Cluster, namespace: str, how: str
) -> None:
    path = new_path()
    here, there = Lease(pair.one, path), Lease(pair.other, path)
    for number in range(1, 4):
        assert here.acquire(f"h{number}")["fencingToken"] == number
        here.release(f"h{number}", number)
    until(lambda: there.get().ok()["fencingToken"] == 3)
    if how == "deleted":
        cluster.delete(namespace, object_name(path))
        until(
            lambda: bool(pair.servers[1].logged("a lease object was deleted, its tokens are remembered here"))
        )
    else:
        cluster.patch(namespace, object_name(path), {"spec": {"leaseTransitions": 1}})
    token = there.acquire("x")["fencingToken"]
    assert token > 3
    assert there.release("x", token).status == 204
    assert here.acquire("y")["fencingToken"] == token + 1


@pytest.mark.parametrize("how", ["deleted", "label taken off"])
def test_what_is_held_is_held_on_whatever_befalls_its_object(
    pair: Pair, cluster: Cluster, namespace: str, how: str
) -> None:
    path, under = new_path(), new_path()
    token = Lease(pair.one, path).acquire("a")["fencingToken"]
    session = opened(pair.one, "a")
    taken(pair.one, under, "a", session)
    names = [object_name(path), object_name(under), session_name(session)]
    for caller in (pair.other, pair.one):
        for name in names:
            if how == "deleted":
                cluster.delete(namespace, name)
            else:
                cluster.patch(namespace, name, {"metadata": {"labels": {MANAGED_BY: None}}})
        for each in (path, under):
            assert Lease(caller, each).acquire("b")["acquired"] is False
        assert Lease(caller, path).renew("a", token)["acquired"] is True
        assert caller.post(f"{SESSIONS}/{session}/renew", {}).ok()["alive"] is True
        assert taken(caller, under, "a", session)["fencingToken"] == 1
        labelled = [cluster.lease(namespace, name)["metadata"]["labels"][MANAGED_BY] for name in names]
        assert labelled == [LEASE, LEASE, SESSION]


def test_a_controller_that_edits_metadata_costs_no_renewal(
    pair: Pair, cluster: Cluster, namespace: str
) -> None:
    path = new_path()
    token = Lease(pair.one, path).acquire("a", ttl=30)["fencingToken"]
    session = opened(pair.one, "a", ttl=30)
    sessions = [
        obj["metadata"]["name"]
        for obj in cluster.leases(namespace)
        if session in obj["metadata"]["annotations"].get(MORE, "")
    ]
    stop = threading.Event()
    edits = count()

    def edit() -> None:
        while not stop.is_set():
            for name in (object_name(path), *sessions):
                cluster.patch(namespace, name, {"metadata": {"labels": {"edited": str(next(edits))}}})

    editor = threading.Thread(target=edit)
    editor.start()
    try:
        for _ in range(40):
            for caller in (pair.one, pair.other):
                assert Lease(caller, path).renew("a", token, ttl=30)["acquired"] is True
                assert caller.post(f"{SESSIONS}/{session}/renew", {}).ok()["alive"] is True
    finally:
        stop.set()
        editor.join()
    assert next(edits) > 40
    assert "edited" in cluster.lease(namespace, object_name(path))["metadata"]["labels"]
