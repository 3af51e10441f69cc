"""The CustomResourceDefinition of BerthLease, made from its shapes and rules.

Owns what of a shape becomes a structural schema, and the columns of a table. Promises that what an operator
of skaphos/berth can follow is taken, that what it tells is kept, and that an object which was stored before
there were rules can be changed in everything but its spec. The last needs Kubernetes 1.30, and does not hold
where a value has another type than it should: no definition of this resource ever let that pass.
"""

from typing import Any

import msgspec

from berth.wire.berthlease import GROUP, KIND, PLURAL, VERSION, Spec, Status
from berth.wire.berthlease_rules import RULES, TRANSITIONS, Rule, Transition

SINGULAR, SHORT_NAME = "berthlease", "bl"

COLUMNS = (
    ("State", "string", ".status.leaseState", 0),
    ("Holder", "string", ".status.currentHolder", 0),
    ("Token", "integer", ".status.fencingToken", 0),
    ("Target", "string", ".spec.target.name", 0),
    ("Kind", "string", ".spec.target.kind", 1),
    ("Reason", "string", '.status.conditions[?(@.type=="Acquired")].reason', 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
"""Name, type, path, and whether only a wide table has it."""


def definition() -> dict[str, Any]:
    """The whole object, as an administrator applies it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


def _root() -> dict[str, Any]:
    spec = {
        **_schema(Spec, "What is wanted."),
        "x-kubernetes-validations": [_validation(rule) for rule in (*RULES, *TRANSITIONS)],
    }
    return {
        "description": "A workload that runs in one cluster at a time: wherever its lease is held.",
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": _schema(Status, "What the operator tells."),
        },
        # `required` would also keep a stored object without a spec from losing its finalizer.
        "x-kubernetes-validations": [
            {
                "rule": "has(self.spec) || (oldSelf.hasValue() && !has(oldSelf.value().spec))",
                "fieldPath": ".spec",
                "message": "is required",
                "optionalOldSelf": True,
            }
        ],
    }


def _validation(rule: Rule | Transition) -> dict[str, Any]:
    return {"fieldPath": f".{rule.field}", "message": rule.words, "rule": rule.cel}


def _schema(shape: type, words: str) -> dict[str, Any]:
    _, definitions = msgspec.json.schema_components([shape])
    return _structural({"description": words, "$ref": shape.__name__}, definitions)


def _structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Without references, and without null: what may be null may be left out."""
    found = dict(schema)
    if "anyOf" in found:
        one, _null = found.pop("anyOf")
        found |= one
    if "$ref" in found:
        referred = definitions[found.pop("$ref").rpartition("/")[2]]
        found = {**referred, **found}
    if not found.get("default"):
        found.pop("default", None)  # as good as left out
    if "enum" in found:
        found["type"] = "string"
    if "properties" in found:
        properties = found["properties"].items()
        found["properties"] = {name: _structural(each, definitions) for name, each in properties}
    if "items" in found:
        found["items"] = _structural(found["items"], definitions)
    return {key: found[key] for key in _KEYS if key in found and found[key] != []}


_KEYS = (
    *("description", "type", "format", "enum", "default", "minimum", "maxLength", "maxItems"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "required", "properties", "items"),
)
