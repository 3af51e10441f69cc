"""What two API servers can share: a database, or a cluster's Lease objects; what it suffers, and what is in
it in the end, read past berth.

Owns one store and its process. Promises a new, empty one, gone in the end. Skips where it is not installed,
as `tests/support` does.
"""

import json
import ssl
import threading
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pymysql

from berth.runtime.tls import TlsFiles
from tests.histories.direct import Stored
from tests.kube.conftest import serving
from tests.kube.server.faults import Fault
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import as_app
from tests.runtime.conftest import Journal
from tests.support.apiserver import Certificates
from tests.support.kube_apiserver import KubeApiserver, kube_apiserver
from tests.support.mariadb import Mariadb, mariadb
from tests.support.postgres import Postgres, postgres

Name = Literal["postgres", "mariadb", "k8s", "k8s-test"]
NAMES: tuple[Name, ...] = ("postgres", "mariadb", "k8s", "k8s-test")
"""k8s is a real kube-apiserver, k8s-test the one of our own tests."""

COORDINATION = "default"
ANSWER_SECONDS = 20.0
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{url}", certificate-authority: {ca_file}}}}}]
users: [{{name: anybody, user: {{token: any}}}}]
contexts: [{{name: test, context: {{cluster: test, user: anybody}}}}]
"""

CUT_POSTGRES = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'berth'"
STORED = "SELECT namespace, name, fencing_token, holder FROM berth_leases"


class Backend(ABC):
    """A store that several servers share."""

    observes = False
    """Whether a server goes by what it has itself observed, and may keep a lease for longer than its ttl."""

    @property
    @abstractmethod
    def flags(self) -> tuple[str, ...]:
        """Of every server on it."""

    @property
    @abstractmethod
    def faults(self) -> Mapping[str, Callable[[float], None]]:
        """What can befall it, for about so many seconds. Each returns when it is over."""

    @abstractmethod
    def stored(self) -> dict[str, Stored]:
        """Every lease that is in it, by `namespace/name`."""


class Database(Backend):
    def __init__(self, server: Postgres | Mariadb, driver: str, folder: Path) -> None:
        self._server = server
        source = folder / "dsn"
        source.write_text(server.source + "\n")
        sql = ("--store-backend", "sql", "--sql-driver", driver, "--sql-dsn-file", str(source))
        self._flags = (*sql, "--auth-mode", "none")

    @property
    def flags(self) -> tuple[str, ...]:
        return self._flags

    @property
    def faults(self) -> Mapping[str, Callable[[float], None]]:
        return {
            "database's connections cut": lambda _: self._cut(),
            "database restarted": lambda _: self._server.restart(),
            "database killed": self._crash,
            "database frozen": self._freeze,
        }

    def stored(self) -> dict[str, Stored]:
        def text(value: bytes | str) -> str:
            return value.decode() if isinstance(value, bytes) else value

        return {
            f"{text(namespace)}/{text(name)}": Stored(token, text(holder))
            for namespace, name, token, holder in self._server.on(STORED)
        }

    def _cut(self) -> None:
        if isinstance(self._server, Mariadb):
            for thread in self._server.threads():
                with suppress(pymysql.OperationalError):  # it has left by itself
                    self._server.on(f"KILL {thread}")
        else:
            self._server.on(CUT_POSTGRES)

    def _crash(self, seconds: float) -> None:
        self._server.kill()
        _wait(seconds)
        self._server.start()

    def _freeze(self, seconds: float) -> None:
        with self._server.frozen():
            _wait(seconds)


class OnLeases(Backend):
    """Lease objects of a cluster."""

    observes = True

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    @property
    def flags(self) -> tuple[str, ...]:
        where = ("--coordination-namespace", COORDINATION)
        way = ("--coordination-kubeconfig", str(self._kubeconfig), "--k8s-qps", "1000")
        return ("--store-backend", "k8s", *where, *way, "--auth-mode", "none")


class Cluster(OnLeases):
    """Of a real kube-apiserver."""

    def __init__(self, server: KubeApiserver, folder: Path) -> None:
        super().__init__(server.kubeconfig(folder / "kubeconfig"))
        self._server = server

    @property
    def faults(self) -> Mapping[str, Callable[[float], None]]:
        return {"cluster restarted": lambda _: self._server.restart(), "cluster frozen": self._freeze}

    def stored(self) -> dict[str, Stored]:
        tls = ssl.create_default_context(cadata=self._server.ca_pem)
        self._server.admin.configure_cert(tls)
        url = f"{self._server.url}/apis/coordination.k8s.io/v1/namespaces/{COORDINATION}/leases"
        with urllib.request.urlopen(url, context=tls, timeout=ANSWER_SECONDS) as reply:
            return stored_objects(json.load(reply)["items"])

    def _freeze(self, seconds: float) -> None:
        with self._server.frozen():
            _wait(seconds)


class OurCluster(OnLeases):
    """Of the API server of our own tests, which can lose a request or a reply without losing the other."""

    def __init__(self, kube: KubeServer, kubeconfig: Path) -> None:
        super().__init__(kubeconfig)
        self._kube = kube

    @property
    def faults(self) -> Mapping[str, Callable[[float], None]]:
        return {
            "writes to the cluster lost": lambda _: self._kube.fail(Fault("cut", "update", times=20)),
            "answers of the cluster lost": lambda _: self._kube.fail(Fault("cut after", "update", times=20)),
            "errors of the cluster": lambda _: self._kube.fail(Fault("status", "update", times=20)),
        }

    def stored(self) -> dict[str, Stored]:
        return stored_objects(obj for _, obj in self._kube.storage.of("leases", COORDINATION))


def stored_objects(objects: Iterable[Mapping[str, Any]]) -> dict[str, Stored]:
    """Lease objects as skaphos/berth reads them."""
    found: dict[str, Stored] = {}
    for obj in objects:
        annotations, spec = obj["metadata"].get("annotations", {}), obj["spec"]
        name = annotations.get("berth.skaphos.io/lease-name")
        if name is not None:
            key = f"{annotations['berth.skaphos.io/tenant-namespace']}/{name}"
            found[key] = Stored(spec["leaseTransitions"], spec["holderIdentity"])
    return found


@asynccontextmanager
async def backend(name: Name, folder: Path) -> AsyncGenerator[Backend]:
    """A new one, with what its servers need to know in `folder`."""
    match name:
        case "postgres":
            with postgres() as server:
                yield Database(server, "postgres", folder)
        case "mariadb":
            with mariadb() as server:
                yield Database(server, "mysql", folder)
        case "k8s":
            with kube_apiserver() as server:
                yield Cluster(server, folder)
        case "k8s-test":
            async with _our_cluster(folder) as cluster:
                yield cluster


@asynccontextmanager
async def _our_cluster(folder: Path) -> AsyncGenerator[OurCluster]:
    """Served over TLS by this very process."""
    kube, certificates = KubeServer(), _certificates(folder / "cluster")
    files = TlsFiles(certificates.cert_file, certificates.key_file)
    async with serving(as_app(kube), files, Journal()) as url:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG.format(url=url, ca_file=certificates.ca_file))
        yield OurCluster(kube, kubeconfig)


def _certificates(folder: Path) -> Certificates:
    folder.mkdir()
    return Certificates(folder)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)
