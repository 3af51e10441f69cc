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
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pymysql
import trio

from berth.runtime.tls import TlsFiles
from tests.histories.direct import Stored
from tests.kube.conftest import serving
from tests.kube.server.faults import Fault as KubeFault
from tests.kube.server.faults import Happening
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import as_app
from tests.runtime.conftest import Journal
from tests.support.apiserver import Certificates
from tests.support.kube_apiserver import KubeApiserver, kube_apiserver
from tests.support.mariadb import Mariadb, mariadb
from tests.support.postgres import Postgres, postgres
from tests.support.proxy import Proxy, open_proxy

Name = Literal["postgres", "mariadb", "k8s", "k8s-test"]
NAMES: tuple[Name, ...] = ("postgres", "mariadb", "k8s", "k8s-test")
"""k8s is a real kube-apiserver, k8s-test the one of our own tests."""

Fault = Callable[[float], Awaitable[None]]

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
    """A store that several servers share, and the way to it."""

    observes = False
    """Whether a server goes by what it has itself observed, and may keep a lease for longer than its ttl."""

    def __init__(self, flags: tuple[str, ...], faults: Mapping[str, Fault]) -> None:
        """`flags` are of every server on it; `faults` last for about so many seconds, if they last."""
        self.flags = flags
        self.faults = faults

    @abstractmethod
    def stored(self) -> dict[str, Stored]:
        """Every lease that is in it, by `namespace/name`."""


class Database(Backend):
    def __init__(self, server: Postgres | Mariadb, driver: str, folder: Path, way: Proxy) -> None:
        self._server = server
        source = folder / "dsn"
        source.write_text(server.source.replace(str(server.port), str(port_of(way))) + "\n")
        sql = ("--store-backend", "sql", "--sql-driver", driver, "--sql-dsn-file", str(source))
        faults = {
            "database's connections cut": in_thread(lambda _: self._cut()),
            "database restarted": in_thread(lambda _: server.restart()),
            "database killed": in_thread(self._crash),
            "database frozen": in_thread(partial(_freeze, server)),
            "leases locked": in_thread(self._lock),
        }
        super().__init__((*sql, "--auth-mode", "none"), {**faults, **on_the_way(way)})

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

    def _lock(self, seconds: float) -> None:
        with self._server.transaction("SELECT name FROM berth_leases FOR UPDATE"):
            _wait(seconds)


class OnLeases(Backend):
    """Lease objects of a cluster."""

    observes = True

    def __init__(self, kubeconfig: Path, faults: Mapping[str, Fault]) -> None:
        where = ("--coordination-namespace", COORDINATION, "--coordination-kubeconfig", str(kubeconfig))
        flags = ("--store-backend", "k8s", *where, "--k8s-qps", "1000", "--auth-mode", "none")
        super().__init__(flags, faults)


class Cluster(OnLeases):
    """Of a real kube-apiserver."""

    def __init__(self, server: KubeApiserver, folder: Path, way: Proxy) -> None:
        kubeconfig = server.kubeconfig(folder / "kubeconfig")
        kubeconfig.write_text(kubeconfig.read_text().replace(server.url, way.url))
        faults = {
            "cluster restarted": in_thread(lambda _: server.restart()),
            "cluster frozen": in_thread(partial(_freeze, server)),
        }
        super().__init__(kubeconfig, {**faults, **on_the_way(way)})
        self._server = server

    def stored(self) -> dict[str, Stored]:
        tls = ssl.create_default_context(cadata=self._server.ca_pem)
        self._server.admin.configure_cert(tls)
        url = f"{self._server.url}/apis/coordination.k8s.io/v1/namespaces/{COORDINATION}/leases"
        with urllib.request.urlopen(url, context=tls, timeout=ANSWER_SECONDS) as reply:
            return stored_objects(json.load(reply)["items"])


class OurCluster(OnLeases):
    """Of the API server of our own tests."""

    def __init__(self, kube: KubeServer, kubeconfig: Path, way: Proxy) -> None:
        self._kube = kube
        super().__init__(
            kubeconfig,
            {
                "writes to the cluster lost": self._failing("cut"),
                "answers to writes lost": self._failing("cut after"),
                "errors of the cluster": self._failing("status"),
                **on_the_way(way),
            },
        )

    def stored(self) -> dict[str, Stored]:
        return stored_objects(obj for _, obj in self._kube.storage.of("leases", COORDINATION))

    def _failing(self, happening: Happening) -> Fault:
        async def fault(_: float) -> None:
            await trio.lowlevel.checkpoint()
            self._kube.fail(KubeFault(happening, "update", times=20))

        return fault


def in_thread(befall: Callable[[float], None]) -> Fault:
    async def fault(seconds: float) -> None:
        await trio.to_thread.run_sync(befall, seconds)

    return fault


def on_the_way(way: Proxy) -> dict[str, Fault]:
    """What can befall whatever is sent to a store and by it."""

    async def mended_after(seconds: float) -> None:
        await trio.sleep(seconds)
        way.reset()  # what has lost something would stay silent for ever
        await way.mend()

    async def lose_answers(seconds: float) -> None:
        way.drop([way.to_client])
        await mended_after(seconds)

    async def lose_all(seconds: float) -> None:
        way.drop()
        await mended_after(seconds)

    async def cut(_: float) -> None:
        await mended_after(0)

    return {
        "answers of the store lost": lose_answers,
        "way to the store lost": lose_all,
        "way to the store cut": cut,
    }


def port_of(way: Proxy) -> int:
    return int(way.url.rpartition(":")[2])


def _freeze(server: Postgres | Mariadb | KubeApiserver, seconds: float) -> None:
    with server.frozen():
        _wait(seconds)


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
                async with open_proxy(("127.0.0.1", server.port)) as way:
                    yield Database(server, "postgres", folder, way)
        case "mariadb":
            with mariadb() as server:
                async with open_proxy(("127.0.0.1", server.port)) as way:
                    yield Database(server, "mysql", folder, way)
        case "k8s":
            with kube_apiserver() as server:
                async with open_proxy(("127.0.0.1", server.port)) as way:
                    yield Cluster(server, folder, way)
        case "k8s-test":
            async with _our_cluster(folder) as cluster:
                yield cluster


@asynccontextmanager
async def _our_cluster(folder: Path) -> AsyncGenerator[OurCluster]:
    """Served over TLS by this very process."""
    kube, certificates = KubeServer(), _certificates(folder / "cluster")
    files = TlsFiles(certificates.cert_file, certificates.key_file)
    async with (
        serving(as_app(kube), files, Journal()) as url,
        open_proxy(("127.0.0.1", int(url.rpartition(":")[2]))) as way,
    ):
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(KUBECONFIG.format(url=way.url, ca_file=certificates.ca_file))
        yield OurCluster(kube, kubeconfig, way)


def _certificates(folder: Path) -> Certificates:
    folder.mkdir()
    return Certificates(folder)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)
