"""A cluster that fails: what callers are told, for how long they wait, and that all goes on afterwards.

What one request meets is scripted on the test API server; what befalls a whole process is done to a real one,
where there is one.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import pytest

from tests.kube.server.faults import Fault
from tests.kube.server.rest import KubeServer
from tests.roles.apiserver.conftest import Lease, calling, new_path
from tests.roles.apiserver.https import Caller, Json, Reply
from tests.roles.apiserver.scrape import value
from tests.roles.apiserver.streams import until_waiting, waiting
from tests.support.apiserver import Apiserver, Certificates, apiserver, until
from tests.support.clusters import RealCluster, TestCluster

BOUND_SECONDS = 10.0
"""So long callers of berth's own client wait. A round that was under way comes before theirs."""


@pytest.fixture(scope="module")
def server(certificates: Certificates, test_cluster: TestCluster) -> Iterator[Apiserver]:
    with apiserver(certificates, *test_cluster.flags(test_cluster.new_namespace())) as server:
        yield server
        server.stop()


@pytest.fixture
def caller(server: Apiserver, test_cluster: TestCluster) -> Iterator[Caller]:
    with closing(calling(server)) as caller:
        yield caller
    test_cluster.heal()


@pytest.fixture
def lease(caller: Caller) -> Lease:
    """Held by `a` under token 1."""
    lease = Lease(caller, new_path())
    lease.acquire("a")
    return lease


def failing(verb: str, status: int = 500, times: int = 1, **more: object) -> Fault:
    reasons = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 403: "Forbidden"}
    reason = reasons.get(status, "InternalError")
    return Fault(verb=verb, plural="leases", times=times, status=status, reason=reason, **more)  # type: ignore[arg-type]


def renewal(lease: Lease) -> Reply:
    return lease.ask("renew", holder="a", fencingToken=1, ttlSeconds=60)


def refused(reply: Reply, code: str) -> None:
    assert (reply.status, reply.code) == (503, code)
    assert int(reply.headers["Retry-After"]) >= 1


def test_a_write_that_failed_may_have_been_made(lease: Lease, test_cluster: TestCluster) -> None:
    test_cluster.fail(failing("update"))
    refused(renewal(lease), "outcome_unknown")
    assert renewal(lease).ok()["acquired"] is True


@pytest.mark.parametrize("happening", ["cut after", "hang after"])
def test_a_write_whose_answer_was_lost_is_found(
    lease: Lease, test_cluster: TestCluster, happening: str
) -> None:
    test_cluster.fail(Fault(happening, verb="update", plural="leases"))  # type: ignore[arg-type]
    assert renewal(lease).ok()["acquired"] is True


def test_a_grant_whose_answer_was_lost_is_found(caller: Caller, test_cluster: TestCluster) -> None:
    test_cluster.fail(Fault("cut after", verb="create", plural="leases"))
    granted = Lease(caller, new_path()).acquire("a")
    assert (granted["acquired"], granted["fencingToken"]) == (True, 1)


def test_a_write_that_hangs_is_given_up_in_time(
    lease: Lease, test_cluster: TestCluster, server: Apiserver
) -> None:
    test_cluster.fail(Fault("hang", verb="update", plural="leases"))
    begun = time.monotonic()
    with closing(calling(server)) as other:
        until_over: list[Reply] = []
        renewing = threading.Thread(target=lambda: until_over.append(renewal(lease)))
        renewing.start()
        assert other.get("/livez").status == 200
        renewing.join()
    refused(until_over[0], "outcome_unknown")
    assert time.monotonic() - begun < BOUND_SECONDS / 2
    assert renewal(lease).ok()["acquired"] is True


def test_a_cluster_that_asks_for_patience_gets_it(lease: Lease, test_cluster: TestCluster) -> None:
    test_cluster.fail(failing("update", 429, retry_after_seconds=1))
    begun = time.monotonic()
    assert renewal(lease).ok()["acquired"] is True
    assert time.monotonic() - begun >= 1


