"""Watching from outside: every change in order, resumable, and ended in order."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.roles.apiserver.conftest import Lease, calling, new_path
from tests.roles.apiserver.https import Caller, Json
from tests.roles.apiserver.scrape import value
from tests.roles.apiserver.streams import CutOff, Watch
from tests.support.apiserver import Apiserver, Certificates, apiserver, until

ALL = "/v1alpha1/leases"
NAMESPACE = "/v1alpha1/namespaces/n/leases"


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def server(request: pytest.FixtureRequest) -> Apiserver:
    return request.getfixturevalue(request.param)


@pytest.fixture
def caller(server: Apiserver) -> Iterator[Caller]:
    with closing(calling(server)) as opened:
        yield opened


@pytest.fixture
def lease(caller: Caller) -> Lease:
    return Lease(caller, new_path())


def told(event: Json) -> tuple[str, str, str | None, int]:
    lease = event["object"]
    return event["type"], lease["name"], lease.get("holder"), lease["fencingToken"]


def test_every_change_of_ownership_is_told_in_order(caller: Caller, lease: Lease) -> None:
    name = lease.path.rpartition("/")[2]
    with Watch(caller, NAMESPACE) as watch:
        lease.acquire("a")
        lease.acquire("a")
        lease.renew("a", 1)
        lease.acquire("b")
        lease.release("a", 1)
        lease.acquire("b")
        lease.ask("force-release", fencingToken=2, reason="test").ok()
        lease.acquire("c", ttl=1)
        events = [watch.event() for _ in range(6)]
    assert [told(event) for event in events] == [
        ("acquired", name, "a", 1),
        ("released", name, None, 1),
        ("acquired", name, "b", 2),
        ("forced", name, None, 2),
        ("acquired", name, "c", 3),
        ("expired", name, None, 3),
    ]
    revisions = [watch.revision, *(event["revision"] for event in events)]
    assert revisions == sorted(set(revisions)), "revisions sort as text and grow"
    last = lease.get().ok()
    assert events[-1]["object"].keys() == last.keys(), "the object is the lease as get shows it"


def test_an_expiry_is_told_without_a_write(server: Apiserver, caller: Caller, lease: Lease) -> None:
    lease.acquire("a", ttl=1)
    backend = "mem" if "mem" in " ".join(server.process.args) else "sql"  # type: ignore[arg-type]
    name = "berth_lease_store_call_duration_seconds_count"
    with Watch(caller, NAMESPACE) as watch:
        before = value(server, name, op="put", backend=backend, outcome="ok")
        assert watch.event()["type"] == "expired"
        assert value(server, name, op="put", backend=backend, outcome="ok") == before


@pytest.mark.parametrize("ending", ["released", "expired"])
def test_the_end_of_a_session_is_told_for_each_lease(caller: Caller, ending: str) -> None:
    ttl = 60 if ending == "released" else 1
    session = caller.post("/v1alpha1/sessions", {"holder": "a", "ttlSeconds": ttl}).json["id"]
    paths = [new_path() for _ in range(3)]
    with Watch(caller, ALL) as watch:
        for path in paths:
            Lease(caller, path).ask("acquire", holder="a", session=session).ok()
        if ending == "released":
            caller.call("DELETE", f"/v1alpha1/sessions/{session}")
        events = [told(watch.event()) for _ in range(6)]
    names = [path.rpartition("/")[2] for path in paths]
    assert sorted(events) == sorted(
        [("acquired", name, "a", 1) for name in names] + [(ending, name, None, 1) for name in names]
    )


def test_a_watch_goes_on_from_a_revision(caller: Caller, lease: Lease) -> None:
    revision = caller.get(f"{NAMESPACE}?limit=1").ok()["revision"]
    lease.acquire("a")
    lease.release("a", 1)
    with Watch(caller, NAMESPACE, f"&revision={revision}") as watch:
        first, second = watch.event(), watch.event()
        assert [first["type"], second["type"]] == ["acquired", "released"]
    with Watch(caller, NAMESPACE, f"&revision={first['revision']}") as watch:
        assert watch.event() == second


def test_a_namespace_is_told_of_its_own_only(caller: Caller, lease: Lease) -> None:
    with Watch(caller, "/v1alpha1/namespaces/elsewhere/leases") as watch, Watch(caller, ALL) as everything:
        lease.acquire("a")
        Lease(caller, "/v1alpha1/namespaces/elsewhere/leases/x").acquire("a")
        assert watch.event()["object"]["namespace"] == "elsewhere"
        assert everything.event()["object"]["namespace"] == "n"


@pytest.mark.parametrize("revision", ["x", "0", "0000000000000000-0000000000000001", "%F0%9F", "-", "1-1"])
def test_a_foreign_revision_is_too_old(caller: Caller, revision: str) -> None:
    reply = caller.get(f"{ALL}?watch=true&revision={revision}")
    assert (reply.status, reply.code) == (410, "revision_too_old")


def test_a_revision_is_too_old_once_what_followed_it_is_gone(caller: Caller, lease: Lease) -> None:
    revision = caller.get(f"{ALL}?limit=1").ok()["revision"]
    *_, name = lease.path.split("/")
    mine = {"namespace": "n", "name": name, "holder": "a"}
    for first in (1, 2501):
        with Watch(caller, ALL, f"&revision={revision}") as watch:
            assert first == 1 or watch.event()["type"] == "acquired", "it is still there"
        operations: list[Json] = []
        for token in range(first, first + 2500):
            operations.append({"op": "acquire", **mine, "ttlSeconds": 9})
            operations.append({"op": "release", **mine, "fencingToken": token})
        caller.post("/v1alpha1/leases:batch", {"operations": operations}).ok()
    lease.acquire("a")
    assert caller.get(f"{ALL}?watch=true&revision={revision}").code == "revision_too_old"


@pytest.mark.parametrize(
    "query",
    ["watch=maybe", "watch=true&limit=3", "watch=true&continue=x", "revision=x", "watch=0&revision=x"],
)
def test_what_does_not_go_together_is_refused(caller: Caller, query: str) -> None:
    reply = caller.get(f"{ALL}?{query}")
    assert (reply.status, reply.code) == (400, "invalid_body")


def test_a_false_watch_is_a_list(caller: Caller) -> None:
    assert "items" in caller.get(f"{ALL}?watch=false&limit=1").ok()


def test_streams_are_counted_while_they_last(server: Apiserver, caller: Caller) -> None:
    def watching() -> float:
        return value(server, "berth_apiserver_watching")

    until(lambda: watching() == 0)
    with Watch(caller, ALL):
        assert watching() == 1
    until(lambda: watching() == 0)


def test_a_drain_ends_the_stream_after_a_bookmark(certificates: Certificates) -> None:
    with apiserver(certificates) as server, closing(calling(server)) as caller, ExitStack() as stack:
        watches = [stack.enter_context(Watch(caller, ALL)) for _ in range(3)]
        Lease(caller, new_path()).acquire("a")
        server.process.terminate()
        for watch in watches:
            event = watch.line()
            assert event is not None
            assert event["type"] == "acquired"
            last = watch.line()
            assert last == {"type": "bookmark", "revision": event["revision"]}
            assert watch.line() is None, "the end is clean"
        assert server.wait() == 0
        assert server.errors() == []


def test_a_reader_who_does_not_read_is_cut_off_and_holds_nobody_up(certificates: Certificates) -> None:
    with apiserver(certificates) as server, closing(calling(server)) as caller, ExitStack() as stack:
        slow = stack.enter_context(Watch(caller, ALL))
        quick = stack.enter_context(Watch(caller, ALL))
        name = new_path().rpartition("/")[2]
        token = 0
        for _ in range(5):
            operations = []
            for _ in range(2500):
                token += 1
                lease = {"namespace": "n", "name": name, "holder": "a" * 200}
                operations += [
                    {"op": "acquire", **lease, "ttlSeconds": 9},
                    {"op": "release", **lease, "fencingToken": token},
                ]
            caller.post("/v1alpha1/leases:batch", {"operations": operations}).ok()
            for _ in operations:
                quick.event()
        # It reads again only now: what it missed is gone, and so is the stream.
        with pytest.raises(CutOff):
            while slow.line() is not None:
                pass
        server.process.terminate()
        assert server.wait() == 0
        assert server.errors() == []
