"""What a body may say: every field, every rule, and the text that refuses it."""

import json

import pytest

from tests.roles.apiserver.conftest import Lease, new_path
from tests.roles.apiserver.https import Caller, Reply

GOOD = {
    "acquire": {"holder": "h", "ttlSeconds": 9},
    "renew": {"holder": "h", "fencingToken": 1, "ttlSeconds": 9},
    "release": {"holder": "h", "fencingToken": 1},
    "verify": {"fencingToken": 1, "holder": "h"},
    "force-release": {"fencingToken": 1, "reason": "test"},
}
WITH_HOLDER = ["acquire", "renew", "release"]
WITH_TTL = ["acquire", "renew"]
WITH_TOKEN = ["renew", "verify", "force-release"]

DECODER = "invalid json body: "


def send(caller: Caller, operation: str, body: object) -> Reply:
    """The reply, for a lease of its own; a refusal must leave no trace of a lease."""
    path = new_path()
    reply = caller.post(f"{path}/{operation}", body)
    if reply.status >= 400:
        assert caller.get(path).code == "not_found"
    return reply


def refusal(caller: Caller, operation: str, **fields: object) -> tuple[int, str, str]:
    """Status, code and text for the good body with these fields; None leaves a field out."""
    body = {name: value for name, value in {**GOOD[operation], **fields}.items() if value is not None}
    reply = send(caller, operation, body)
    return reply.status, reply.code, reply.error


@pytest.mark.parametrize("operation", WITH_HOLDER)
@pytest.mark.parametrize("body", [b"{}", b"null", b" null ", b'{"holder":null}', b'{"holder":""}'])
def test_a_holder_is_required(caller: Caller, operation: str, body: bytes) -> None:
    reply = send(caller, operation, body)
    assert (reply.status, reply.code, reply.error) == (400, "invalid_holder", "holder is required")


@pytest.mark.parametrize("operation", WITH_HOLDER)
@pytest.mark.parametrize("character", ["\x00", "\n", "\r", "\t", "\x1f", "\x7f", "\x85", "\x9f"])
def test_a_holder_has_no_control_characters(caller: Caller, operation: str, character: str) -> None:
    told = (400, "invalid_holder", "holder must not contain control characters")
    assert refusal(caller, operation, holder=f"h{character}") == told


@pytest.mark.parametrize("operation", [*WITH_HOLDER, "verify"])
@pytest.mark.parametrize("surrogate", [rb"\ud800", rb"\udc00", rb"\udc00\ud800", b"\xed\xa0\x80", b"\xff"])
def test_a_holder_is_unicode(caller: Caller, operation: str, surrogate: bytes) -> None:
    body = json.dumps(GOOD[operation]).encode().replace(b'"h"', b'"h' + surrogate + b'"')
    reply = send(caller, operation, body)
    assert reply.status == 400
    assert reply.code in {"invalid_holder", "invalid_body"}


@pytest.mark.parametrize("holder", ["h" * 253, "é" * 126, "\U0001f6a2" * 63])
def test_a_holder_is_measured_in_bytes(caller: Caller, holder: str) -> None:
    assert send(caller, "acquire", {"holder": holder, "ttlSeconds": 1}).ok()["holder"] == holder


@pytest.mark.parametrize("operation", WITH_TTL)
@pytest.mark.parametrize("holder", ["h" * 254, "é" * 127, "\U0001f6a2" * 64])
def test_a_holder_has_a_limit(caller: Caller, operation: str, holder: str) -> None:
    told = (400, "invalid_holder", "holder must be at most 253 bytes")
    assert refusal(caller, operation, holder=holder) == told


def test_a_release_takes_any_holder_that_fits(caller: Caller) -> None:
    assert send(caller, "release", {"holder": "h" * 3000, "fencingToken": 1}).status == 204


