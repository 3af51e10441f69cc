"""Which paths there are, what they allow, and what every reply carries."""

import re

import pytest

from tests.roles.apiserver.conftest import new_path
from tests.roles.apiserver.https import Caller

LEASE = "/v1alpha1/namespaces/n/leases/x"
POSTED = [f"{LEASE}/{verb}" for verb in ("acquire", "renew", "release", "verify", "force-release")]
READ = [LEASE, "/v1alpha1/namespaces/n/leases", "/v1alpha1/leases", "/v1alpha1/whoami"]
OPEN = ["/healthz", "/livez", "/readyz", "/version", "/openapi.json"]


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PRI"])
def test_a_call_is_posted(caller: Caller, path: str, method: str) -> None:
    reply = caller.call(method, path)
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    assert reply.headers["Content-Type"] == "application/json"
    if method != "HEAD":
        assert reply.code == "method_not_allowed"


@pytest.mark.parametrize("path", [*READ, *OPEN])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_what_is_read_is_got(caller: Caller, path: str, method: str) -> None:
    reply = caller.call(method, path)
    assert (reply.status, reply.code, reply.headers["Allow"]) == (405, "method_not_allowed", "GET, HEAD")


@pytest.mark.parametrize("path", [*POSTED, *READ])
def test_a_lease_route_wants_a_key(nobody: Caller, path: str) -> None:
    reply = nobody.call("POST" if path in POSTED else "GET", path)
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", OPEN)
def test_the_others_want_none(nobody: Caller, path: str) -> None:
    assert nobody.get(path).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "/healthz/",
        "//healthz",
        "/v1alpha1",
        "/v1alpha1/leases/",
        "/v1alpha1/namespaces/n",
        "/v1alpha1/namespaces/n/leases/",
        "/v1alpha1/namespaces//leases",
        f"{LEASE}/",
        f"{LEASE}/acquire/",
        f"{LEASE}/Acquire",
        f"{LEASE}/get",
        "/v1alpha1/namespaces/n/leases//x",
        "/v1alpha1//namespaces/n/leases/x",
        "/v1alpha1/namespaces/n%2Fleases/x",
        "/v1alpha1%2Fleases",
        "/v1alpha2/leases",
        "/v1alpha1/namespaces/n/leases/x/y/acquire",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_there_is_no_other_path(caller: Caller, path: str, method: str) -> None:
    reply = caller.call(method, path)
    assert (reply.status, reply.code) == (404, "not_found")


@pytest.mark.parametrize(
    "name",
    [
        "x%2Fy",
        "x%2f",
        "%2Fx",
        "%2E%2E",
        "..",
        "x%00",
        "x%0A",
        "%zz",
        "%",
        "x%20",
        "x+y",
        "X",
        "x_y",
        "-x",
        "x-",
        ".x",
        "x.",
        "x..y",
        "x.-y",
        "%C3%A9",
        "%FF",
        "x%C2%B2",
        "%D9%A1",
        "x" * 254,
    ],
)
@pytest.mark.parametrize("verb", ["", "/acquire"])
def test_a_name_is_a_dns_subdomain(caller: Caller, name: str, verb: str) -> None:
    body = {"holder": "h", "ttlSeconds": 9} if verb else None
    reply = caller.call("POST" if verb else "GET", f"/v1alpha1/namespaces/n/leases/{name}{verb}", body)
    assert (reply.status, reply.code) == (400, "invalid_name")
    assert reply.error.startswith('invalid name "')
    assert ": must be an RFC 1123 DNS subdomain " in reply.error
    assert len(reply.error) < 400


@pytest.mark.parametrize(
    "namespace", ["N", "n.m", "n%2Fm", "n_", "-n", "n-", "%00", "n" * 64, "..", "%C3%A9"]
)
def test_a_namespace_is_a_dns_label(caller: Caller, namespace: str) -> None:
    for path in (f"/v1alpha1/namespaces/{namespace}/leases/x", f"/v1alpha1/namespaces/{namespace}/leases"):
        reply = caller.get(path)
        assert (reply.status, reply.code) == (400, "invalid_namespace")
        assert reply.error.startswith('invalid namespace "')
        assert ": must be an RFC 1123 DNS label " in reply.error


