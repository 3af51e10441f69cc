"""Taking over the Lease objects of skaphos/berth in place, and giving them back.

The reference is played by what it reads and writes, which is all that the two share: object names, one label,
three annotations and five fields.
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from berth.store.kubernetes_objects import MANAGED_BY, MORE, PREFIX, VERSION
from tests.roles.apiserver.conftest import Lease, calling, new_path
from tests.roles.apiserver.https import Caller
from tests.roles.apiserver.streams import waiting
from tests.support.apiserver import Apiserver, Certificates, apiserver, until
from tests.support.clusters import Cluster

Object = dict[str, Any]


class Record(NamedTuple):
    """A lease as the reference knows it. No holder: a tombstone."""

    holder: str
    ttl: int
    token: int
    version: int
    acquired_at: str
    renewed_at: str


def instant(ago_seconds: float = 0) -> str:
    at = datetime.now(UTC) - timedelta(seconds=ago_seconds)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Reference:
    """A server of skaphos/berth on the same namespace: GET, compare its version, PUT."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def read(self, path: str) -> Record:
        obj = self._cluster.lease(self._namespace, _object_name(path))
        spec, annotations = obj["spec"], obj["metadata"]["annotations"]
        assert obj["metadata"]["labels"][MANAGED_BY] == "berth"
        assert annotations[PREFIX + "tenant-namespace"] == "n"
        assert annotations[PREFIX + "lease-name"] == path.rpartition("/")[2]
        return Record(
            spec.get("holderIdentity", ""),
            spec.get("leaseDurationSeconds", 0),
            spec["leaseTransitions"],
            int(annotations[VERSION]),
            spec["acquireTime"],
            spec["renewTime"],
        )

    def create(self, path: str, record: Record) -> None:
        self._cluster.put(self._namespace, _written(path, {"metadata": {}}, record))

    def write(self, path: str, record: Record) -> None:
        """Over the version that comes before the record's."""
        current = self._cluster.lease(self._namespace, _object_name(path))
        assert int(current["metadata"]["annotations"][VERSION]) == record.version - 1
        self._cluster.put(self._namespace, _written(path, current, record))


def _object_name(path: str) -> str:
    return "n." + path.rpartition("/")[2]


def _written(path: str, current: Object, record: Record) -> Object:
    about = current["metadata"]
    ours = {
        PREFIX + "tenant-namespace": "n",
        PREFIX + "lease-name": path.rpartition("/")[2],
        VERSION: str(record.version),
    }
    spec: Object = {
        "holderIdentity": record.holder,
        "leaseTransitions": record.token,
        "acquireTime": record.acquired_at,
        "renewTime": record.renewed_at,
    }
    if record.holder:
        spec["leaseDurationSeconds"] = record.ttl
    return {
        "metadata": {
            **about,
            "name": _object_name(path),
            "labels": {**about.get("labels", {}), MANAGED_BY: "berth"},
            "annotations": {**about.get("annotations", {}), **ours},
        },
        "spec": spec,
    }


