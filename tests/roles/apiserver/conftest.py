"""Servers to look at, one a kind for the whole run, and leases that no other test uses.

Every server has to end cleanly, without a line at ERROR and without a single 5xx in its access log: whatever
the tests send to it is a client's fault, never the server's.
"""

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tests.roles.apiserver.https import Caller, Json, Reply
from tests.support.apiserver import Apiserver, Certificates, apiserver
from tests.support.clusters import RealCluster, TestCluster, served_cluster
from tests.support.kube_apiserver import kube_apiserver

KEYS = {"west-key": "west", "east-key": "east:holder", "read-key": "watch:reader", "root-key": "ops:admin"}

# The keys of a reply to an acquire that won, and those that every client of the reference knows.
HELD_KEYS = {
    "acquired",
    "holder",
    "fencingToken",
    "acquiredAt",
    "expiresAt",
    "remainingSeconds",
    "cleanHandover",
}
REFERENCE_KEYS = {"acquired", "holder", "fencingToken", "acquiredAt", "expiresAt"}

_serial = itertools.count(1)


def key_line(key: str, identity: str) -> str:
    """The line of a key file that makes `key` the caller `TENANT` or `TENANT:ROLE`."""
    tenant, colon, role = identity.partition(":")
    return f"{tenant}:{sha256(key.encode()).hexdigest()}{colon}{role}\n"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def memory(certificates: Certificates) -> Iterator[Apiserver]:
    """Auth none, in memory."""
    with apiserver(certificates, "--store-backend", "mem") as server:
        yield server
        _end_well(server)


@pytest.fixture(scope="session")
def sqlite(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    """Auth none, in an SQLite file."""
    file = tmp_path_factory.mktemp("sqlite") / "leases.db"
    with apiserver(certificates, *sqlite_flags(file), "--auth-mode", "none") as server:
        yield server
        _end_well(server)


@pytest.fixture(scope="session")
def test_cluster(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestCluster]:
    """The test API server of a cluster."""
    with served_cluster(certificates, tmp_path_factory.mktemp("cluster") / "kubeconfig") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def real_cluster() -> Iterator[RealCluster]:
    """A real kube-apiserver, where there is one."""
    with kube_apiserver() as server:
        yield RealCluster(server)


@pytest.fixture(scope="session")
def kubernetes(certificates: Certificates, test_cluster: TestCluster) -> Iterator[Apiserver]:
    """Auth none, in Lease objects."""
    with apiserver(certificates, *test_cluster.flags(test_cluster.new_namespace())) as server:
        yield server
        _end_well(server)


def sqlite_flags(file: Path) -> tuple[str, ...]:
    return ("--store-backend", "sql", "--sql-driver", "sqlite", "--sql-dsn", str(file))


@pytest.fixture(scope="session")
def keyed(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    """Static keys, in memory."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("".join(key_line(key, identity) for key, identity in KEYS.items()))
    flags = ("--store-backend", "mem", "--auth-mode", "static-keys", "--api-keys-file", str(file))
    with apiserver(certificates, *flags) as server:
        yield server
        _end_well(server)


def _end_well(server: Apiserver) -> None:
    server.stop()
    assert [line for line in server.logged("api request") if line["status"] >= 500] == []


def calling(server: Apiserver, key: str | None = None) -> Caller:
    assert server.ca_file is not None
    return Caller(server.address, server.ca_file, key)


@pytest.fixture(scope="session")
def caller(memory: Apiserver) -> Iterator[Caller]:
    """Somebody who may do everything, on the memory server."""
    with closing(calling(memory)) as opened:
        yield opened


@pytest.fixture(scope="session")
def west(keyed: Apiserver) -> Iterator[Caller]:
    with closing(calling(keyed, "west-key")) as opened:
        yield opened


@pytest.fixture(scope="session")
def admin(keyed: Apiserver) -> Iterator[Caller]:
    with closing(calling(keyed, "root-key")) as opened:
        yield opened


@pytest.fixture(scope="session")
def reader(keyed: Apiserver) -> Iterator[Caller]:
    with closing(calling(keyed, "read-key")) as opened:
        yield opened


@pytest.fixture(scope="session")
def nobody(keyed: Apiserver) -> Iterator[Caller]:
    """Somebody without a key."""
    with closing(calling(keyed)) as opened:
        yield opened


@dataclass(frozen=True)
class Lease:
    """A lease as one caller sees it."""

    caller: Caller
    path: str

    def acquire(self, holder: str, ttl: int = 60, **fields: object) -> Json:
        return self.ask("acquire", holder=holder, ttlSeconds=ttl, **fields).ok()

    def renew(self, holder: str, token: int, ttl: int = 60) -> Json:
        return self.ask("renew", holder=holder, fencingToken=token, ttlSeconds=ttl).ok()

    def release(self, holder: str, token: int) -> Reply:
        return self.ask("release", holder=holder, fencingToken=token)

    def ask(self, operation: str, **fields: object) -> Reply:
        return self.caller.post(f"{self.path}/{operation}", fields)

    def get(self) -> Reply:
        return self.caller.get(self.path)


def new_path() -> str:
    """The path of a lease that nobody has used."""
    return f"/v1alpha1/namespaces/n/leases/l{next(_serial)}"


@pytest.fixture(scope="session", params=["memory", "sqlite", "kubernetes"])
def store_caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """Somebody who may do everything, on each store in turn."""
    with closing(calling(request.getfixturevalue(request.param))) as opened:
        yield opened


@pytest.fixture
def lease(store_caller: Caller) -> Lease:
    """A lease never used before, on each store in turn."""
    return Lease(store_caller, new_path())
