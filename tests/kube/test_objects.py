"""How objects are addressed, and what is read from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.kube.objects import (
    EVENTS,
    LEASES,
    TOKEN_REVIEWS,
    being_deleted,
    controller_of,
    metadata,
    micro_time,
    name_of,
    newer,
    parsed_time,
    reference_to,
    second_time,
    uid_of,
    version_of,
)


def test_paths() -> None:
    assert LEASES.path("team", "a") == "/apis/coordination.k8s.io/v1/namespaces/team/leases/a"
    assert LEASES.path() == "/apis/coordination.k8s.io/v1/leases"
    assert EVENTS.path("team") == "/api/v1/namespaces/team/events"
    assert LEASES.path("team", "a", "status").endswith("/leases/a/status")
    assert TOKEN_REVIEWS.path("ignored") == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert LEASES.path("../x", "a/b?c") == "/apis/coordination.k8s.io/v1/namespaces/..%2Fx/leases/a%2Fb%3Fc"
    assert LEASES.called("team", "a", "scale") == "leases/scale team/a"


@pytest.mark.parametrize(
    ("at_us", "written"),
    [(0, "1970-01-01T00:00:00.000000Z"), (1_700_000_000_000_000, "2023-11-14T22:13:20.000000Z")],
)
def test_a_micro_time_has_six_digits_always(at_us: int, written: str) -> None:
    assert micro_time(at_us) == written
    assert second_time(at_us) == written.replace(".000000", "")


@given(st.integers(min_value=0, max_value=250_000_000_000_000_000))
def test_what_is_written_is_read_again(at_us: int) -> None:
    assert len(micro_time(at_us)) == 27
    assert parsed_time(micro_time(at_us)) == at_us


@pytest.mark.parametrize(
    ("written", "at_us"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T02:00:01.5+02:00", 1_500_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456),
        ("1970-01-01T00:00:00", None),
        ("1970-13-01T00:00:00Z", None),
        ("nonsense", None),
        (None, None),
        (17, None),
    ],
)
def test_times_of_others(written: object, at_us: int | None) -> None:
    assert parsed_time(written) == at_us


@pytest.mark.parametrize("nothing", [{}, {"metadata": None}, {"metadata": "x"}, {"metadata": {"uid": 7}}])
def test_what_an_object_lacks_reads_as_empty(nothing: dict[str, object]) -> None:
    assert name_of(nothing) == ("", "")
    assert uid_of(nothing) == version_of(nothing) == ""
    assert not being_deleted(nothing)
    assert controller_of(nothing) is None


def test_the_owner_is_the_one_that_controls() -> None:
    owners = [{"uid": "1"}, {"uid": "2", "controller": True}]
    assert controller_of({"metadata": {"ownerReferences": owners}}) == owners[1]


def test_a_reference_names_one_object() -> None:
    found = {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}}
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": found, "spec": {}}
    wanted = {key: found[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    assert reference_to(obj) == {"apiVersion": "v1", "kind": "Pod", **wanted}
    assert metadata(obj) is found


def test_versions_are_compared_as_numbers_or_not_at_all() -> None:
    assert newer("10", "9") is True
    assert newer("9", "10") is False
    assert newer("9", "9") is False
    assert newer("9", "") is None
    assert newer("a", "9") is None
