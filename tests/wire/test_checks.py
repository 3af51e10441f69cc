"""Checks: whatever comes in, out comes a request or a failure that is the client's."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berth.core.names import Key, speaks_for
from berth.core.requests import Acquire, ForceRelease, Release, Renew
from berth.wire import checks
from berth.wire.checks import BodyDecoder, TtlBounds
from berth.wire.problems import Failure
from berth.wire.shapes import AcquireBody, ForceReleaseBody, ReleaseBody, RenewBody, VerifyBody

BOUNDS = TtlBounds(1, 86_400)

Check = Callable[[Any], object]
CHECKS: dict[type, Check] = {
    AcquireBody: lambda body: checks.acquire_request(body, BOUNDS),
    RenewBody: lambda body: checks.renew_request(body, BOUNDS),
    ReleaseBody: checks.release_request,
    VerifyBody: checks.verify_question,
    ForceReleaseBody: checks.force_release_request,
}
ANY_BODY = pytest.mark.parametrize("body_type", CHECKS, ids=lambda body_type: body_type.__name__)

EXAMPLES = settings(derandomize=True, database=None, deadline=None)
FIELDS = [
    "holder",
    "ttlSeconds",
    "fencingToken",
    "semantics",
    "maxHolders",
    "lockDelaySeconds",
    "reason",
    "x",
]
# The characters that rules and encodings turn on.
TEXT = st.text('aZ09-._/% "\\\n\x00\x7f\x85\xe9\u0661\u2028\ud800\U0001f6a2', max_size=300)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-2, 90_000)
    | st.floats()
    | TEXT
    | st.sampled_from(["at-most-once", "at-least-once", "h", "\ud800", "h\n"])
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.just("x"), SCALARS)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6).map(
    lambda body: json.dumps(body).encode()
)


def tried(check: Callable[..., object], *args: object) -> object:
    """What the check gives, or the failure that it raises; any other exception is the test's to see."""
    try:
        return check(*args)
    except Failure as failure:
        return failure


def checked(body_type: type, raw: bytes) -> object:
    """The request, or the code of a failure that is the client's."""
    found = tried(lambda: CHECKS[body_type](BodyDecoder(body_type)(raw)))
    if not isinstance(found, Failure):
        return found
    assert 400 <= found.problem.status < 500
    assert 0 < len(found.text.encode()) < 300
    return found.code


@ANY_BODY
@EXAMPLES
@given(raw=st.binary(max_size=200))
def test_any_bytes(body_type: type, raw: bytes) -> None:
    checked(body_type, raw)


@ANY_BODY
@EXAMPLES
@given(raw=BODIES)
def test_any_fields(body_type: type, raw: bytes) -> None:
    _assert_sound(checked(body_type, raw))


def _assert_sound(request: object) -> None:
    """What the checks let through, the core may rely on."""
    match request:
        case Acquire():
            assert request.ttl_us in range(1_000_000, 86_400_000_001)
            assert request.lock_delay_us in range(600_000_001)
            assert request.max_holders is None or request.max_holders > 0
            assert request.max_holders is None or request.semantics == "at-least-once"
        case Renew():
            assert request.ttl_us in range(1_000_000, 86_400_000_001)
            assert request.token > 0
        case Release():
            assert request.token >= 0
        case (ForceRelease(token=token), str()) | (int(token), _):
            assert token > 0
        case _:
            assert isinstance(request, str)
    if isinstance(request, Acquire | Renew | Release):
        assert request.holder.encode()
        assert request.holder.isprintable() or not any(ord(character) < 32 for character in request.holder)


@ANY_BODY
def test_nesting_is_a_failure_at_any_depth(body_type: type) -> None:
    for depth in (10, 1_000, 100_000):
        assert checked(body_type, b'{"holder":' + b"[" * depth) == "invalid_body"
        assert checked(body_type, b"[" * depth + b"]" * depth) == "invalid_body"


@ANY_BODY
def test_null_is_the_empty_object(body_type: type) -> None:
    decode = BodyDecoder(body_type)
    assert decode(b"null") == decode(b"{}") == body_type()


def test_a_holder_comes_before_a_token_and_a_token_before_a_ttl() -> None:
    assert checked(RenewBody, b"{}") == "invalid_holder"
    assert checked(RenewBody, b'{"holder":"h"}') == "invalid_token"
    assert checked(RenewBody, b'{"holder":"h","fencingToken":1}') == "invalid_ttl"
    assert checked(RenewBody, b'{"holder":"h","fencingToken":1,"ttlSeconds":1}') == Renew("h", 1, 1_000_000)


@pytest.mark.parametrize(
    ("ttl", "told"),
    [(0, "invalid_ttl"), (4, "ttl_too_small"), (5, 5), (10, 10), (11, "ttl_too_large")],
)
def test_bounds_belong_to_the_ttls_that_are_granted(ttl: int, told: object) -> None:
    found = tried(checks.acquire_request, AcquireBody("h", ttl), TtlBounds(5, 10))
    if isinstance(found, Failure):
        assert found.code == told
    else:
        assert found == Acquire("h", ttl * 1_000_000)
        assert ttl == told


def test_a_bound_is_told_as_it_was_given() -> None:
    with pytest.raises(Failure, match=r"^ttlSeconds must be at least 1\.5 on this server$"):
        checks.acquire_request(AcquireBody("h", 1), TtlBounds(1.5, 10))
    with pytest.raises(Failure, match=r"^ttlSeconds must be at most 2147483646 on this server$"):
        checks.acquire_request(AcquireBody("h", 2**31 - 1), TtlBounds(1, 2**31 - 2))


@EXAMPLES
@given(TEXT, TEXT)
def test_any_key(namespace: str, name: str) -> None:
    found = tried(checks.checked_key, namespace, name)
    if isinstance(found, Failure):
        assert found.code in {"invalid_namespace", "invalid_name", "invalid_key"}
        assert found.text.isascii()
        assert len(found.text) < 1_500
    else:
        assert str(found).isascii()
        assert str(found) == str(found).lower()


@pytest.mark.parametrize(
    "name", ["x\n", "x\r", "\nx", "x\x00", "\u00b2", "\u0661", "\u2177", "\ufb00", "\u212a"]
)
def test_a_name_is_ascii_to_its_end(name: str) -> None:
    for namespace_or_name in ((name, "x"), ("n", name)):
        with pytest.raises(Failure):
            checks.checked_key(*namespace_or_name)


def test_a_name_says_which_half_is_wrong() -> None:
    for namespace, name, code in (
        ("N", "X", "invalid_namespace"),
        ("n", "X", "invalid_name"),
        ("n" * 63, "x" * 190, "invalid_key"),
    ):
        with pytest.raises(Failure) as failure:
            checks.checked_key(namespace, name)
        assert failure.value.code == code
    assert checks.checked_key("n" * 63, "x" * 189) == Key("n" * 63, "x" * 189)


@EXAMPLES
@given(TEXT.filter(bool), TEXT)
def test_a_tenant_speaks_for_itself_and_below(tenant: str, below: str) -> None:
    allowed = "/" not in tenant
    assert speaks_for(tenant, tenant) is allowed
    assert speaks_for(tenant, f"{tenant}/{below}") is allowed
    assert speaks_for(tenant, f"{tenant}{below}") is (allowed and (not below or below.startswith("/")))
