"""The manifests for a cluster that keeps leases: they are current, and a real cluster does what they say."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from berth.kube.objects import LEASES, Resource
from berth.store.kubernetes_objects import FLOOR, MANAGED_BY, SESSION, VERSION
from berth.store.kubernetes_opening import VERBS
from tests.roles.apiserver.conftest import Lease, calling
from tests.roles.apiserver.https import Caller
from tests.support.apiserver import Certificates, apiserver, until
from tests.support.clusters import Cluster, RealCluster

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "packaging" / "kubernetes"
FILES = ("store-rbac.yaml", "store-admission.yaml", "store-flow.yaml")
WHERE, HOME, ACCOUNT = "berth-leases", "berth-system", "berth-apiserver"
PATH = "/v1alpha1/namespaces/n/leases/guarded"
NAME = "n.guarded"
_serial = count()
CLUSTER_WIDE = {"Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "FlowSchema"}

Object = dict[str, Any]


def documents(name: str) -> list[Object]:
    return [*yaml.safe_load_all((FOLDER / name).read_text())]


def test_the_manifests_are_current() -> None:
    script = "import json, kubernetes_store; print(json.dumps(dict(kubernetes_store.files())))"
    generated = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT / "build",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = {path.name: path.read_text() for path in FOLDER.glob("store-*")}
    assert found == json.loads(generated.stdout), "run build/generate.py and commit packaging/kubernetes"


def test_the_manifests_say_what_they_are_for() -> None:
    kinds = [document["kind"] for name in FILES for document in documents(name)]
    assert kinds == [
        *("Namespace", "Namespace", "ServiceAccount", "Role", "RoleBinding"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "FlowSchema"),
    ]
    (role,) = (document for document in documents(FILES[0]) if document["kind"] == "Role")
    assert [rule["verbs"] for rule in role["rules"]] == [[*VERBS]]


# --- on a real cluster


def _resource(document: Object) -> Resource:
    group, _, version = document["apiVersion"].rpartition("/")
    kind = document["kind"]
    plural = kind.lower() + "s" if not kind.endswith("y") else kind.lower()[:-1] + "ies"
    return Resource(group, version, plural, kind, namespaced=kind not in CLUSTER_WIDE)


@pytest.fixture(scope="module")
def cluster(real_cluster: RealCluster) -> RealCluster:
    """All of the manifests are in it."""
    for name in FILES:
        for document in documents(name):
            path = _resource(document).path(document["metadata"].get("namespace", ""))
            real_cluster.done("POST", path, document)
    return real_cluster


@pytest.fixture(scope="module")
def account(cluster: RealCluster) -> Cluster:
    """What the server is there."""
    return cluster.account(HOME, ACCOUNT)


@pytest.fixture(scope="module")
def caller(certificates: Certificates, account: Cluster) -> Iterator[Caller]:
    with (
        apiserver(certificates, *account.flags(WHERE)) as server,
        closing(calling(server)) as caller,
    ):
        yield caller
        server.stop()
        assert [line for line in server.logged("api request") if line["status"] >= 500] == []


@pytest.fixture(scope="module")
def lease(caller: Caller, cluster: RealCluster) -> Lease:
    """Held by `a` under token 2, once it is guarded."""
    lease = Lease(caller, PATH)
    lease.acquire("a")
    lease.release("a", 1)
    assert lease.acquire("a")["fencingToken"] == 2
    stranger = {"metadata": {"name": "n.new", "labels": {MANAGED_BY: "berth"}}, "spec": {}}
    until(
        lambda: cluster.ask("POST", f"{LEASES.path(WHERE)}?dryRun=All", stranger)[0] == 422, within_seconds=60
    )
    return lease


def test_the_rights_are_enough(caller: Caller, lease: Lease) -> None:
    assert caller.get("/readyz").status == 200
    session = caller.post("/v1alpha1/sessions", {"holder": "a", "ttlSeconds": 60}).json["id"]
    under = Lease(caller, PATH + "-too")
    assert under.ask("acquire", holder="a", session=session).ok()["acquired"] is True
    assert caller.post(f"/v1alpha1/sessions/{session}/renew", {}).ok()["alive"] is True
    assert under.release("a", 1).status == 204
    assert caller.call("DELETE", f"/v1alpha1/sessions/{session}").status == 204
    assert lease.renew("a", 2)["acquired"] is True


def test_the_rights_are_no_more_than_that(account: Cluster) -> None:
    for namespace, verbs in ((WHERE, {*VERBS}), (HOME, set[str]()), ("default", set[str]())):
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        told = account.done("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)["status"]
        allowed = {
            (group, resource, verb)
            for rule in told["resourceRules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            if not resource.startswith("selfsubject")  # what anybody may ask about themselves
        }
        assert allowed == {(LEASES.group, LEASES.plural, verb) for verb in verbs}
    assert account.ask("GET", LEASES.path("default"))[0] == 403
    assert account.ask("GET", f"/api/v1/namespaces/{WHERE}/secrets")[0] == 403


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        ({"spec": {"leaseTransitions": 1}}, "a fencing token, which never falls"),
        ({"spec": {"leaseTransitions": None}}, "a fencing token, which never falls"),
        ({"spec": {"leaseTransitions": 3}}, "only berth's API server writes leases"),
        ({"spec": {"holderIdentity": "me"}}, "only berth's API server writes leases"),
        ({"metadata": {"annotations": {VERSION: "77"}}}, "only berth's API server writes leases"),
        ({"metadata": {"labels": {MANAGED_BY: None}}}, "of a lease stays"),
        ({"metadata": {"labels": {MANAGED_BY: "berth-session"}}}, "of a lease stays"),
    ],
)
def test_what_others_may_not_write(lease: Lease, cluster: RealCluster, patch: Object, told: str) -> None:
    path = LEASES.path(WHERE, NAME)
    status, refused = cluster.ask("PATCH", path, patch, "application/merge-patch+json")
    assert (status, told in refused["message"]) == (422, True), refused
    assert lease.renew("a", 2)["acquired"] is True


def test_a_lease_is_not_deleted(lease: Lease, cluster: RealCluster, account: Cluster) -> None:
    for who in (cluster, account):
        status, refused = who.ask("DELETE", LEASES.path(WHERE, NAME))
        assert (status, "a lease is never deleted" in refused["message"]) == (422, True)
    assert lease.renew("a", 2)["acquired"] is True


def test_a_token_is_not_lowered_by_the_server_either(
    lease: Lease, cluster: RealCluster, account: Cluster
) -> None:
    obj = cluster.lease(WHERE, NAME)
    lowered = {**obj, "spec": {**obj["spec"], "leaseTransitions": 1}}
    status, refused = account.ask("PUT", LEASES.path(WHERE, NAME), lowered)
    assert (status, "never falls" in refused["message"]) == (422, True)
    assert lease.get().ok()["fencingToken"] == 2


def test_a_session_is_deleted_by_the_server_alone(
    lease: Lease, cluster: RealCluster, account: Cluster
) -> None:
    opened = lease.caller.post("/v1alpha1/sessions", {"holder": "a", "ttlSeconds": 60}).json["id"]
    lease.caller.call("DELETE", f"/v1alpha1/sessions/{opened}")
    names = [
        obj["metadata"]["name"]
        for obj in cluster.leases(WHERE)
        if obj["metadata"]["labels"][MANAGED_BY] == SESSION
    ]
    assert cluster.ask("DELETE", LEASES.path(WHERE, names[0]))[0] == 422
    assert account.ask("DELETE", LEASES.path(WHERE, names[0]))[0] == 200


def test_metadata_is_everybodys(lease: Lease, cluster: RealCluster) -> None:
    cluster.patch(WHERE, NAME, {"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}})
    assert lease.renew("a", 2)["acquired"] is True
    stranger = {"metadata": {"name": "someone-elses"}, "spec": {"holderIdentity": "x"}}
    cluster.put(WHERE, stranger)
    cluster.delete(WHERE, "someone-elses")


def test_the_servers_calls_have_a_lane_of_their_own(cluster: RealCluster, account: Cluster) -> None:
    schemas = "/apis/flowcontrol.apiserver.k8s.io/v1"
    schema = cluster.done("GET", f"{schemas}/flowschemas/berth-leases")["metadata"]["uid"]
    level = cluster.done("GET", f"{schemas}/prioritylevelconfigurations/leader-election")["metadata"]["uid"]

    def lanes() -> tuple[str | None, str | None]:
        account.leases(WHERE)
        told = account.told
        return told.get("X-Kubernetes-PF-FlowSchema-UID"), told.get("X-Kubernetes-PF-PriorityLevel-UID")

    until(lambda: lanes() == (schema, level), within_seconds=30)


def test_after_a_restore_by_the_manual_tokens_go_on(
    lease: Lease, caller: Caller, cluster: RealCluster, tmp_path: Path
) -> None:
    """Its commands, as they are in it. They are the last: no lease here begins with 1 any more."""
    missing = [program for program in ("kubectl", "jq") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}")
    manual = (ROOT / "docs" / "stores.md").read_text()
    (commands,) = (block for block in manual.split("```")[1::2] if FLOOR in block)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),  # for kubectl's cache
        "KUBECONFIG": str(cluster.kubeconfig),
    }
    script = ["sh", "-ec", commands.removeprefix("sh\n")]
    for floor in (1_002, 2_002):
        subprocess.run(script, cwd=ROOT, env=environment, check=True, timeout=60)
        assert cluster.lease(WHERE, FLOOR)["spec"]["leaseTransitions"] == floor
    until(lambda: Lease(caller, f"{PATH}-{next(_serial)}").acquire("a")["fencingToken"] == 2_003)
    assert lease.renew("a", 2)["acquired"] is True