def test_holders_are_compared_byte_by_byte(lease: Lease) -> None:
    held = lease.acquire("caf\u00e9")
    for other in ("cafe\u0301", "caf\u00e9 ", "Caf\u00e9", "caf\u00e9\u200b"):
        told = lease.acquire(other)
        assert (told["acquired"], told["holder"]) == (False, "caf\u00e9")
    assert lease.acquire("caf\u00e9")["fencingToken"] == held["fencingToken"]


@pytest.mark.parametrize("operation", WITH_TTL)
@pytest.mark.parametrize("ttl", [None, 0, -1, -(2**31)])
def test_a_ttl_is_positive(caller: Caller, operation: str, ttl: int | None) -> None:
    told = (400, "invalid_ttl", "ttlSeconds must be positive")
    assert refusal(caller, operation, ttlSeconds=ttl) == told


@pytest.mark.parametrize("operation", WITH_TTL)
@pytest.mark.parametrize("ttl", [86401, 2**31 - 1])
def test_a_ttl_has_a_limit(caller: Caller, operation: str, ttl: int) -> None:
    status, code, text = refusal(caller, operation, ttlSeconds=ttl)
    assert (status, code) == (400, "ttl_too_large")
    assert text == "ttlSeconds must be at most 86400 on this server"


def test_a_ttl_may_be_a_day_or_a_second(lease: Lease) -> None:
    assert lease.acquire("h", 86_400)["remainingSeconds"] == 86_400
    assert lease.renew("h", 1, 1)["acquired"] is True


@pytest.mark.parametrize("operation", WITH_TOKEN)
@pytest.mark.parametrize("token", [None, 0])
def test_a_token_is_required(caller: Caller, operation: str, token: int | None) -> None:
    told = (400, "invalid_token", "fencingToken must be non-zero")
    assert refusal(caller, operation, fencingToken=token) == told


@pytest.mark.parametrize("operation", [*WITH_TOKEN, "release"])
@pytest.mark.parametrize("token", [-1, -(2**31)])
def test_a_token_is_not_negative(caller: Caller, operation: str, token: int) -> None:
    told = (400, "invalid_token", "fencingToken must not be negative")
    assert refusal(caller, operation, fencingToken=token) == told


def test_a_release_may_leave_the_token_out(caller: Caller) -> None:
    for fields in ({}, {"fencingToken": 0}, {"fencingToken": None}):
        assert send(caller, "release", {"holder": "h", **fields}).status == 204


@pytest.mark.parametrize("token", [1, 2**31 - 1])
def test_a_token_goes_up_to_int32(caller: Caller, token: int) -> None:
    assert send(caller, "renew", {**GOOD["renew"], "fencingToken": token}).ok()["acquired"] is False
    assert send(caller, "verify", {"fencingToken": token}).ok() == {"current": False, "fencingToken": 0}


NOT_INT32 = [
    b"2147483648",
    b"-2147483649",
    b"9223372036854775808",
    b"9" * 3900,
    b"30.0",
    b"30.5",
    b"3e1",
    b"1e400",
    b'"30"',
    b'"1_000"',
    '"١٢"'.encode(),
    '"²"'.encode(),
    b"true",
    b"false",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"[]",
    b"{}",
    b"030",
    b"+30",
    b"0x1e",
    b"3_0",
]


@pytest.mark.parametrize("number", NOT_INT32)
@pytest.mark.parametrize(
    ("operation", "field"),
    [
        ("acquire", "ttlSeconds"),
        ("acquire", "maxHolders"),
        ("acquire", "lockDelaySeconds"),
        ("renew", "ttlSeconds"),
        ("renew", "fencingToken"),
        ("release", "fencingToken"),
        ("verify", "fencingToken"),
        ("force-release", "fencingToken"),
    ],
)
def test_a_number_is_an_int32(caller: Caller, operation: str, field: str, number: bytes) -> None:
    whole = json.dumps({**GOOD[operation], field: "?"}).encode()
    reply = send(caller, operation, whole.replace(b'"?"', number))
    assert (reply.status, reply.code) == (400, "invalid_body")
    assert reply.error.startswith(DECODER)


