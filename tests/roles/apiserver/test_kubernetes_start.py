"""A server that cannot use its cluster says so at its start, in one line, with what to do."""

import socket
from pathlib import Path

import pytest

from tests.support.apiserver import ANY_PORTS, Certificates, refused
from tests.support.clusters import Cluster, TestCluster


@pytest.fixture(params=["test server", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return request.getfixturevalue("test_cluster" if request.param == "test server" else "real_cluster")


def refusal(certificates: Certificates, *flags: str) -> str:
    status, told = refused(*certificates.flags, *ANY_PORTS, "--store-backend=k8s", "--auth-mode=none", *flags)
    assert status == 1, told
    (line,) = told.splitlines()
    assert line.startswith("error: apiserver: ")
    return line


def test_a_namespace_that_does_not_exist(certificates: Certificates, cluster: Cluster) -> None:
    told = refusal(certificates, *cluster.flags("nowhere"))
    assert "has no namespace nowhere (--coordination-namespace)" in told
    assert "`kubectl create namespace nowhere`" in told


def test_a_kubeconfig_that_does_not_exist(certificates: Certificates, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    told = refusal(certificates, "--coordination-namespace=n", f"--coordination-kubeconfig={missing}")
    assert f"(--coordination-kubeconfig): there is no kubeconfig at {missing}; say where one is" in told


def test_a_file_that_is_no_kubeconfig(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("just text")
    told = refusal(certificates, "--coordination-namespace=n", f"--coordination-kubeconfig={file}")
    assert "cannot be used: it is none, or not a whole one; check it with `kubectl config view`" in told


def test_no_cluster_around(certificates: Certificates) -> None:
    told = refusal(certificates, "--coordination-namespace=n")
    assert "(--coordination-kubeconfig): no access as a pod" in told
    assert "outside a cluster give a kubeconfig" in told


def test_a_cluster_that_is_not_there(
    certificates: Certificates, test_cluster: TestCluster, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        test_cluster.kubeconfig.read_text().replace(test_cluster.url, f"https://127.0.0.1:{port}")
    )
    told = refusal(certificates, "--coordination-namespace=n", f"--coordination-kubeconfig={kubeconfig}")
    assert f"cannot connect to https://127.0.0.1:{port}" in told


def test_credentials_that_are_not_known(
    certificates: Certificates, test_cluster: TestCluster, tmp_path: Path
) -> None:
    namespace = test_cluster.new_namespace()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(test_cluster.kubeconfig.read_text().replace("user: {}", "user: {token: s3cret}"))
    flags = (f"--coordination-namespace={namespace}", f"--coordination-kubeconfig={kubeconfig}")
    test_cluster.do(lambda kube: setattr(kube, "guarded", True))
    try:
        told = refusal(certificates, *flags)
    finally:
        test_cluster.do(lambda kube: setattr(kube, "guarded", False))
    assert "does not accept the credentials (--coordination-kubeconfig)" in told
    assert "s3cret" not in told
