"""A cluster for processes of their own: the test API server over TLS, or a real kube-apiserver.

Owns the thread that serves the test API server, and plain calls to either, as by an administrator with curl.
Promises that a test may reach into the test API server as if it were its own: `do` runs on the server's
thread.
"""

import json
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import trio

from berth.kube.objects import LEASES
from berth.runtime.clock import SystemClock
from berth.runtime.log import Logs
from berth.runtime.serve import Server, serve_app
from berth.runtime.tls import ServerTls, TlsFiles
from tests.kube.server.faults import Fault
from tests.kube.server.kinds import NAMESPACES, SERVICE_ACCOUNTS
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import as_app
from tests.support.apiserver import Certificates
from tests.support.kube_apiserver import KubeApiserver

CALL_SECONDS = 20.0
MERGE_PATCH = "application/merge-patch+json"

T = TypeVar("T")
Object = dict[str, Any]
_serial = count(1)


class Cluster:
    """A cluster, asked for Lease objects by name. `kubeconfig` is its administrator's."""

    def __init__(self, url: str, context: ssl.SSLContext, kubeconfig: Path) -> None:
        self.url = url
        self.kubeconfig = kubeconfig
        self.headers: dict[str, str] = {}
        self.told: Mapping[str, str] = {}
        """The headers of the last answer."""

        self._context = context

    def ask(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers | ({} if body is None else {"Content-Type": content_type})
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS, context=self._context) as reply:
                self.told = reply.headers
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def done(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Any:
        status, answer = self.ask(method, path, body, content_type)
        assert status in {200, 201}, answer
        return answer

    def new_namespace(self) -> str:
        name = f"leases-{next(_serial)}"
        self.done("POST", NAMESPACES.path(), {"metadata": {"name": name}})
        return name

    def leases(self, namespace: str) -> list[Object]:
        return self.done("GET", LEASES.path(namespace))["items"]

    def lease(self, namespace: str, name: str) -> Object:
        return self.done("GET", LEASES.path(namespace, name))

    def put(self, namespace: str, obj: Object) -> Object:
        """Created, or replaced where it has a version."""
        name = obj["metadata"]["name"]
        if "resourceVersion" in obj["metadata"]:
            return self.done("PUT", LEASES.path(namespace, name), obj)
        return self.done("POST", LEASES.path(namespace), obj)

    def patch(self, namespace: str, name: str, patch: Object) -> Object:
        return self.done("PATCH", LEASES.path(namespace, name), patch, MERGE_PATCH)

    def delete(self, namespace: str, name: str) -> None:
        self.done("DELETE", LEASES.path(namespace, name))

    def flags(self, namespace: str) -> tuple[str, ...]:
        """Of an API server that keeps its leases there."""
        return (
            "--store-backend=k8s",
            f"--coordination-namespace={namespace}",
            f"--coordination-kubeconfig={self.kubeconfig}",
            "--auth-mode=none",
            "--k8s-qps=10000",
            "--k8s-burst=10000",
        )


def _kubeconfig(url: str, ca_file: Path, user: str) -> str:
    return f"""\
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{url}", certificate-authority: {ca_file}}}}}]
users: [{{name: test, user: {{{user}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
"""


class TestCluster(Cluster):
    """The test API server."""

    __test__ = False

    def __init__(
        self, url: str, certificates: Certificates, kubeconfig: Path, do: Callable[..., Any]
    ) -> None:
        super().__init__(url, ssl.create_default_context(cafile=str(certificates.ca_file)), kubeconfig)
        self._do = do
        kubeconfig.write_text(_kubeconfig(url, certificates.ca_file, ""))

    def do(self, what: Callable[[KubeServer], T]) -> T:
        return self._do(what)

    def fail(self, *faults: Fault) -> None:
        for fault in faults:
            self.do(lambda kube, fault=fault: kube.fail(fault))

    def heal(self) -> None:
        """No fault is left to come."""
        self.do(lambda kube: kube.script.clear())


class RealCluster(Cluster):
    """A real kube-apiserver; what only one that runs as a process can do is in `server`."""

    def __init__(self, server: KubeApiserver) -> None:
        context = ssl.create_default_context(cadata=server.ca_pem)
        server.admin.configure_cert(context)
        super().__init__(server.url, context, server.kubeconfig(server.folder / "kubeconfig"))
        self.server = server

    def account(self, namespace: str, name: str) -> Cluster:
        """The same as a service account sees it, by a token."""
        path = SERVICE_ACCOUNTS.path(namespace, name, "token")
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self.done("POST", path, wanted)["status"]["token"]
        kubeconfig = self.server.folder / f"{namespace}-{name}"
        ca = self.server.folder / "ca.crt"
        kubeconfig.write_text(_kubeconfig(self.url, ca, f'token: "{token}"'))
        seen = Cluster(self.url, ssl.create_default_context(cadata=self.server.ca_pem), kubeconfig)
        seen.headers["Authorization"] = f"Bearer {token}"
        return seen


@contextmanager
def served_cluster(certificates: Certificates, kubeconfig: Path) -> Iterator[TestCluster]:
    """The test API server, served over TLS by a thread until the end."""
    kube = KubeServer()
    started = SimpleQueue[tuple[str, trio.lowlevel.TrioToken, trio.CancelScope]]()
    thread = threading.Thread(target=trio.run, args=(_serve, kube, certificates, started))
    thread.start()
    url, token, scope = started.get()
    try:
        yield TestCluster(
            url,
            certificates,
            kubeconfig,
            lambda what: trio.from_thread.run_sync(what, kube, trio_token=token),
        )
    finally:
        trio.from_thread.run_sync(scope.cancel, trio_token=token)
        thread.join()


async def _serve(
    kube: KubeServer,
    certificates: Certificates,
    started: "SimpleQueue[tuple[str, trio.lowlevel.TrioToken, trio.CancelScope]]",
) -> None:
    logger = Logs("error").logger("kube")
    tls = ServerTls(
        TlsFiles(certificates.cert_file, certificates.key_file), clock=SystemClock(), logger=logger
    )
    async with trio.open_nursery() as nursery:
        serve = partial(serve_app, as_app(kube), address="127.0.0.1:0", tls=tls, logger=logger)
        server: Server = await nursery.start(serve)
        started.put((server.addresses[0], trio.lowlevel.current_trio_token(), nursery.cancel_scope))