def test_a_cluster_that_asks_for_much_patience_is_told_on(lease: Lease, test_cluster: TestCluster) -> None:
    test_cluster.fail(failing("update", 429, retry_after_seconds=40))
    reply = renewal(lease)
    refused(reply, "store_unavailable")
    assert int(reply.headers["Retry-After"]) >= 40
    assert renewal(lease).ok()["acquired"] is True


def test_conflicts_that_end(lease: Lease, test_cluster: TestCluster) -> None:
    test_cluster.fail(failing("update", 409, times=5))
    assert renewal(lease).ok()["acquired"] is True


def test_a_storm_of_conflicts(lease: Lease, test_cluster: TestCluster) -> None:
    test_cluster.fail(failing("update", 409, times=10_000))
    begun = time.monotonic()
    reply = renewal(lease)
    assert reply.status == 503
    assert time.monotonic() - begun < BOUND_SECONDS
    test_cluster.heal()
    assert renewal(lease).ok()["acquired"] is True


def test_rights_that_are_taken_away(lease: Lease, test_cluster: TestCluster, server: Apiserver) -> None:
    test_cluster.fail(failing("update", 403))
    refused(renewal(lease), "store_unavailable")
    assert "scripted" in server.logged("store fault")[-1]["error"]
    assert renewal(lease).ok()["acquired"] is True


def test_a_watch_that_fails_shows(
    lease: Lease, caller: Caller, server: Apiserver, test_cluster: TestCluster
) -> None:
    assert value(server, "berth_lease_store_stale_seconds") == 0
    test_cluster.fail(failing("watch", 403, times=10_000))
    test_cluster.do(lambda kube: kube.watches.cut_clients())
    until(lambda: value(server, "berth_lease_store_stale_seconds") > 1)
    assert caller.get("/readyz").body == b"ok\n", "that may be a blip"
    until(lambda: b"degraded: what other servers" in caller.get("/readyz").body, within_seconds=20)
    assert caller.get("/readyz").status == 200
    assert renewal(lease).ok()["acquired"] is True
    test_cluster.heal()
    until(lambda: caller.get("/readyz").body == b"ok\n", within_seconds=40)
    assert value(server, "berth_lease_store_stale_seconds") == 0


def test_readiness_is_whether_a_write_could_be_made(
    caller: Caller, test_cluster: TestCluster, lease: Lease
) -> None:
    until(lambda: caller.get("/readyz").status == 200)
    test_cluster.fail(failing("create", 503, times=10_000))
    until(lambda: caller.get("/readyz").status == 503)
    assert caller.get("/livez").status == 200
    test_cluster.heal()
    until(lambda: caller.get("/readyz").status == 200)


def forget(kube: KubeServer) -> None:
    """All that was, and every watch."""
    kube.compact()
    for watch in kube.watches.open:
        watch.cut()


def test_a_watch_that_is_too_old_is_begun_anew(
    lease: Lease, test_cluster: TestCluster, certificates: Certificates, server: Apiserver
) -> None:
    """What happened in between is told as well."""
    namespace = test_cluster.new_namespace()
    with (
        apiserver(certificates, *test_cluster.flags(namespace)) as watching,
        closing(calling(watching)) as there,
        apiserver(certificates, *test_cluster.flags(namespace)) as writing,
        closing(calling(writing)) as here,
    ):
        path = new_path()
        Lease(here, path).acquire("a")
        with waiting(there, path, "b") as asked:
            until_waiting(watching, 1)
            test_cluster.fail(failing("watch", 410, times=2))
            test_cluster.do(forget)
            assert Lease(here, path).release("a", 1).status == 204
            assert asked.reply().ok()["holder"] == "b"
        for each in (watching, writing):
            each.stop()


