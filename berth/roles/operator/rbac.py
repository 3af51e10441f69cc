"""What the operator must be allowed to do in its cluster: these verbs and no others.

Owns the rules from which `build/generate.py` writes the manifest. Promises that every verb is used; a test
sees that no other is. What scales a workload may not touch what runs in it.
"""

from typing import Any

from msgspec import Struct


class Rule(Struct, frozen=True):
    """A rule of a role, as Kubernetes has it."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()

    def as_object(self) -> dict[str, Any]:
        rule: dict[str, Any] = {"apiGroups": [*self.groups], "resources": [*self.resources]}
        if self.names:
            rule["resourceNames"] = [*self.names]
        return {**rule, "verbs": [*self.verbs]}


CLUSTER_RULES = (
    Rule(("berth.skaphos.io",), ("berthleases",), ("get", "list", "watch", "patch")),
    Rule(("berth.skaphos.io",), ("berthleases/status",), ("patch",)),
    Rule(("apps",), ("deployments", "statefulsets", "replicasets"), ("get", "list", "watch")),
    Rule(("apps",), ("deployments/scale", "statefulsets/scale", "replicasets/scale"), ("patch",)),
    Rule(("batch",), ("cronjobs",), ("get", "list", "watch", "patch")),
    Rule(("batch",), ("jobs",), ("get", "list", "watch", "patch", "delete")),
    Rule(("",), ("pods",), ("list",)),
    Rule(("",), ("nodes",), ("get",)),
    Rule(("",), ("events",), ("create", "patch")),
    Rule(("",), ("namespaces",), ("get",), names=("kube-system",)),
)

ELECTION_RULES = (Rule(("coordination.k8s.io",), ("leases",), ("get", "create", "update")),)
"""In the operator's own namespace, with `--leader-elect`."""

METRICS_RULES = (
    Rule(("authentication.k8s.io",), ("tokenreviews",), ("create",)),
    Rule(("authorization.k8s.io",), ("subjectaccessreviews",), ("create",)),
)
"""With `--metrics-secure`."""


NAMESPACE, ACCOUNT = "berth-system", "berth-operator"
_RBAC = "rbac.authorization.k8s.io"


def manifest() -> list[dict[str, Any]]:
    """The objects that give the service account what it needs, and who scrapes its metrics what they do."""
    scraping = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _named("v1", "ServiceAccount", ACCOUNT, NAMESPACE),
        _role("ClusterRole", ACCOUNT, CLUSTER_RULES),
        _binding("ClusterRole", ACCOUNT),
        _role("Role", f"{ACCOUNT}-election", ELECTION_RULES, NAMESPACE),
        _binding("Role", f"{ACCOUNT}-election", NAMESPACE),
        _role("ClusterRole", f"{ACCOUNT}-metrics", METRICS_RULES),
        _binding("ClusterRole", f"{ACCOUNT}-metrics"),
        {**_named(f"{_RBAC}/v1", "ClusterRole", f"{ACCOUNT}-metrics-reader"), "rules": [scraping]},
    ]


def _named(api_version: str, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    about = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": api_version, "kind": kind, "metadata": about}


def _role(kind: str, name: str, rules: tuple[Rule, ...], namespace: str = "") -> dict[str, Any]:
    return {**_named(f"{_RBAC}/v1", kind, name, namespace), "rules": [rule.as_object() for rule in rules]}


def _binding(kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    return {
        **_named(f"{_RBAC}/v1", f"{kind}Binding", name, namespace),
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
    }
