"""What an operator sees of requests: metrics under the names that dashboards know, and lines in the log."""

import re
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.roles.apiserver.conftest import Lease, calling, new_path
from tests.roles.apiserver.https import Caller, head
from tests.roles.apiserver.scrape import fetch, value
from tests.support.apiserver import Apiserver, until

ROUTE = "POST /v1alpha1/namespaces/{namespace}/leases/{name}"
OUTCOMES = {
    "acquired",
    "held-by-other",
    "renewed",
    "released",
    "conflict",
    "unauthorized",
    "invalid-key",
    "error",
}


def outcomes(server: Apiserver) -> dict[str, float]:
    """How often each outcome has been told."""
    families = text_string_to_metric_families(fetch(server, "/metrics")[2])
    samples = next(f for f in families if f.name == "berth_apiserver_lease_outcomes").samples
    return {sample.labels["outcome"]: sample.value for sample in samples if sample.name.endswith("_total")}


def test_the_metrics_port(memory: Apiserver) -> None:
    status, content_type, body = fetch(memory, "/metrics")
    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    assert body.endswith("\n")
    assert fetch(memory, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    assert fetch(memory, "/metrics", "HEAD")[::2] == (200, "")
    assert fetch(memory, "/v1alpha1/leases")[0] == 404
    assert fetch(memory, "/metrics", "POST")[0] in {404, 405}


def test_families_and_labels(memory: Apiserver, caller: Caller) -> None:
    lease = Lease(caller, new_path())
    lease.acquire("h")
    lease.get()
    caller.get("/readyz")
    caller.get("/v1alpha1/leases")
    families = {
        family.name: family for family in text_string_to_metric_families(fetch(memory, "/metrics")[2])
    }

    def shape(name: str) -> tuple[str, set[str]]:
        labels = {label for sample in families[name].samples for label in sample.labels}
        return families[name].type, labels - {"le"}

    request = {"route", "method", "status"}
    assert shape("berth_apiserver_request_duration_seconds") == ("histogram", request)
    assert shape("berth_apiserver_requests") == ("counter", request)
    assert shape("berth_apiserver_requests_inflight") == ("gauge", set())
    assert shape("berth_apiserver_lease_outcomes") == ("counter", {"outcome"})
    assert shape("berth_lease_store_call_duration_seconds") == ("histogram", {"op", "backend", "outcome"})
    assert shape("berth_build_info")[0] == "gauge"
    assert any(name.startswith("process_") for name in families)
    store = families["berth_lease_store_call_duration_seconds"].samples
    assert {sample.labels["backend"] for sample in store} == {"mem"}
    assert {sample.labels["op"] for sample in store} >= {"get", "put", "list", "ping"}
    assert {sample.labels["outcome"] for sample in store} <= {"ok", "conflict", "notfound", "error"}
    buckets = sorted({float(sample.labels["le"]) for sample in store if "le" in sample.labels})
    assert buckets[:-1] == pytest.approx([0.0001 * 2**power for power in range(16)])
    assert set(outcomes(memory)) == OUTCOMES


def test_the_sqlite_store_is_called_sql(sqlite: Apiserver) -> None:
    with closing(calling(sqlite)) as caller:
        caller.get("/readyz")
    assert 'backend="sql"' in fetch(sqlite, "/metrics")[2]


def test_no_series_names_a_lease_a_holder_or_a_tenant(keyed: Apiserver, west: Caller) -> None:
    path = new_path()
    Lease(west, path).acquire("west/secret-holder")
    body = fetch(keyed, "/metrics")[2]
    for word in ("west", "secret-holder", path.rpartition("/")[2]):
        assert not re.search(rf'"[^"]*\b{word}\b', body)


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/healthz", ("GET /healthz", "GET", "200")),
        ("HEAD", "/healthz", ("GET /healthz", "HEAD", "200")),
        ("GET", "/nope", ("unmatched", "GET", "404")),
        ("DELETE", "/healthz", ("unmatched", "DELETE", "405")),
        ("BREW", "/nope", ("unmatched", "OTHER", "404")),
        ("BREW", "/healthz", ("unmatched", "OTHER", "405")),
        (
            "GET",
            "/v1alpha1/namespaces/N/leases",
            ("GET /v1alpha1/namespaces/{namespace}/leases", "GET", "400"),
        ),
    ],
)
def test_a_request_is_counted(
    memory: Apiserver, caller: Caller, method: str, path: str, labels: tuple[str, str, str]
) -> None:
    named = dict(zip(("route", "method", "status"), labels, strict=True))
    names = ("berth_apiserver_requests_total", "berth_apiserver_request_duration_seconds_count")
    before = [value(memory, name, **named) for name in names]
    caller.exchange(head(method, path))
    until(lambda: [value(memory, name, **named) for name in names] == [count + 1 for count in before])