@pytest.mark.parametrize("operation", WITH_HOLDER)
@pytest.mark.parametrize("holder", [1, True, [], {}, 1.5])
def test_a_holder_is_a_string(caller: Caller, operation: str, holder: object) -> None:
    status, code, text = refusal(caller, operation, holder=holder)
    assert (status, code) == (400, "invalid_body")
    assert text.startswith(DECODER)


@pytest.mark.parametrize("operation", GOOD)
@pytest.mark.parametrize("key", ["extra", "Holder", "HOLDER", "fencingtoken", "ttl_seconds", "reAson", ""])
def test_a_key_that_is_not_known_is_refused(caller: Caller, operation: str, key: str) -> None:
    status, code, text = refusal(caller, operation, **{key: 1})
    assert (status, code) == (400, "invalid_body")
    assert text.startswith(DECODER)
    assert f"`{key}`" in text


def test_the_last_of_two_equal_keys_counts(caller: Caller) -> None:
    body = b'{"holder":"first","ttlSeconds":9,"holder":"last","ttlSeconds":1}'
    told = send(caller, "acquire", body).ok()
    assert (told["holder"], told["remainingSeconds"]) == ("last", 1.0)
    reply = send(caller, "acquire", b'{"holder":"h","ttlSeconds":9,"holder":null}')
    assert reply.error == "holder is required"


def test_null_is_the_same_as_nothing(lease: Lease) -> None:
    told = lease.acquire("h", semantics=None, maxHolders=None, lockDelaySeconds=None)
    assert told["acquired"] is True
    assert "holders" not in told


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"semantics": "exactly-once"}, "exactly-once"),
        ({"semantics": ""}, "''"),
        ({"semantics": 1}, "semantics"),
        ({"maxHolders": 2}, "maxHolders goes with semantics at-least-once"),
        ({"maxHolders": 2, "semantics": "at-most-once"}, "maxHolders goes with semantics at-least-once"),
        ({"maxHolders": 0, "semantics": "at-least-once"}, "maxHolders must be positive"),
        ({"maxHolders": -1, "semantics": "at-least-once"}, "maxHolders must be positive"),
        ({"lockDelaySeconds": -1}, "lockDelaySeconds must be from 0 to 600"),
        ({"lockDelaySeconds": 601}, "lockDelaySeconds must be from 0 to 600"),
    ],
)
def test_the_terms_of_an_acquire(caller: Caller, fields: dict[str, object], says: str) -> None:
    status, code, text = refusal(caller, "acquire", **fields)
    assert (status, code) == (400, "invalid_body")
    assert says in text


@pytest.mark.parametrize("reason", [None, "", "  ", "x" * 1025, "é" * 513])
def test_a_force_release_says_why(caller: Caller, reason: str | None) -> None:
    status, code, text = refusal(caller, "force-release", reason=reason)
    assert (status, code, text) == (400, "invalid_body", "reason is required, in at most 1024 bytes")


@pytest.mark.parametrize("operation", GOOD)
@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"[]", b'"x"', b"1", b"{,}", b"{'holder':'h'}", b"holder=h"]
)
def test_a_body_is_a_json_object(caller: Caller, operation: str, body: bytes) -> None:
    reply = send(caller, operation, body)
    assert (reply.status, reply.code) == (400, "invalid_body")
    assert reply.error.startswith(DECODER)


@pytest.mark.parametrize("operation", GOOD)
@pytest.mark.parametrize("rest", [b"{}", b" {}", b"x", b"\x00", b"]", b",", b"\n1"])
def test_a_body_is_one_json_object(caller: Caller, operation: str, rest: bytes) -> None:
    reply = send(caller, operation, json.dumps(GOOD[operation]).encode() + rest)
    assert (reply.status, reply.code) == (400, "invalid_body")
    assert reply.error == "request body must contain one JSON object"


def test_the_type_of_a_body_is_not_asked_for(caller: Caller) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "?"):
        body = json.dumps(GOOD["acquire"]).encode()
        reply = caller.call("POST", f"{new_path()}/acquire", body, {"Content-Type": content_type})
        assert reply.ok()["acquired"] is True
