"""The table of operations, by itself and as an OpenAPI document."""

from typing import Any

import pytest

from berth.wire.openapi import document
from berth.wire.problems import PROBLEMS
from berth.wire.routes import OPERATIONS, Operation

ANY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
# What the server answers whatever the operation, and what only its surroundings answer.
OF_NO_OPERATION = {"unauthenticated", "method_not_allowed", "too_many_connections", "shutting_down"}


def test_operations_are_told_apart() -> None:
    assert len({operation.id for operation in OPERATIONS}) == len(OPERATIONS)
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


@ANY_OPERATION
def test_an_operation_is_sound(operation: Operation) -> None:
    assert set(operation.codes) <= set(PROBLEMS)
    assert operation.route == f"{operation.method} {operation.path}"
    assert (operation.method == "POST") == (operation.body is not None)
    assert (operation.status == 204) <= (operation.reply is None)
    assert not (operation.text and operation.reply)
    assert operation.summary
    assert not operation.summary.endswith(".")


@ANY_OPERATION
def test_an_operation_names_what_its_parts_may_cost(operation: Operation) -> None:
    expected: set[str] = set()
    if "{namespace}" in operation.path:
        expected.add("invalid_namespace")
    if "{name}" in operation.path:
        expected |= {"invalid_name", "invalid_key", "internal", "store_unavailable"}
    if operation.body is not None:
        expected |= {"invalid_body", "body_too_large"}
        fields = set(operation.body.__struct_fields__)
        expected |= {"invalid_holder"} if "holder" in fields else set()
        expected |= {"invalid_token"} if "fencing_token" in fields else set()
        expected |= {"invalid_ttl", "ttl_too_large", "ttl_too_small"} if "ttl_seconds" in fields else set()
    if operation.role in ("holder", "admin"):
        expected |= {"forbidden_role", "outcome_unknown"}
    if operation.role == "holder":
        expected.add("forbidden_holder")
    assert expected <= set(operation.codes)


def test_every_code_belongs_to_an_operation() -> None:
    used = {code for operation in OPERATIONS for code in operation.codes}
    assert set(PROBLEMS) - used - OF_NO_OPERATION == set()


def test_the_document_has_what_the_table_has() -> None:
    made: dict[str, Any] = document("1.2.3")
    assert made["info"]["version"] == "1.2.3"
    found = {
        (method.upper(), path): operation
        for path, item in made["paths"].items()
        for method, operation in item.items()
    }
    assert set(found) == {(operation.method, operation.path) for operation in OPERATIONS}
    for operation in OPERATIONS:
        described = found[operation.method, operation.path]
        assert described["operationId"] == operation.id
        assert (described["security"] == []) == (operation.role is None)
        assert ("requestBody" in described) == (operation.body is not None)
        for code in operation.codes:
            assert code in described["responses"][str(PROBLEMS[code].status)]["description"]
    for schema in made["components"]["schemas"].values():
        assert schema["type"] == "object"
