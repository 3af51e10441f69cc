"""A test API server over TLS, a real one where there is one, and clients of both."""

import json
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from berth.kube.objects import Object, Resource
from berth.runtime.asgi import AsgiApp
from berth.runtime.clock import SystemClock
from berth.runtime.http import HttpClient, Reply
from berth.runtime.serve import Server, serve_app
from berth.runtime.tls import ServerTls, TlsFiles
from berth.wire.crds import definition
from tests.kube.server.kinds import NAMESPACES, SERVICE_ACCOUNTS, custom
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Network, as_app
from tests.runtime.conftest import Journal, write_pair
from tests.support.kube_apiserver import KubeApiserver, kube_apiserver

SECONDS = 10.0
_serial = count(1)
BERTH_LEASES = Resource("berth.skaphos.io", "v1alpha1", "berthleases", "BerthLease")
DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
RBAC = "rbac.authorization.k8s.io"
CLUSTER_ROLES = Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_BINDINGS = Resource(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False)


def in_namespace(namespace: str, obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


async def until(condition: Callable[[], Any], *, within_seconds: float = 300) -> None:
    """Looks again and again, on whatever clock Trio has."""
    with trio.fail_after(within_seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is the outcome, not an event
            await trio.sleep(0.01)


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_files(authority: trustme.CA, tmp_path: Path) -> TlsFiles:
    return write_pair(authority, tmp_path, "127.0.0.1")


@pytest.fixture
def kube() -> KubeServer:
    """A test API server that is not served yet."""
    return KubeServer(custom(BERTH_LEASES))


@asynccontextmanager
async def serving(app: AsgiApp, files: TlsFiles, journal: Journal) -> AsyncGenerator[str]:
    """The URL at which it is served over TLS."""
    tls = ServerTls(files, clock=SystemClock(), logger=journal.logger)
    async with trio.open_nursery() as nursery:
        serve = partial(serve_app, app, address="127.0.0.1:0", tls=tls, logger=journal.logger)
        server: Server = await nursery.start(serve)
        yield server.addresses[0]
        nursery.cancel_scope.cancel()


@pytest.fixture
async def served(kube: KubeServer, tls_files: TlsFiles, journal: Journal) -> AsyncGenerator[str]:
    async with serving(as_app(kube), tls_files, journal) as url:
        yield url


@pytest.fixture
def network(kube: KubeServer) -> Network:
    """A way to it without sockets, on whatever clock Trio has."""
    return Network(kube)


@pytest.fixture(scope="session")
def real() -> Iterator[KubeApiserver]:
    with kube_apiserver() as server:
        yield server


@dataclass
class Cluster:
    """An API server of either kind, asked as by curl. `namespace` is the test's own."""

    client: HttpClient
    url: str
    namespace: str
    place: KubeServer | KubeApiserver

    async def ask(
        self, method: str, path: str, body: Object | None = None, *, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        reply = await self.reply(method, path, body, content_type=content_type)
        return reply.status, json.loads(reply.body)

    async def reply(
        self, method: str, path: str, body: Object | None = None, *, content_type: str = "application/json"
    ) -> Reply:
        return await self.client.request(
            method,
            self.url + path,
            headers={"content-type": content_type} if body is not None else {},
            body=None if body is None else json.dumps(body).encode(),
            timeout_seconds=SECONDS,
        )

    async def make(self, resource: Resource, obj: Object) -> Any:
        status, made = await self.ask("POST", resource.path(self.namespace), obj)
        assert status == 201, made
        return made

    async def compact(self) -> None:
        """Let the server forget the past."""
        if isinstance(self.place, KubeServer):
            self.place.compact()
        else:
            await trio.to_thread.run_sync(self.place.compact)

    async def token(self) -> str:
        """A service account's token, which the cluster knows."""
        await self.make(SERVICE_ACCOUNTS, {"metadata": {"name": "robot"}})
        if isinstance(self.place, KubeServer):
            user = f"system:serviceaccount:{self.namespace}:robot"
            self.place.tokens["a-robots-token"] = user
            return "a-robots-token"
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        _, granted = await self.ask("POST", SERVICE_ACCOUNTS.path(self.namespace, "robot", "token"), wanted)
        return granted["status"]["token"]

    async def let_read(self, user: str, path: str) -> None:
        """The cluster lets this user get a path that is no resource's."""
        if isinstance(self.place, KubeServer):
            self.place.readers.add((user, path))
            return
        named = {"metadata": {"name": f"{self.namespace}-{user}"}}
        rule = {"nonResourceURLs": [path], "verbs": ["get"]}
        role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": named["metadata"]["name"]}
        subject = {"apiGroup": RBAC, "kind": "User", "name": user}
        await self.make(CLUSTER_ROLES, {**named, "rules": [rule]})
        await self.make(CLUSTER_BINDINGS, {**named, "roleRef": role, "subjects": [subject]})


@pytest.fixture(params=["test server", "kube-apiserver"])
def place(request: pytest.FixtureRequest) -> KubeServer | KubeApiserver:
    return request.getfixturevalue("kube" if request.param == "test server" else "real")


@pytest.fixture
async def cluster(
    place: KubeServer | KubeApiserver, tls_files: TlsFiles, authority: trustme.CA, journal: Journal
) -> AsyncGenerator[Cluster]:
    async with AsyncExitStack() as stack:
        if isinstance(place, KubeServer):
            url = await stack.enter_async_context(serving(as_app(place), tls_files, journal))
            tls = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        else:
            url = place.url
            tls = ssl.create_default_context(cadata=place.ca_pem)
            place.admin.configure_cert(tls)
        client = await stack.enter_async_context(HttpClient(user_agent="berth-test", tls=tls))
        opened = Cluster(client, url, f"test-{next(_serial)}", place)
        status, _ = await opened.ask("POST", NAMESPACES.path(), {"metadata": {"name": opened.namespace}})
        assert status == 201
        if isinstance(place, KubeApiserver):
            await define(opened)
        yield opened


async def define(cluster: Cluster) -> None:
    """The custom resource, where a real server does not know it yet."""
    status, made = await cluster.ask("POST", DEFINITIONS.path(), definition())
    assert status == 201 or made["reason"] == "AlreadyExists", made
    for _ in range(100):
        if (await cluster.reply("GET", BERTH_LEASES.path("default"))).status == 200:
            return
        await trio.sleep(0.1)
    raise AssertionError("the custom resource is not served")
