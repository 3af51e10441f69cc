"""Who may do what, and which of several faults of one request is told: the order that clients can observe."""

import pytest

from tests.roles.apiserver.conftest import Lease, new_path
from tests.roles.apiserver.https import Caller, Reply

BIG = b"{" + b" " * 4096
FAULTS: dict[str, tuple[int, str]] = {
    "size": (413, "body_too_large"),
    "json": (400, "invalid_body"),
    "holder": (400, "invalid_holder"),
    "token": (400, "invalid_token"),
    "ttl": (400, "invalid_ttl"),
    "tenant": (403, "forbidden_holder"),
    "namespace": (400, "invalid_namespace"),
    "name": (400, "invalid_name"),
}


def renew_with(caller: Caller, *faults: str) -> Reply:
    """A renewal that has these faults and no others."""
    body: object = {
        "holder": "" if "holder" in faults else "east" if "tenant" in faults else "west",
        "fencingToken": 0 if "token" in faults else 1,
        "ttlSeconds": 0 if "ttl" in faults else 9,
    }
    if "size" in faults or "json" in faults:
        body = BIG if "size" in faults else b"{"
    namespace = "N" if "namespace" in faults else "n"
    name = "X" if "name" in faults else "x"
    return caller.post(f"/v1alpha1/namespaces/{namespace}/leases/{name}/renew", body)


@pytest.mark.parametrize("first", FAULTS)
def test_the_first_fault_is_told(west: Caller, nobody: Caller, first: str) -> None:
    order = list(FAULTS)
    later = order[order.index(first) + 1 :]
    for faults in ([first], *([first, other] for other in later), [first, *later]):
        reply = renew_with(west, *faults)
        assert (reply.status, reply.code) == FAULTS[first], faults
        assert renew_with(nobody, *faults).status == 401, "who is nobody is told nothing else"


def test_a_request_without_faults_has_none(west: Caller) -> None:
    assert renew_with(west).status == 200


def test_no_such_path_comes_before_no_such_caller(nobody: Caller) -> None:
    assert nobody.get("/v1alpha1/nope").status == 404
    assert nobody.get("/v1alpha1/namespaces/n/leases/x/acquire").status == 405


def test_a_role_is_missing_before_a_holder_is_wrong(reader: Caller) -> None:
    body = {"holder": "west", "ttlSeconds": 9}
    assert reader.post("/v1alpha1/namespaces/N/leases/X/acquire", body).code == "forbidden_role"
    assert reader.post("/v1alpha1/namespaces/N/leases/X/acquire", {}).code == "invalid_holder"


@pytest.mark.parametrize(
    "authorization",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        ["Bearer    "],
        ["bearer west-key"],
        ["BEARER west-key"],
        ["Bearer\twest-key"],
        ["Basic d2VzdDp3ZXN0"],
        ["west-key"],
        ["Bearer west-key", "Bearer west-key"],
        ["Bearer west-key", "Bearer east-key"],
        ["Basic x", "Bearer west-key"],
    ],
)
def test_an_authorization_is_one_bearer_key(nobody: Caller, authorization: list[str]) -> None:
    lines = "".join(f"Authorization: {each}\r\n" for each in authorization)
    reply = nobody.exchange(f"GET /v1alpha1/whoami HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    assert reply is not None
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert reply.error == "missing or malformed Authorization header"
    assert reply.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "key",
    [
        "west",
        "WEST-KEY",
        "west-key,",
        "west-key west-key",
        "\xff\xfe",
        "k" * 7000,
        "eyJhbGciOiJub25lIn0.e30.",
    ],
)
def test_every_wrong_key_looks_the_same(nobody: Caller, key: str) -> None:
    reply = nobody.get("/v1alpha1/whoami", Authorization=f"Bearer {key}")
    assert (reply.status, reply.code, reply.error) == (401, "unauthenticated", "unauthorized")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_blanks_around_a_key_do_not_matter(nobody: Caller) -> None:
    reply = nobody.get("/v1alpha1/whoami", Authorization="Bearer   west-key  ")
    assert reply.ok()["tenant"] == "west"


@pytest.mark.parametrize("holder", ["west", "west/", "west/a", "west/a/b", "west//", "west/east"])
def test_a_tenant_acts_as_itself_and_what_is_below(west: Caller, holder: str) -> None:
    lease = Lease(west, new_path())
    held = lease.acquire(holder)
    assert (held["acquired"], held["holder"]) == (True, holder)
    assert lease.renew(holder, 1)["acquired"] is True
    assert lease.release(holder, 1).status == 204


@pytest.mark.parametrize(
    "holder", ["east", "wes", "westt", "west-1", "West", " west", "west ", "/west", "east/west"]
)
@pytest.mark.parametrize("operation", ["acquire", "renew", "release"])
def test_a_tenant_acts_as_nobody_else(west: Caller, holder: str, operation: str) -> None:
    fields: dict[str, object] = {"holder": holder, "fencingToken": 1, "ttlSeconds": 9}
    fields.pop({"acquire": "fencingToken", "release": "ttlSeconds"}.get(operation, ""), None)
    reply = Lease(west, new_path()).ask(operation, **fields)
    assert (reply.status, reply.code) == (403, "forbidden_holder")
    assert reply.error == "holder not authorized for this identity"


def test_an_admin_is_bound_by_the_holder_rule_too(admin: Caller) -> None:
    reply = Lease(admin, new_path()).ask("acquire", holder="west", ttlSeconds=9)
    assert reply.code == "forbidden_holder"
    assert Lease(admin, new_path()).acquire("ops/1")["acquired"] is True


def test_what_each_role_may_do(west: Caller, reader: Caller, admin: Caller) -> None:
    path = new_path()
    Lease(west, path).acquire("west")
    for caller in (west, reader, admin):
        assert caller.get(path).status == 200
        assert caller.get("/v1alpha1/leases").status == 200
        assert caller.get("/v1alpha1/namespaces/n/leases").status == 200
        assert caller.post(f"{path}/verify", {"fencingToken": 1, "holder": "west"}).ok()["current"] is True
    for operation in ("acquire", "renew", "release"):
        fields: dict[str, object] = {"holder": "watch", "fencingToken": 1, "ttlSeconds": 9}
        fields.pop({"acquire": "fencingToken", "release": "ttlSeconds"}.get(operation, ""), None)
        assert Lease(reader, path).ask(operation, **fields).code == "forbidden_role"
    for caller in (west, reader):
        reply = caller.post(f"{path}/force-release", {"fencingToken": 1, "reason": "test"})
        assert (reply.status, reply.code) == (403, "forbidden_role")
    assert admin.post(f"{path}/force-release", {"fencingToken": 1, "reason": "test"}).status == 200


def test_tenants_contend_for_one_lease(west: Caller, nobody: Caller) -> None:
    path = new_path()
    Lease(west, path).acquire("west/1")
    body = {"holder": "east/1", "ttlSeconds": 9}
    told = nobody.call("POST", f"{path}/acquire", body, {"Authorization": "Bearer east-key"}).ok()
    assert (told["acquired"], told["holder"], told["reason"]) == (False, "west/1", "held")