def test_a_batch_that_is_too_large_is_bounded_in_time(
    certificates: Certificates, test_cluster: TestCluster
) -> None:
    flags = (*test_cluster.flags(test_cluster.new_namespace()), "--k8s-qps=50", "--k8s-burst=50")
    with apiserver(certificates, *flags) as server, closing(calling(server)) as caller:
        operations = [
            {"op": "acquire", "namespace": "n", "name": f"many-{number}", "holder": "a", "ttlSeconds": 60}
            for number in range(2_000)
        ]
        begun = time.monotonic()
        results: list[Json] = caller.post("/v1alpha1/leases:batch", {"operations": operations}).ok()[
            "results"
        ]
        assert time.monotonic() - begun < BOUND_SECONDS
        granted = [each for each in results if each["status"] == 200]
        assert 50 <= len(granted) <= 400
        failed = [each for each in results if each["status"] != 200]
        assert {each["status"] for each in failed} == {503}
        codes = [each["code"] for each in failed]
        assert codes.count("outcome_unknown") <= 16, "what was on its way"
        assert codes.count("store_unavailable") >= len(failed) - 16
        server.stop()


def test_a_shared_lease_that_has_outgrown_its_object(caller: Caller, test_cluster: TestCluster) -> None:
    name = new_path().rpartition("/")[2]

    def acquired(numbers: range) -> list[Json]:
        operations = [
            {
                "op": "acquire",
                "namespace": "n",
                "name": name,
                "holder": f"holder-{number}-".ljust(253, "x"),
                "ttlSeconds": 600,
                "semantics": "at-least-once",
            }
            for number in numbers
        ]
        return caller.post("/v1alpha1/leases:batch", {"operations": operations}).ok()["results"]

    results = [each for at in range(0, 1_000, 200) for each in acquired(range(at, at + 200))]
    granted = [each for each in results if each["status"] == 200]
    others = [each for each in results if each["status"] != 200]
    assert 700 < len(granted) < 1_000
    assert {(each["status"], each["code"]) for each in others} == {(503, "store_unavailable")}
    assert all("has no room for" in each["error"] for each in others)
    assert acquired(range(5))[0]["acquired"] is True, "who is in stays in"


# --- a real kube-apiserver


@pytest.fixture(scope="module")
def on_real(certificates: Certificates, real_cluster: RealCluster) -> Iterator[tuple[Apiserver, Apiserver]]:
    flags = real_cluster.flags(real_cluster.new_namespace())
    with apiserver(certificates, *flags) as one, apiserver(certificates, *flags) as other:
        yield one, other
        for server in (one, other):
            server.stop()


@pytest.fixture
def callers(on_real: tuple[Apiserver, Apiserver]) -> Iterator[tuple[Caller, Caller]]:
    with closing(calling(on_real[0])) as one, closing(calling(on_real[1])) as other:
        yield one, other


def test_a_cluster_that_stands_still(callers: tuple[Caller, Caller], real_cluster: RealCluster) -> None:
    one, other = callers
    kept, free = new_path(), new_path()
    assert Lease(one, kept).acquire("a")["fencingToken"] == 1
    until(lambda: one.get("/readyz").status == 200)
    with real_cluster.server.frozen():
        for caller in callers:
            begun = time.monotonic()
            reply = Lease(caller, kept).ask("renew", holder="a", fencingToken=1, ttlSeconds=60)
            assert (reply.status, int(reply.headers["Retry-After"]) >= 1) == (503, True)
            reply = Lease(caller, free).ask("acquire", holder="a", ttlSeconds=60)
            assert (reply.status, int(reply.headers["Retry-After"]) >= 1) == (503, True)
            assert time.monotonic() - begun < BOUND_SECONDS
            assert caller.get("/livez").status == 200
            assert caller.get("/readyz").status == 503
    until(lambda: all(caller.get("/readyz").status == 200 for caller in callers), within_seconds=30)
    assert Lease(one, kept).renew("a", 1)["acquired"] is True
    assert Lease(other, kept).renew("a", 1)["acquired"] is True
    assert Lease(other, kept).acquire("b")["acquired"] is False


