"""The stage, on a test API server with stand-in controllers, and on a real one with the real ones."""

import ssl
from collections.abc import AsyncGenerator, Iterator
from itertools import count

import pytest
import trio

from berth.kube.api import KubeClient
from berth.kube.faults import AlreadyExists, KubeFault
from berth.kube.objects import Object
from berth.runtime.http import HttpClient
from tests.kube.conftest import DEFINITIONS
from tests.kube.controllers.manager import run_controllers
from tests.kube.server.kinds import NAMESPACES
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Known, Network
from tests.kube.workloads.stage import RING, RINGS, Stage, running
from tests.runtime.conftest import Journal
from tests.support.kube_apiserver import KubeApiserver, kube_apiserver

SERVED_SECONDS = 20.0
_serial = count(1)


@pytest.fixture(scope="session")
def managed() -> Iterator[KubeApiserver]:
    with kube_apiserver(controllers=True) as server:
        yield server


class At(Known):
    """A real server's address; the connection has the credentials."""

    def __init__(self, url: str) -> None:
        self.server = url


@pytest.fixture
def rings(kube: KubeServer) -> KubeServer:
    """A test API server that knows the custom resource."""
    kube.define(RING)
    return kube


@pytest.fixture
async def alone(rings: KubeServer, journal: Journal) -> AsyncGenerator[Stage]:
    """On a test API server where nothing happens that the test does not do."""
    async with running(Stage(KubeClient(Known(), Network(rings)), "default", journal)) as stage:
        yield stage


@pytest.fixture(params=["test server", "kube-apiserver"])
def which(request: pytest.FixtureRequest) -> KubeServer | KubeApiserver:
    return request.getfixturevalue("rings" if request.param == "test server" else "managed")


@pytest.fixture
async def stage(which: KubeServer | KubeApiserver, journal: Journal) -> AsyncGenerator[Stage]:
    namespace = f"workloads-{next(_serial)}"
    if isinstance(which, KubeServer):
        which.create(NAMESPACES, {"metadata": {"name": namespace}})
        controllers = KubeClient(Known(), Network(which, scripted=False))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_controllers(controllers, logger=journal.logger))
            async with running(Stage(KubeClient(Known(), Network(which)), namespace, journal)) as stage:
                yield stage
            nursery.cancel_scope.cancel()
        return
    tls = ssl.create_default_context(cadata=which.ca_pem)
    which.admin.configure_cert(tls)
    async with HttpClient(user_agent="berth-test", tls=tls) as transport:
        client = KubeClient(At(which.url), transport)
        await client.create(NAMESPACES, {"metadata": {"name": namespace}})
        await define(client)
        async with running(Stage(client, namespace, journal)) as stage:
            yield stage


async def define(client: KubeClient) -> None:
    """The custom resource; returns once it is served."""
    try:
        await client.create(DEFINITIONS, definition())
    except AlreadyExists:
        return
    with trio.fail_after(SERVED_SECONDS):
        while True:
            try:
                await client.list_page(RINGS, "default")
                return
            except KubeFault:
                await trio.sleep(0.1)


def definition() -> Object:
    scale = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.size",
        "labelSelectorPath": ".status.selector",
    }
    version = {
        "name": RINGS.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        "subresources": {"status": {}, "scale": scale},
    }
    names = {"plural": RINGS.plural, "singular": "ring", "kind": RINGS.kind}
    spec = {"group": RINGS.group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": f"{RINGS.plural}.{RINGS.group}"}, "spec": spec}