def test_what_came_of_it_is_counted(memory: Apiserver, caller: Caller) -> None:
    lease = Lease(caller, new_path())
    steps = [
        ("acquired", "acquire", {"holder": "h", "ttlSeconds": 60}),
        ("held-by-other", "acquire", {"holder": "other", "ttlSeconds": 60}),
        ("renewed", "renew", {"holder": "h", "fencingToken": 1, "ttlSeconds": 60}),
        ("held-by-other", "renew", {"holder": "h", "fencingToken": 2, "ttlSeconds": 60}),
        ("conflict", "release", {"holder": "h", "fencingToken": 2}),
        ("released", "release", {"holder": "h", "fencingToken": 1}),
        (None, "acquire", {"holder": ""}),
        (None, "acquire", {"holder": "h" * 5000}),
    ]
    for outcome, verb, fields in steps:
        expected = {each: count + (each == outcome) for each, count in outcomes(memory).items()}
        lease.ask(verb, **fields)
        until(lambda expected=expected: outcomes(memory) == expected)


def test_bad_keys_and_strangers_are_counted(keyed: Apiserver, west: Caller, nobody: Caller) -> None:
    before = outcomes(keyed)
    nobody.get("/v1alpha1/whoami")
    west.post("/v1alpha1/namespaces/N/leases/x/acquire", {"holder": "west", "ttlSeconds": 9})
    west.post("/v1alpha1/namespaces/n/leases/x/acquire", {"holder": "east", "ttlSeconds": 9})
    added = {"unauthorized": 1, "invalid-key": 1}
    until(lambda: outcomes(keyed) == {each: count + added.get(each, 0) for each, count in before.items()})


def test_a_request_has_a_line(keyed: Apiserver, west: Caller) -> None:
    path = new_path()
    reply = west.call(
        "POST", f"{path}/acquire?x=1", {"holder": "west/a", "ttlSeconds": 9}, {"X-Request-Id": "line-1"}
    )
    assert reply.status == 200
    line = dict(keyed.wait_for("api request", request_id="line-1"))
    assert isinstance(line.pop("duration"), int)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("time"))
    assert line == {
        "level": "INFO",
        "msg": "api request",
        "logger": "apiserver",
        "method": "POST",
        "path": f"{path}/acquire",
        "route": f"{ROUTE}/acquire",
        "status": 200,
        "request_id": "line-1",
        "outcome": "acquired",
        "holder": "west",
        "tenant": "west",
    }


def test_health_has_no_line_and_readiness_has(memory: Apiserver, caller: Caller) -> None:
    for path in ("/healthz", "/livez"):
        caller.get(path, **{"X-Request-Id": "quiet"})
    caller.get("/readyz", **{"X-Request-Id": "ready"})
    assert memory.wait_for("api request", request_id="ready")["level"] == "INFO"
    assert not [line for line in memory.log if line.get("request_id") == "quiet"]


def test_every_change_of_ownership_is_in_the_audit_log(keyed: Apiserver, west: Caller, admin: Caller) -> None:
    path = new_path()
    name = path.removeprefix("/v1alpha1/namespaces/").replace("/leases/", "/")
    lease = Lease(west, path)

    def audited(message: str, token: int) -> dict[str, object]:
        line = keyed.wait_for(message, lease=name, fencing_token=token)
        return {key: line[key] for key in line if key not in ("time", "level", "msg", "lease")}

    west.call(
        "POST", f"{path}/acquire", {"holder": "west/a", "ttlSeconds": 60}, {"X-Request-Id": "first"}
    ).ok()
    first = {
        "logger": "audit",
        "holder": "west/a",
        "fencing_token": 1,
        "tenant": "west",
        "request_id": "first",
    }
    nobody = {"previous_holder": "", "previous_fencing_token": 0, "clean_handover": True}
    assert audited("lease.acquired", 1) == first | nobody
    body = {"fencingToken": 1, "reason": "node gone\nfor ever"}
    admin.call("POST", f"{path}/force-release", body, {"X-Request-Id": "forced"}).ok()
    by = {"tenant": "ops", "request_id": "forced", "reason": "node gone\nfor ever"}
    assert audited("lease.forced", 1) == first | by
    lease.acquire("west/b", ttl=1)
    assert audited("lease.acquired", 2)["clean_handover"] is False
    assert audited("lease.expired", 2) == {"logger": "audit", "holder": "west/b", "fencing_token": 2}
    lease.acquire("west/c")
    assert audited("lease.acquired", 3)["previous_holder"] == "west/b"
    assert lease.release("west/c", 3).status == 204
    assert audited("lease.released", 3)["holder"] == "west/c"


def test_no_key_is_ever_logged(keyed: Apiserver, nobody: Caller) -> None:
    """Wherever a client puts it, as long as it is where a key belongs; and no log line is broken by one."""
    for number, authorization in enumerate(
        (
            "Bearer s3cr3t-key",
            "bearer s3cr3t-key",
            "Bearer s3cr3t-key s3cr3t-key",
            "s3cr3t-key",
            "Bearer west-key",
        )
    ):
        nobody.get("/v1alpha1/whoami", Authorization=authorization, **{"X-Request-Id": f"secret-{number}"})
        keyed.wait_for("api request", request_id=f"secret-{number}")
    assert "s3cr3t" not in keyed.text
    assert "west-key" not in keyed.text
    assert all(line.startswith("{") for line in keyed.text.splitlines())
