"""Lists of leases: which, in what order, and how they go on from page to page."""

from urllib.parse import quote

import pytest

from tests.roles.apiserver.conftest import Lease
from tests.roles.apiserver.https import Caller, Json

NAMES = ["a", "a-b", "a.b", "b", "b0", "c"]


@pytest.fixture(scope="module")
def namespaces(store_caller: Caller) -> list[str]:
    """Two namespaces beside each other, with the same leases; the first lease of each is free."""
    found = ["list", "list-2"]
    for namespace in found:
        for name in reversed(NAMES):
            lease = Lease(store_caller, f"/v1alpha1/namespaces/{namespace}/leases/{name}")
            held = lease.acquire("h", 600)
            if name == NAMES[0]:
                lease.release("h", held["fencingToken"])
    return found


def names(page: Json) -> list[tuple[str, str]]:
    return [(item["namespace"], item["name"]) for item in page["items"]]


def pages(caller: Caller, path: str, limit: int) -> list[Json]:
    """Every page of a list, to its end."""
    found: list[Json] = []
    query = f"limit={limit}"
    while True:
        found.append(caller.get(f"{path}?{query}").ok())
        if "continue" not in found[-1]:
            return found
        assert len(found) < 2 or names(found[-1]) > names(found[-2]), "the list does not go on"
        query = f"limit={limit}&continue={quote(found[-1]['continue'], safe='')}"


def test_a_namespace_in_order(store_caller: Caller, namespaces: list[str]) -> None:
    for namespace in namespaces:
        page = store_caller.get(f"/v1alpha1/namespaces/{namespace}/leases").ok()
        assert set(page) == {"items", "revision"}
        assert names(page) == [(namespace, name) for name in NAMES]
        assert [item["state"] for item in page["items"]] == ["free", *["held"] * (len(NAMES) - 1)]


def test_an_item_is_the_lease_itself(store_caller: Caller, namespaces: list[str]) -> None:
    path = f"/v1alpha1/namespaces/{namespaces[0]}/leases"
    for item in store_caller.get(path).ok()["items"]:
        lease = store_caller.get(f"{path}/{item['name']}").ok()
        assert set(item) == set(lease)
        for key in ("namespace", "name", "state", "semantics", "fencingToken"):
            assert item[key] == lease[key]


def test_an_empty_namespace(store_caller: Caller) -> None:
    page = store_caller.get("/v1alpha1/namespaces/empty/leases").ok()
    assert (page["items"], set(page)) == ([], {"items", "revision"})


@pytest.mark.parametrize("limit", [1, 2, 4, 6, 7, 1000])
def test_pages_join_to_the_whole(store_caller: Caller, namespaces: list[str], limit: int) -> None:
    found = pages(store_caller, f"/v1alpha1/namespaces/{namespaces[0]}/leases", limit)
    assert [pair for page in found for pair in names(page)] == [(namespaces[0], name) for name in NAMES]
    assert all(len(page["items"]) == limit for page in found[:-1])
    assert found[-1]["items"]


@pytest.mark.parametrize("limit", [5, 1000])
def test_all_namespaces_in_order(store_caller: Caller, namespaces: list[str], limit: int) -> None:
    found = [pair for page in pages(store_caller, "/v1alpha1/leases", limit) for pair in names(page)]
    assert found == sorted(set(found))
    assert {(namespace, name) for namespace in namespaces for name in NAMES} <= set(found)


def test_a_page_goes_on_where_a_lease_has_come_in_between(store_caller: Caller) -> None:
    path = "/v1alpha1/namespaces/between/leases"
    for name in ("a", "c"):
        Lease(store_caller, f"{path}/{name}").acquire("h")
    first = store_caller.get(f"{path}?limit=1").ok()
    Lease(store_caller, f"{path}/b").acquire("h")
    rest = store_caller.get(f"{path}?continue={quote(first['continue'], safe='')}").ok()
    assert names(first) + names(rest) == [("between", "a"), ("between", "b"), ("between", "c")]


def test_a_revision_grows_with_every_change(store_caller: Caller) -> None:
    lease = Lease(store_caller, "/v1alpha1/namespaces/revision/leases/x")
    revisions = []
    for token in range(1, 13):
        lease.acquire("h")
        lease.release("h", token)
        revisions.append(store_caller.get("/v1alpha1/namespaces/revision/leases").ok()["revision"])
    assert all(isinstance(revision, str) for revision in revisions)
    assert revisions == sorted(set(revisions))


@pytest.mark.parametrize(
    "limit",
    [
        "0",
        "-1",
        "1001",
        "1e3",
        "x",
        "5.0",
        "+5",
        " 5",
        "%D9%A5",
        "%C2%B2",
        "0x5",
        "9" * 30,
        "0000005009",
        "0" * 9 + "5000",
    ],
)
def test_a_limit_is_from_1_to_1000(caller: Caller, limit: str) -> None:
    for path in ("/v1alpha1/leases", "/v1alpha1/namespaces/n/leases"):
        reply = caller.get(f"{path}?limit={limit}".replace(" ", "%20"))
        assert (reply.status, reply.code) == (400, "invalid_body")
        assert reply.error == "limit must be a whole number from 1 to 1000"


def test_a_limit_of_thousands_of_digits(caller: Caller) -> None:
    reply = caller.get(f"/v1alpha1/leases?limit=000000500{'9' * 5000}")
    assert (reply.status, reply.code) == (400, "invalid_body")


@pytest.mark.parametrize("token", ["x", "%00", "AAAA", "%FF", "Li4vLi4%3D", "bg%3D%3D", "=", "A" * 5000])
def test_a_continue_is_from_this_server(caller: Caller, token: str) -> None:
    reply = caller.get(f"/v1alpha1/leases?continue={token}")
    assert (reply.status, reply.code) == (400, "invalid_body")
    assert reply.error == "continue is not from this server; list from the beginning"


def test_a_continue_of_another_namespace_shows_nothing_of_it(
    store_caller: Caller, namespaces: list[str]
) -> None:
    first, second = namespaces
    token = quote(store_caller.get(f"/v1alpha1/namespaces/{second}/leases?limit=1").ok()["continue"], safe="")
    assert store_caller.get(f"/v1alpha1/namespaces/{first}/leases?continue={token}").ok()["items"] == []


def test_empty_and_unknown_parameters_are_as_none(store_caller: Caller, namespaces: list[str]) -> None:
    path = f"/v1alpha1/namespaces/{namespaces[0]}/leases"
    assert len(store_caller.get(f"{path}?limit=&continue=").ok()["items"]) == len(NAMES)