def test_a_namespace_and_a_name_share_a_length(caller: Caller) -> None:
    fits = caller.post(
        f"/v1alpha1/namespaces/{'n' * 63}/leases/{'x' * 189}/acquire", {"holder": "h", "ttlSeconds": 1}
    )
    assert fits.ok()["acquired"] is True
    reply = caller.get(f"/v1alpha1/namespaces/{'n' * 63}/leases/{'x' * 190}")
    assert (reply.status, reply.code) == (400, "invalid_key")
    assert reply.error.startswith(f"invalid key {'n' * 63}/xxx")
    assert reply.error.endswith("at most 253 characters, got 254")


def test_a_name_may_be_escaped(caller: Caller) -> None:
    path = new_path()
    caller.post(f"{path}/acquire", {"holder": "h", "ttlSeconds": 9}).ok()
    escaped = path.replace("/l", "/%6C")
    assert escaped != path
    assert caller.get(escaped).status == 404, "only the name, not the words of the path"
    prefix, _, name = path.rpartition("/")
    assert caller.get(f"{prefix}/%6C{name[1:]}").ok()["holder"] == "h"


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health_is_a_word(caller: Caller, path: str) -> None:
    reply = caller.get(path)
    assert (reply.status, reply.body) == (200, b"ok\n")
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    without_body = caller.call("HEAD", path)
    assert (without_body.status, without_body.body) == (200, b"")
    assert without_body.headers["Content-Length"] == "3"


def test_version(caller: Caller) -> None:
    told = caller.get("/version").ok()
    assert set(told) == {"version", "commit", "python"}
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", told["version"])
    assert re.fullmatch(r"3\.\d+\.\d+", told["python"])


def test_whoami(caller: Caller, west: Caller, reader: Caller, admin: Caller) -> None:
    path = "/v1alpha1/whoami"
    assert caller.get(path).ok() == {"tenant": "", "role": "admin", "authMode": "none"}
    assert west.get(path).ok() == {"tenant": "west", "role": "holder", "authMode": "static-keys"}
    assert reader.get(path).ok() == {"tenant": "watch", "role": "reader", "authMode": "static-keys"}
    assert admin.get(path).ok() == {"tenant": "ops", "role": "admin", "authMode": "static-keys"}


def test_no_content_has_no_type(caller: Caller) -> None:
    reply = caller.post(f"{new_path()}/release", {"holder": "h"})
    assert (reply.status, reply.body) == (204, b"")
    assert "Content-Type" not in reply.headers
    assert "Transfer-Encoding" not in reply.headers
    assert reply.headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["/healthz", "/nope", "/v1alpha1/leases", "/v1alpha1/whoami"])
@pytest.mark.parametrize("given", ["a", "A-Z_09", "x" * 64])
def test_a_harmless_request_id_is_kept(nobody: Caller, path: str, given: str) -> None:
    assert nobody.get(path, **{"X-Request-Id": given}).headers.get_all("X-Request-Id") == [given]


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a.b", "a/b", "\xe9", "a\tb", '"a"', "a;b"])
def test_any_other_request_id_is_replaced(caller: Caller, given: str) -> None:
    reply = caller.get("/healthz", **{"X-Request-Id": given})
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["X-Request-Id"])


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_trace_gives_the_request_its_id(caller: Caller) -> None:
    traced = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    assert caller.get("/healthz", **traced).headers["X-Request-Id"] == TRACE
    both = caller.get("/healthz", **traced, **{"X-Request-Id": "mine"})
    assert both.headers["X-Request-Id"] == "mine"
    refused = caller.get("/healthz", **traced, **{"X-Request-Id": "not mine"})
    assert refused.headers["X-Request-Id"] == TRACE


@pytest.mark.parametrize(
    "given", ["", TRACE, f"00-{TRACE.upper()}-00f067aa0ba902b7-01", f"00-{TRACE[1:]}-0-01"]
)
def test_a_broken_trace_gives_none(caller: Caller, given: str) -> None:
    ids = [caller.get("/healthz", traceparent=given).headers["X-Request-Id"] for _ in range(2)]
    assert ids[0] != ids[1]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


def test_a_reply_names_no_server(caller: Caller) -> None:
    reply = caller.get("/version")
    assert "Server" not in reply.headers
    assert "Access-Control-Allow-Origin" not in reply.headers
