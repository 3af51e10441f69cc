"""What a cluster needs where it keeps berth's leases, as manifests: rights, guards, and a lane of its own.

Owns the three files in packaging/kubernetes that begin with `store`. Names of labels, annotations and calls
come from the store's own code.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from berth.kube.objects import LEASES
from berth.store.kubernetes_objects import LEASE, MANAGED_BY, MORE, NAME, NAMESPACE, SESSION, VERSION
from berth.store.kubernetes_opening import VERBS

Object = dict[str, Any]

WHERE = "berth-leases"
"""The namespace of the Lease objects."""

ACCOUNT, HOME = "berth-apiserver", "berth-system"
USER = f"system:serviceaccount:{HOME}:{ACCOUNT}"

OURS = (NAMESPACE, NAME, VERSION, MORE)


def files() -> Iterator[tuple[str, str]]:
    """Name and content of each."""
    for name, documents in (("rbac", rights()), ("admission", guards()), ("flow", lane())):
        written = yaml.safe_dump_all(documents, sort_keys=False, width=110)
        yield (
            f"store-{name}.yaml",
            f"# Written by build/generate.py from build/kubernetes_store.py.\n{written}",
        )


def rights() -> list[Object]:
    """What the server is allowed: the calls that it makes, in one namespace."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "berth-store"}
    rule = {"apiGroups": [LEASES.group], "resources": [LEASES.plural], "verbs": list(VERBS)}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": WHERE}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, "namespace": HOME},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "berth-store", "namespace": WHERE},
            "rules": [rule],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "berth-store", "namespace": WHERE},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": HOME}],
        },
    ]


def guards() -> list[Object]:
    """Nobody lowers a token or deletes a lease, and nobody else writes them; metadata is everybody's."""
    ours = {"key": MANAGED_BY, "operator": "In", "values": [LEASE, SESSION]}
    policy: Object = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [LEASES.group],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": [LEASES.plural],
                }
            ],
            # Met by what was there before as well: who takes the label off is judged too.
            "objectSelector": {"matchExpressions": [ours]},
        },
        "variables": _variables(),
        "validations": [
            {"expression": expression, "message": message} for message, expression in _validations().items()
        ],
    }
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "berth-leases"},
            "spec": policy,
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "berth-leases"},
            "spec": {
                "policyName": "berth-leases",
                "validationActions": ["Deny"],
                "matchResources": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": WHERE}}
                },
            },
        },
    ]


def _variables() -> list[Object]:
    annotations = ", ".join(f"'{each}'" for each in OURS)
    written = {
        "byBerth": f"request.userInfo.username == '{USER}'",
        "updated": "request.operation == 'UPDATE'",
        "isLease": "request.operation != 'CREATE' && "
        f"oldObject.metadata.?labels[?'{MANAGED_BY}'].orValue('') == '{LEASE}'",
        "tokenBefore": "request.operation == 'CREATE' ? 0 : oldObject.spec.?leaseTransitions.orValue(0)",
        "token": "request.operation == 'DELETE' ? 0 : object.spec.?leaseTransitions.orValue(0)",
        "sameLabel": f"variables.updated && object.metadata.?labels[?'{MANAGED_BY}'].orValue('') == "
        f"oldObject.metadata.?labels[?'{MANAGED_BY}'].orValue('')",
        "sameWords": f"variables.updated && [{annotations}].all(word, "
        "object.metadata.?annotations[?word].orValue('') == "
        "oldObject.metadata.?annotations[?word].orValue(''))",
    }
    return [{"name": name, "expression": expression} for name, expression in written.items()]


def _validations() -> dict[str, str]:
    return {
        "a lease is never deleted: its fencing tokens would be given again": (
            "!(request.operation == 'DELETE' && variables.isLease)"
        ),
        "spec.leaseTransitions is a fencing token, which never falls": (
            "!(variables.updated && variables.isLease && variables.token < variables.tokenBefore)"
        ),
        f"the label {MANAGED_BY} of a lease stays": "!variables.updated || variables.sameLabel",
        "only berth's API server writes leases; others may change metadata that is not berth's": (
            "variables.byBerth || (variables.updated && variables.sameWords && object.spec == oldObject.spec)"
        ),
    }


def lane() -> list[Object]:
    """Under load the server's calls are answered among those for leader election, as what they are."""
    rule = {
        "verbs": list(VERBS),
        "apiGroups": [LEASES.group],
        "resources": [LEASES.plural],
        "namespaces": [WHERE],
    }
    subject = {"kind": "ServiceAccount", "serviceAccount": {"name": ACCOUNT, "namespace": HOME}}
    return [
        {
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": {"name": "berth-leases"},
            "spec": {
                "matchingPrecedence": 300,
                "priorityLevelConfiguration": {"name": "leader-election"},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [{"subjects": [subject], "resourceRules": [rule]}],
            },
        }
    ]
