"""The OpenAPI document, against what the server does."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.roles.apiserver.conftest import new_path
from tests.roles.apiserver.https import Caller, Json, Reply

LEASE = "/v1alpha1/namespaces/{namespace}/leases/{name}"
OPERATIONS = {
    ("post", f"{LEASE}/acquire"): {200, 400, 401, 403, 409, 413, 429, 500, 503},
    ("post", f"{LEASE}/renew"): {200, 400, 401, 403, 409, 413, 429, 500, 503},
    ("post", f"{LEASE}/release"): {204, 400, 401, 403, 409, 413, 429, 500, 503},
    ("post", "/v1alpha1/leases:batch"): {200, 400, 401, 413},
    ("post", f"{LEASE}/verify"): {200, 400, 401, 403, 413, 429, 500, 503},
    ("post", f"{LEASE}/force-release"): {200, 400, 401, 403, 404, 409, 413, 429, 500, 503},
    ("get", LEASE): {200, 400, 401, 403, 404, 429, 500, 503},
    ("get", "/v1alpha1/namespaces/{namespace}/leases"): {200, 400, 401, 403, 410, 429, 500, 503},
    ("get", "/v1alpha1/leases"): {200, 400, 401, 403, 410, 429, 500, 503},
    ("get", "/v1alpha1/whoami"): {200, 401, 429},
    ("get", "/version"): {200},
    ("get", "/openapi.json"): {200},
    ("get", "/healthz"): {200},
    ("get", "/livez"): {200},
    ("get", "/readyz"): {200, 503},
}


@pytest.fixture(scope="module")
def document(caller: Caller) -> Json:
    return caller.get("/openapi.json").ok()


def nodes(tree: Any) -> Iterator[Json]:
    """Every object in the document."""
    if isinstance(tree, dict):
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from nodes(child)


def resolved(document: Json, node: Json) -> Json:
    while "$ref" in node:
        found: Any = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def fits(document: Json, schema: Json, value: Any) -> bool:
    """Whether a value is what the schema says; a key that the schema does not know is not."""
    schema = resolved(document, schema)
    if "anyOf" in schema:
        return any(fits(document, each, value) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if isinstance(value, bool) and schema["type"] != "boolean":
        return False
    if not isinstance(value, TYPES[schema["type"]]):
        return False
    if isinstance(value, list):
        return all(fits(document, schema["items"], each) for each in value)
    if isinstance(value, dict):
        known = schema["properties"]
        return set(schema.get("required", ())) <= set(value) <= set(known) and all(
            fits(document, known[key], each) for key, each in value.items()
        )
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


def test_every_operation_is_there(document: Json) -> None:
    assert document["openapi"] == "3.1.0"
    found = {
        (method, path): {int(status) for status in operation["responses"]}
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    for operation, statuses in OPERATIONS.items():
        assert found[operation] == statuses, operation


def test_every_reference_leads_somewhere(document: Json) -> None:
    references = [node for node in nodes(document) if "$ref" in node]
    assert references
    for node in references:
        assert resolved(document, node)["type"] == "object"


def test_operations_are_told_apart(document: Json) -> None:
    ids = [node["operationId"] for node in nodes(document) if "operationId" in node]
    assert len(ids) == len(set(ids)) >= len(OPERATIONS)


def test_a_path_declares_its_parameters(document: Json) -> None:
    for path, item in document["paths"].items():
        for operation in item.values():
            in_path = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"]
            assert in_path == [part[1:-1] for part in path.split("/") if part.startswith("{")]


def test_what_wants_a_key_says_so(document: Json, nobody: Caller) -> None:
    for method, path in OPERATIONS:
        concrete = path.replace("{namespace}", "n").replace("{name}", "x")
        wants_key = document["paths"][path][method]["security"] != []
        assert (nobody.call(method.upper(), concrete).status == 401) is wants_key


def scenario(caller: Caller) -> Iterator[tuple[str, str, Json | None, Reply]]:
    """Calls that bring out every shape of reply: method, path in the document, body, reply."""
    path = new_path()
    shared = {"semantics": "at-least-once", "maxHolders": 2}
    posts: list[tuple[str, Json]] = [
        ("renew", {"holder": "h", "fencingToken": 1, "ttlSeconds": 9}),
        ("acquire", {"holder": "h", "ttlSeconds": 60, "lockDelaySeconds": 0}),
        ("acquire", {"holder": "other", "ttlSeconds": 60}),
        ("acquire", {"holder": "", "ttlSeconds": 60}),
        ("renew", {"holder": "h", "fencingToken": 1, "ttlSeconds": 60}),
        ("verify", {"holder": "h", "fencingToken": 1}),
        ("force-release", {"fencingToken": 1, "reason": "test"}),
        ("force-release", {"fencingToken": 1, "reason": "test"}),
        ("acquire", {"holder": "h", "ttlSeconds": 60, **shared}),
        ("acquire", {"holder": "other", "ttlSeconds": 60, **shared}),
        ("release", {"holder": "h", "fencingToken": 2}),
        ("release", {"holder": "x", "fencingToken": 3}),
    ]
    for verb, body in posts:
        yield "post", f"{LEASE}/{verb}", body, caller.post(f"{path}/{verb}", body)
    yield "get", LEASE, None, caller.get(path)
    yield "get", LEASE, None, caller.get(new_path())
    yield "get", "/v1alpha1/namespaces/{namespace}/leases", None, caller.get(path.rpartition("/")[0])
    for plain in ("/v1alpha1/leases", "/v1alpha1/whoami", "/version"):
        yield "get", plain, None, caller.get(plain)


def test_bodies_and_replies_are_as_declared(document: Json, caller: Caller) -> None:
    for method, path, body, reply in scenario(caller):
        operation = document["paths"][path][method]
        if body is not None:
            assert fits(document, operation["requestBody"]["content"]["application/json"]["schema"], body)
        declared = operation["responses"][str(reply.status)]
        if reply.status == 204:
            assert "content" not in declared
        else:
            schema = declared["content"]["application/json"]["schema"]
            assert fits(document, schema, reply.json), (method, path, reply.json)


def test_a_code_is_declared_with_its_status(document: Json, caller: Caller) -> None:
    for method, path, _, reply in scenario(caller):
        if reply.status >= 400:
            declared = document["paths"][path][method]["responses"][str(reply.status)]
            assert reply.code in declared["description"]
