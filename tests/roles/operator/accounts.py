"""Service accounts of a scenario's cluster, and the manifest that says what the operator's may do.

Promises the same on either kind of cluster; what a real one is told stays in it, for the next scenario too.
"""

from pathlib import Path
from typing import Any

import trio
import yaml

from berth.kube.faults import AlreadyExists
from berth.kube.objects import Object, Resource
from berth.roles.operator.rbac import ACCOUNT, NAMESPACE
from tests.kube.conftest import CLUSTER_BINDINGS, CLUSTER_ROLES, RBAC
from tests.kube.server.kinds import NAMESPACES, SERVICE_ACCOUNTS
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import write_kubeconfig
from tests.roles.operator.cluster import Cluster
from tests.support.clusters import RealCluster
from tests.support.kube_apiserver import KubeApiserver

MANIFEST = Path(__file__).resolve().parents[3] / "packaging" / "kubernetes" / "operator-rbac.yaml"
READER = "berth-operator-metrics-reader"

_KINDS = {
    resource.kind: resource
    for resource in (
        NAMESPACES,
        SERVICE_ACCOUNTS,
        CLUSTER_ROLES,
        CLUSTER_BINDINGS,
        Resource(RBAC, "v1", "roles", "Role"),
        Resource(RBAC, "v1", "rolebindings", "RoleBinding"),
    )
}


async def apply_manifest(cluster: Cluster) -> None:
    """As its administrator does it, on a real one."""
    for document in yaml.safe_load_all(MANIFEST.read_text()):
        await _made(cluster, _KINDS[document["kind"]], document)


async def come_as_account(cluster: Cluster, folder: Path) -> None:
    """Operators of a real one have from now on the rights of the manifest; a test server's always have."""
    assert isinstance(cluster.place, KubeApiserver)
    await apply_manifest(cluster)
    kubeconfig = write_kubeconfig(
        folder / f"{cluster.name}-account.kubeconfig",
        url=cluster.kube_link.url,
        token=await account_token(cluster, ACCOUNT, NAMESPACE),
        ca_file=cluster.place.folder / "ca.crt",
        namespace=NAMESPACE,
    )
    cluster.forget_flag("--kubeconfig")
    cluster.flags += (f"--kubeconfig={kubeconfig}",)


async def account_token(cluster: Cluster, name: str, namespace: str = "") -> str:
    """A token of that service account, which is made if there is none."""
    namespace = namespace or cluster.namespace
    account = {"metadata": {"name": name, "namespace": namespace}}
    await _made(cluster, SERVICE_ACCOUNTS, account)
    if isinstance(cluster.place, KubeServer):
        token = f"token-of-{name}"
        cluster.place.tokens[token] = _user(name, namespace)
        return token
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = SERVICE_ACCOUNTS.path(namespace, name, "token")
    granted: Any = await trio.to_thread.run_sync(RealCluster(cluster.place).done, "POST", path, asked)
    return granted["status"]["token"]


async def let_scrape(cluster: Cluster, name: str) -> None:
    """Give that service account the role for it."""
    if isinstance(cluster.place, KubeServer):
        cluster.place.readers.add((_user(name, cluster.namespace), "/metrics"))
        return
    await apply_manifest(cluster)
    subject = {"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}
    binding = {
        "metadata": {"name": f"{cluster.namespace}-{name}"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": READER},
        "subjects": [subject],
    }
    await _made(cluster, CLUSTER_BINDINGS, binding)


def _user(name: str, namespace: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


async def _made(cluster: Cluster, resource: Resource, obj: Object) -> None:
    try:
        await cluster.client.create(resource, obj)
    except AlreadyExists:
        pass
