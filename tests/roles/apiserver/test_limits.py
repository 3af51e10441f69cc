"""Limits on a tenant from outside: refused with a code, a time and a count, and no other tenant feels it."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.roles.apiserver.conftest import KEYS, Lease, calling, key_line, new_path
from tests.roles.apiserver.https import Caller, Json, Reply
from tests.roles.apiserver.scrape import value
from tests.roles.apiserver.streams import Watch, until_waiting, waiting
from tests.support.apiserver import Apiserver, Certificates, apiserver, refused, until

ALL = "/v1alpha1/leases"


@contextmanager
def limited_server(certificates: Certificates, directory: Path, **limits: int) -> Iterator[Apiserver]:
    file = directory / "keys"
    file.write_text("".join(key_line(key, identity) for key, identity in KEYS.items()))
    flags = ["--store-backend", "mem", "--auth-mode", "static-keys", "--api-keys-file", str(file)]
    flags += [f"--max-{name.replace('_', '-')}={limit}" for name, limit in limits.items()]
    with apiserver(certificates, *flags) as running:
        yield running
        running.stop()


@pytest.fixture(scope="module")
def rated(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    with limited_server(certificates, tmp_path_factory.mktemp("r"), rate=20, renew_rate=30) as running:
        yield running


@pytest.fixture
def server(certificates: Certificates, tmp_path: Path) -> Iterator[Apiserver]:
    with limited_server(certificates, tmp_path, waiting=2, watching=2, leases=3) as running:
        yield running


@pytest.fixture
def west(server: Apiserver) -> Iterator[Caller]:
    with closing(calling(server, "west-key")) as caller:
        yield caller


@pytest.fixture
def east(server: Apiserver) -> Iterator[Caller]:
    with closing(calling(server, "east-key")) as caller:
        yield caller


def limited(server: Apiserver, kind: str) -> float:
    return value(server, "berth_apiserver_limited_total", limit=kind)


def check_refusal(reply: Reply, code: str) -> None:
    assert (reply.status, reply.code) == (429, code)
    assert int(reply.headers["Retry-After"]) >= 1


def test_a_rate(rated: Apiserver) -> None:
    with closing(calling(rated, "west-key")) as west, closing(calling(rated, "east-key")) as east:
        replies = [west.get("/v1alpha1/whoami") for _ in range(100)]
        over = [reply for reply in replies if reply.status != 200]
        assert over
        check_refusal(over[0], "rate_limited")
        assert east.get("/v1alpha1/whoami").status == 200, "another tenant is let through"
        assert limited(rated, "rate") == len(over)


def test_renewals_have_a_lane_of_their_own(rated: Apiserver) -> None:
    with closing(calling(rated, "east-key")) as east:
        lease = Lease(east, new_path())
        lease.acquire("east")
        while east.get("/v1alpha1/whoami").status == 200:
            pass
        assert lease.renew("east", 1)["acquired"] is True
        assert lease.release("east", 1).status == 204


def test_each_operation_of_a_batch_counts(rated: Apiserver) -> None:
    renew = {
        "op": "renew",
        "namespace": "n",
        "name": "x",
        "holder": "ops",
        "fencingToken": 1,
        "ttlSeconds": 9,
    }
    with closing(calling(rated, "root-key")) as ops:
        results: list[Json] = ops.post("/v1alpha1/leases:batch", {"operations": [renew] * 200}).ok()[
            "results"
        ]
        codes = [result.get("code", "") for result in results]
        assert 60 <= codes.count("") < 100
        assert codes.count("rate_limited") == 200 - codes.count("")
        assert limited(rated, "renew_rate") == codes.count("rate_limited")


def test_waiting(server: Apiserver, west: Caller, east: Caller) -> None:
    path = new_path()
    east.post(f"{path}/acquire", {"holder": "east", "ttlSeconds": 60}).ok()
    with ExitStack() as stack:
        for number in range(2):
            stack.enter_context(waiting(west, path, f"west/{number}"))
            until_waiting(server, number + 1)
        reply = west.post(f"{path}/acquire", {"holder": "west/3", "ttlSeconds": 9, "waitSeconds": 9})
        check_refusal(reply, "too_many_connections")
    until_waiting(server, 0)
    assert limited(server, "waiting") >= 1


def test_watching(server: Apiserver, west: Caller) -> None:
    with Watch(west, ALL), Watch(west, ALL):
        check_refusal(west.get(f"{ALL}?watch=true"), "too_many_connections")
    until(lambda: value(server, "berth_apiserver_watching") == 0)
    with Watch(west, ALL):
        pass


def test_leases(server: Apiserver, west: Caller, east: Caller) -> None:
    paths = [new_path() for _ in range(4)]
    for path in paths[:3]:
        west.post(f"{path}/acquire", {"holder": "west", "ttlSeconds": 60}).ok()
    fourth = {"holder": "west", "ttlSeconds": 60}
    check_refusal(west.post(f"{paths[3]}/acquire", fourth), "quota")
    waits = west.post(f"{paths[3]}/acquire", fourth | {"waitSeconds": 5})
    check_refusal(waits, "quota")
    kept = west.post(f"{paths[0]}/acquire", fourth).ok()
    assert kept["acquired"] is True, "what is held already may be asked for again"
    operation = {"op": "acquire", "namespace": "n", "name": paths[3].rpartition("/")[2], **fourth}
    (result,) = west.post("/v1alpha1/leases:batch", {"operations": [operation]}).ok()["results"]
    assert result["code"] == "quota"
    assert west.post(f"{paths[0]}/release", {"holder": "west", "fencingToken": 1}).status == 204
    assert west.post(f"{paths[3]}/acquire", fourth).ok()["acquired"] is True
    assert limited(server, "leases") >= 3
    theirs = east.post(f"{new_path()}/acquire", {"holder": "east", "ttlSeconds": 60}).ok()
    assert theirs["acquired"] is True


def test_a_lease_that_another_holds_is_told_so_also_at_the_quota(west: Caller, east: Caller) -> None:
    path = new_path()
    east.post(f"{path}/acquire", {"holder": "east", "ttlSeconds": 60}).ok()
    for _ in range(3):
        west.post(f"{new_path()}/acquire", {"holder": "west", "ttlSeconds": 60}).ok()
    reply = west.post(f"{path}/acquire", {"holder": "west", "ttlSeconds": 60}).ok()
    assert (reply["acquired"], reply["reason"]) == (False, "held")


def test_a_ttl_out_of_bounds_is_counted(server: Apiserver, west: Caller) -> None:
    body = {"op": "acquire", "namespace": "n", "name": "x", "holder": "west", "ttlSeconds": 10**6}
    assert west.post(f"{new_path()}/acquire", {"holder": "west", "ttlSeconds": 10**6}).code == "ttl_too_large"
    (result,) = west.post("/v1alpha1/leases:batch", {"operations": [body]}).ok()["results"]
    assert result["code"] == "ttl_too_large"
    assert limited(server, "ttl") == 2


def test_limits_need_tenants(certificates: Certificates, tmp_path: Path) -> None:
    status, text = refused(
        *certificates.flags, "--store-backend", "mem", "--max-rate", "5", "--max-leases", "-1"
    )
    assert status == 2
    assert "--max-leases: must be 0 (no limit) or more" in text
    assert "--max-rate, --max-leases: limits are of tenants" in text
