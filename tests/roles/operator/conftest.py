"""Every scenario runs on the test API server, and on real ones with real controllers where they are found."""

from collections.abc import AsyncGenerator, Iterator
from itertools import count
from pathlib import Path

import pytest
import trio

from berth.kube.access import access_by_kubeconfig
from berth.kube.api import open_client
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import custom
from tests.kube.server.rest import KubeServer
from tests.roles.operator.definition import define
from tests.roles.operator.stage import Place, Stage, open_stage
from tests.runtime.conftest import Journal
from tests.support.apiserver import Certificates
from tests.support.kube_apiserver import KubeApiserver, kube_apiserver

_serial = count(1)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def real_clusters(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[KubeApiserver, KubeApiserver]]:
    """Two, with the custom resource, and with the controllers that turn workloads into pods."""
    with kube_apiserver(controllers=True) as east, kube_apiserver(controllers=True) as west:
        folder = tmp_path_factory.mktemp("admins")
        for number, server in enumerate((east, west)):
            trio.run(_defined, server.kubeconfig(folder / str(number)))
        yield east, west


async def _defined(kubeconfig: Path) -> None:
    access = await access_by_kubeconfig(str(kubeconfig), logger=Journal().logger)
    async with open_client(access) as client:
        await define(client)


@pytest.fixture(params=["test server", "kube-apiserver"])
def places(request: pytest.FixtureRequest) -> tuple[Place, Place]:
    if request.param == "test server":
        return KubeServer(custom(BERTH_LEASES)), KubeServer(custom(BERTH_LEASES))
    return request.getfixturevalue("real_clusters")


@pytest.fixture(params=["mem"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ...]:
    """The lease server's; a test that restarts it asks for `sqlite`."""
    if request.param == "mem":
        return ("--store-backend", "mem")
    return ("--store-backend", "sql", "--sql-driver", "sqlite", "--sql-dsn", str(tmp_path / "leases.db"))


@pytest.fixture
async def stage(
    places: tuple[Place, Place], store: tuple[str, ...], certificates: Certificates, tmp_path: Path
) -> AsyncGenerator[Stage]:
    """Two clusters, a lease server, and no operator yet."""
    async with open_stage(
        places,
        namespace=f"team-{next(_serial)}",
        store=store,
        folder=tmp_path,
        certificates=certificates,
        journal=Journal(),
    ) as opened:
        yield opened
        complaints = await opened.complaints()
    assert not complaints, "\n".join(complaints)
