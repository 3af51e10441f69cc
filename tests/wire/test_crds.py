"""The CustomResourceDefinition: what the reference's has is in it, and all of it can be understood."""

from collections.abc import Iterator
from typing import Any

import pytest

from berth.wire.crds import COLUMNS, definition

Object = dict[str, Any]

OF_THE_REFERENCE = {
    "spec.leaseName": "string",
    "spec.holderIdentity": "string",
    "spec.ttlSeconds": "int32",
    "spec.heartbeatIntervalSeconds": "int32",
    "spec.semantics": "string",
    "spec.target.apiVersion": "string",
    "spec.target.kind": "string",
    "spec.target.name": "string",
    "spec.acquireAction.suspend": "boolean",
    "spec.acquireAction.scale.replicas": "int32",
    "spec.releaseAction.suspend": "boolean",
    "spec.releaseAction.scale.replicas": "int32",
    "status.workload.targetUID": "string",
    "status.workload.phase": "string",
    "status.workload.deadline": "date-time",
    "status.workload.leaseName": "string",
    "status.workload.holder": "string",
    "status.workload.token": "int32",
    "status.workload.pods.name": "string",
    "status.workload.pods.uid": "string",
    "status.observedGeneration": "int64",
    "status.leaseState": "string",
    "status.currentHolder": "string",
    "status.tenant": "string",
    "status.acquiredAt": "date-time",
    "status.expiresAt": "date-time",
    "status.lastHeartbeat": "date-time",
    "status.fencingToken": "int32",
    "status.conditions.type": "string",
    "status.conditions.status": "string",
    "status.conditions.reason": "string",
    "status.conditions.message": "string",
    "status.conditions.lastTransitionTime": "date-time",
    "status.conditions.observedGeneration": "int64",
}


def schema() -> Object:
    (version,) = definition()["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def fields(found: Object, within: str = "") -> Iterator[tuple[str, Object]]:
    for name, field in found.get("properties", {}).items():
        yield f"{within}{name}", field
        yield from fields(field.get("items", field), f"{within}{name}.")


FIELDS = dict(fields(schema()))


@pytest.mark.parametrize("path", OF_THE_REFERENCE)
def test_the_references_fields_are_there(path: str) -> None:
    field = FIELDS[path]
    assert field.get("format", field["type"]) == OF_THE_REFERENCE[path]


def test_it_is_the_references_by_name() -> None:
    found = definition()
    assert found["metadata"]["name"] == "berthleases.berth.skaphos.io"
    assert found["spec"]["group"] == "berth.skaphos.io"
    assert found["spec"]["scope"] == "Namespaced"
    (version,) = found["spec"]["versions"]
    assert (version["name"], version["subresources"]) == ("v1alpha1", {"status": {}})


def test_every_field_has_a_type_and_says_what_it_is() -> None:
    ours = {path: field for path, field in FIELDS.items() if path.startswith(("spec", "status"))}
    assert [path for path, field in ours.items() if "type" not in field or "description" not in field] == []


def test_what_has_a_default() -> None:
    defaults = {path: field["default"] for path, field in FIELDS.items() if "default" in field}
    assert defaults == {"spec.semantics": "at-most-once", "spec.drain": True}


def test_every_text_of_a_spec_is_bounded() -> None:
    """Else the API server cannot tell what a rule may cost, and refuses the definition."""
    texts = {path: field for path, field in FIELDS.items() if path.startswith("spec")}
    assert [
        path
        for path, field in texts.items()
        if field["type"] == "string" and not {"enum", "maxLength"} & {*field}
    ] == []


def test_lists_are_maps_by_what_names_their_items() -> None:
    keys = {
        path: field["x-kubernetes-list-map-keys"]
        for path, field in FIELDS.items()
        if field.get("x-kubernetes-list-type") == "map"
    }
    assert keys == {"status.conditions": ["type"], "status.workload.pods": ["uid"]}


def test_columns_show_fields() -> None:
    shown = [path.partition("[")[0].removeprefix(".") for _, _, path, _ in COLUMNS]
    assert [path for path in shown if path not in FIELDS and not path.startswith("metadata")] == []
