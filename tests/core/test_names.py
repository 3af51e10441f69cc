"""Names, holders and tenants: what is a name, what is refused, and in which words."""

import pytest

from berth.core.names import (
    Key,
    holder_problem,
    key_problem,
    name_problem,
    namespace_problem,
    shown,
    speaks_for,
)

LABELS = ["a", "0", "a-b", "a--b", "x" * 63]
NO_LABELS = ["", "-a", "a-", "A", "a_b", "a b", "a\n", "é", "a/b", "٣"]


@pytest.mark.parametrize("namespace", LABELS)
def test_a_label_is_a_namespace(namespace):
    assert namespace_problem(namespace) is None


@pytest.mark.parametrize("namespace", [*NO_LABELS, "a.b", "x" * 64])
def test_anything_else_is_not(namespace):
    problem = namespace_problem(namespace)
    assert problem is not None
    assert problem.startswith(f"invalid namespace {shown(namespace)}: must be an RFC 1123 DNS label")


@pytest.mark.parametrize("name", [*LABELS, "a.b", "a-1.b-2.c", "x" * 253])
def test_a_subdomain_is_a_name(name):
    assert name_problem(name) is None


@pytest.mark.parametrize("name", [*NO_LABELS, ".", ".a", "a.", "a..b", "a.-b", "a-.b", "x" * 254])
def test_anything_else_is_no_name(name):
    problem = name_problem(name)
    assert problem is not None
    assert problem.startswith(f"invalid name {shown(name)}: must be an RFC 1123 DNS subdomain")


def test_a_key_has_room_for_both_in_one_object_name():
    assert key_problem(Key("n" * 63, "x" * 189)) is None
    problem = key_problem(Key("n" * 63, "x" * 190))
    assert problem is not None
    assert problem.startswith(f"invalid key {'n' * 63}/x")
    assert problem.endswith("at most 253 characters, got 254")


@pytest.mark.parametrize("holder", ["a", "team/cluster-1", "é", "a b", "A", "x" * 253, "é" * 126])
def test_a_holder(holder):
    assert holder_problem(holder) is None


@pytest.mark.parametrize(
    ("holder", "problem"),
    [
        ("", "holder is required"),
        ("x" * 254, "holder must be at most 253 bytes"),
        ("é" * 127, "holder must be at most 253 bytes"),
        ("a\x00", "holder must not contain control characters"),
        ("a\n", "holder must not contain control characters"),
        ("a\x7f", "holder must not contain control characters"),
        ("a\x85", "holder must not contain control characters"),
        ("a\ud800", "holder must be valid Unicode (it contains a lone surrogate)"),
    ],
)
def test_no_holder(holder, problem):
    assert holder_problem(holder) == problem


def test_a_holder_from_before_the_limit_can_still_give_up():
    assert holder_problem("x" * 254, length_limited=False) is None
    assert holder_problem("", length_limited=False) == "holder is required"


@pytest.mark.parametrize(
    ("tenant", "holder", "speaks"),
    [
        ("a", "a", True),
        ("a", "a/b", True),
        ("a", "a/b/c", True),
        ("a", "ab", False),
        ("a", "A", False),
        ("a", "b/a", False),
        ("a/b", "a/b", False),
        ("", "", False),
        ("", "/a", False),
    ],
)
def test_a_tenant_speaks_for_itself_and_for_what_is_below(tenant, holder, speaks):
    assert speaks_for(tenant, holder) is speaks


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a", '"a"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a\n\x1b[31m", '"a\\n\\x1b[31m"'),
        ("\ud800", '"\\ud800"'),
        ("x" * 100, f'"{"x" * 100}"'),
        ("x" * 101, f'"{"x" * 100}…"'),
    ],
)
def test_a_text_is_shown_in_one_safe_line(text, quoted):
    assert shown(text) == quoted
