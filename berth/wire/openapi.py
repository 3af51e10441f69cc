"""OpenAPI: the operation table as an OpenAPI 3.1 document."""

import re
from typing import Any

import msgspec

from berth.wire.problems import PROBLEMS
from berth.wire.routes import OPERATIONS, Operation
from berth.wire.shapes import ErrorReply, WatchEvent


def document(version: str) -> dict[str, Any]:
    """The whole document for a server of `version`."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "berth lease API",
            "version": version,
            "description": "Leases with fencing tokens. Held by another is no error: `acquired` is false.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas() -> dict[str, Any]:
    types = {
        kind for operation in OPERATIONS for kind in (operation.body, operation.reply) if kind is not None
    }
    ordered = sorted([*types, ErrorReply, WatchEvent], key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    return schemas


_REF = "#/components/schemas/{name}"


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": _responses(operation),
        "security": [] if operation.role is None else [{"key": []}],
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    parameters += [
        {"name": query.name, "in": "query", "description": query.summary, "schema": {"type": query.type}}
        for query in operation.query
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "description": f"One JSON object of at most {operation.body_max_bytes} bytes",
            "content": _json(operation.body.__name__),
        }
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Done"}
    if operation.reply is not None:
        success["content"] = _json(operation.reply.__name__)
    elif operation.text:
        success["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif operation.status == 200:
        success["content"] = {"application/json": {"schema": {"type": "object"}}}
    if operation.streams:
        success["content"]["application/x-ndjson"] = {
            "schema": {"$ref": _REF.format(name=WatchEvent.__name__)}
        }
    responses = {str(operation.status): success}
    for status in operation.text_failures:
        responses[str(status)] = {**success, "description": "Not now"}
    codes = operation.codes if operation.role is None else (*operation.codes, "unauthenticated")
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    for status, names in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "`code` is one of: " + ", ".join(sorted(set(names))),
            "content": _json(ErrorReply.__name__),
        }
    return responses


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=schema)}}}