@pytest.fixture(scope="module", params=["test server", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return request.getfixturevalue("test_cluster" if request.param == "test server" else "real_cluster")


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    return cluster.new_namespace()


@pytest.fixture(scope="module")
def reference(cluster: Cluster, namespace: str) -> Reference:
    return Reference(cluster, namespace)


class Before(NamedTuple):
    """What the reference had written before the server was started."""

    live: str
    expired: str
    free: str


@pytest.fixture(scope="module")
def before(reference: Reference) -> Before:
    paths = Before(new_path(), new_path(), new_path())
    reference.create(paths.live, Record("old", 60, 4, 9, instant(100), instant(5)))
    reference.create(paths.expired, Record("gone", 2, 6, 3, instant(1000), instant(900)))
    reference.create(paths.free, Record("", 0, 7, 12, instant(100), instant(50)))
    return paths


@pytest.fixture(scope="module")
def server(
    certificates: Certificates, cluster: Cluster, namespace: str, before: Before
) -> Iterator[Apiserver]:
    assert before
    with apiserver(certificates, *cluster.flags(namespace)) as server:
        yield server
        server.stop()


@pytest.fixture(scope="module")
def caller(server: Apiserver) -> Iterator[Caller]:
    with closing(calling(server)) as opened:
        yield opened


def test_who_held_a_lease_goes_on(caller: Caller, before: Before, reference: Reference) -> None:
    lease = Lease(caller, before.live)
    assert lease.acquire("new")["acquired"] is False
    told = lease.get().ok()
    assert (told["holder"], told["fencingToken"], told["state"]) == ("old", 4, "held")
    assert lease.renew("old", 3)["acquired"] is False
    assert lease.renew("old", 4)["acquired"] is True
    written = reference.read(before.live)
    assert (written.holder, written.ttl, written.token, written.version) == ("old", 60, 4, 10)
    assert lease.release("old", 4).status == 204
    assert lease.acquire("new")["fencingToken"] == 5


def test_what_was_free_is_free(caller: Caller, before: Before) -> None:
    lease = Lease(caller, before.free)
    assert (lease.get().ok()["state"], lease.get().ok()["fencingToken"]) == ("free", 7)
    assert lease.renew("anybody", 7)["acquired"] is False
    assert lease.acquire("new")["fencingToken"] == 8


def test_what_had_expired_by_another_clock_lives_one_ttl_more(caller: Caller, before: Before) -> None:
    """Nobody here has seen for how long; the grant says that the tenure did not end cleanly."""
    with waiting(caller, before.expired, "new") as asked:
        granted = asked.reply().ok()
    assert (granted["acquired"], granted["fencingToken"], granted["cleanHandover"]) == (True, 7, False)


def test_what_the_reference_writes_meanwhile_counts(caller: Caller, reference: Reference) -> None:
    path = new_path()
    lease = Lease(caller, path)
    lease.acquire("new", lockDelaySeconds=5)
    ours = reference.read(path)
    reference.write(path, ours._replace(version=ours.version + 1, renewed_at=instant()))
    assert lease.renew("new", 1)["acquired"] is True
    now = reference.read(path)
    reference.write(path, now._replace(holder="", version=now.version + 1, renewed_at=instant()))
    until(lambda: lease.get().ok()["state"] == "free")
    # What we keep beside its fields belonged to the version before: its lock delay is gone.
    assert lease.acquire("next")["fencingToken"] == 2


def test_what_others_put_beside_stays(caller: Caller, cluster: Cluster, namespace: str) -> None:
    path = new_path()
    token = Lease(caller, path).acquire("a")["fencingToken"]
    edit = {"metadata": {"labels": {"team": "payments"}, "annotations": {"note": "mine"}}}
    cluster.patch(namespace, _object_name(path), edit)
    assert Lease(caller, path).renew("a", token)["acquired"] is True
    about = cluster.lease(namespace, _object_name(path))["metadata"]
    assert about["labels"]["team"] == "payments"
    assert about["annotations"]["note"] == "mine"


def test_the_way_back(caller: Caller, reference: Reference) -> None:
    """Sessions and shared leases are given up; then each object is one of the reference's."""
    by_ttl, under, shared, free = (new_path() for _ in range(4))
    Lease(caller, by_ttl).acquire("a", ttl=45)
    session = caller.post("/v1alpha1/sessions", {"holder": "a", "ttlSeconds": 60}).json["id"]
    caller.post(f"{under}/acquire", {"holder": "a", "session": session}).ok()
    for holder in ("a", "b"):
        Lease(caller, shared).acquire(holder, semantics="at-least-once")
    Lease(caller, free).acquire("a")
    Lease(caller, free).release("a", 1)
    # Before that, a session's lease has no ttl, which looks expired, and a shared one the newest holder.
    assert (reference.read(under).holder, reference.read(under).ttl) == ("a", 0)
    assert (reference.read(shared).holder, reference.read(shared).token) == ("b", 2)
    assert Lease(caller, shared).release("b", 2).status == 204
    assert Lease(caller, shared).release("a", 1).status == 204
    assert Lease(caller, under).release("a", 1).status == 204
    assert caller.call("DELETE", f"/v1alpha1/sessions/{session}").status == 204
    kept = reference.read(by_ttl)
    assert (kept.holder, kept.ttl, kept.token) == ("a", 45, 1)
    for path, token in ((under, 1), (shared, 2), (free, 1)):
        assert reference.read(path)[:3] == ("", 0, token)
        ours = reference.read(path)
        taken = Record("back", 30, token + 1, ours.version + 1, instant(), instant())
        reference.write(path, taken)
        assert Lease(caller, path).get().ok()["holder"] == "back"


def test_an_object_that_is_no_lease_is_left_alone(
    caller: Caller, cluster: Cluster, namespace: str, server: Apiserver
) -> None:
    path = new_path()
    stranger = {"metadata": {"name": _object_name(path)}, "spec": {"holderIdentity": "x"}}
    cluster.put(namespace, stranger)
    refused = Lease(caller, path).ask("acquire", holder="a", ttlSeconds=30)
    assert (refused.status, refused.code) == (503, "store_unavailable")
    assert "is in the way" in refused.error
    assert server.wait_for("store fault")["error"] == refused.error
    assert cluster.lease(namespace, _object_name(path))["spec"] == {"holderIdentity": "x"}
    assert MORE not in cluster.lease(namespace, _object_name(path))["metadata"].get("annotations", {})