def test_nobody_has_company_over_a_standstill(
    on_real: tuple[Apiserver, Apiserver], real_cluster: RealCluster
) -> None:
    """Holders of ttl 2 s, who stop when that has passed since they sent, and standbys; still for 4 s."""
    path, over = new_path(), threading.Event()
    spans: list[tuple[float, float, int, str]] = []

    def hold(server: Apiserver, holder: str) -> None:
        with closing(calling(server)) as caller:
            lease = Lease(caller, path)
            while not over.is_set():
                sent = time.monotonic()
                reply = lease.ask("acquire", holder=holder, ttlSeconds=2, waitSeconds=1)
                if reply.status != 200 or not reply.json["acquired"]:
                    continue
                granted_at, token = time.monotonic(), reply.json["fencingToken"]
                until_when = keep(lease, holder, token, sent)
                if granted_at < until_when:  # else the grant came too late to act by it
                    spans.append((granted_at, until_when, token, holder))

    def keep(lease: Lease, holder: str, token: int, sent: float) -> float:
        """Until when it may have acted."""
        deadline, began = sent + 2, sent
        while time.monotonic() < deadline and time.monotonic() - began < 3 and not over.is_set():
            over.wait(0.5)
            again = time.monotonic()
            reply = lease.ask("renew", holder=holder, fencingToken=token, ttlSeconds=2)
            if reply.status == 200 and not reply.json["acquired"]:
                return min(deadline, time.monotonic())
            if reply.status == 200:
                deadline = again + 2
        now = time.monotonic()
        if now < deadline:
            lease.release(holder, token)
        return min(deadline, now)

    threads = [
        threading.Thread(target=hold, args=(server, f"h{number}"))
        for number, server in enumerate(on_real * 2)
    ]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(spans) >= 2, within_seconds=30)
        with real_cluster.server.frozen():
            threading.Event().wait(4)
        seen = len(spans)
        until(lambda: len(spans) >= seen + 3, within_seconds=60)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    for (_, ended, token, holder), (granted_at, _, following, next_holder) in pairwise(sorted(spans)):
        assert ended <= granted_at, (token, following)
        # Who was granted its own tenure again, late, goes on under the same token.
        assert following > token or (following == token and next_holder == holder)


def test_a_cluster_that_is_restarted(
    on_real: tuple[Apiserver, Apiserver], callers: tuple[Caller, Caller], real_cluster: RealCluster
) -> None:
    one, other = callers
    path = new_path()
    token = Lease(one, path).acquire("a")["fencingToken"]
    session = one.post("/v1alpha1/sessions", {"holder": "a", "ttlSeconds": 120}).json["id"]
    real_cluster.server.restart()
    until(lambda: other.get("/readyz").status == 200, within_seconds=30)
    assert Lease(other, path).renew("a", token)["acquired"] is True
    assert Lease(one, path).renew("a", token)["acquired"] is True
    assert other.post(f"/v1alpha1/sessions/{session}/renew", {}).ok()["alive"] is True
    heard_again(on_real, callers)


def test_a_cluster_that_has_forgotten_the_past(
    on_real: tuple[Apiserver, Apiserver], callers: tuple[Caller, Caller], real_cluster: RealCluster
) -> None:
    """Its etcd is compacted, and it is restarted: watches are refused by 410."""
    path = new_path()
    token = Lease(callers[0], path).acquire("a")["fencingToken"]
    real_cluster.server.compact()
    until(lambda: callers[1].get("/readyz").status == 200, within_seconds=30)
    assert Lease(callers[1], path).renew("a", token)["acquired"] is True
    heard_again(on_real, callers)


def heard_again(servers: tuple[Apiserver, Apiserver], callers: tuple[Caller, Caller]) -> None:
    """Who waits on one hears of the other."""
    one, other = callers
    path = new_path()
    Lease(one, path).acquire("a")
    with waiting(other, path, "b", seconds=60) as asked:
        until_waiting(servers[1], 1)
        assert Lease(one, path).release("a", 1).status == 204
        assert asked.reply().ok()["holder"] == "b"
