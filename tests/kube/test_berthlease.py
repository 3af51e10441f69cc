"""The BerthLease resource on a real kube-apiserver: what it takes, fills in, shows, refuses, and lets go."""

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from copy import deepcopy
from typing import Any

import pytest
import trio

from berth.kube.objects import Object
from berth.wire.berthlease import FINALIZER, Unreadable, read_spec, read_status, read_target, status_patch
from berth.wire.berthlease_rules import problems
from berth.wire.crds import definition
from tests.kube.conftest import BERTH_LEASES, DEFINITIONS, SECONDS, Cluster
from tests.kube.test_behaviour import changed, delete, get, listed, patch
from tests.support.kube_apiserver import KubeApiserver
from tests.wire.berthleases import (
    CRON_JOB,
    DOWN,
    FOLLOWED_BY_THE_REFERENCE,
    HALT,
    INVALID,
    UNREADABLE,
    VALID,
    combinations,
    lease,
    scaled,
    without,
)
from tests.wire.test_berthlease import OF_THE_REFERENCE

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
KEPT = "cannot be changed, added or removed: make another BerthLease"


@pytest.fixture
def place(real: KubeApiserver) -> KubeApiserver:
    """The test API server knows no schemas."""
    return real


def berth_lease(spec: Any, name: str = "web") -> Object:
    meta = {"name": name, "finalizers": [FINALIZER]}
    return {
        "apiVersion": BERTH_LEASES.api_version,
        "kind": BERTH_LEASES.kind,
        "metadata": meta,
        **({} if spec is None else {"spec": spec}),
    }


async def tried(cluster: Cluster, spec: Any) -> tuple[int, Any]:
    """What would come of it; a field that the schema does not know is an error."""
    path = f"{BERTH_LEASES.path(cluster.namespace)}?dryRun=All&fieldValidation=Strict"
    return await cluster.ask("POST", path, berth_lease(spec))


def told(said: Any) -> list[str]:
    """The causes of a refusal, as our own rules would tell them."""
    causes: Iterable[Any] = said.get("details", {}).get("causes", ())
    return [f"{cause['field']}: {cause['message'].removeprefix('Invalid value: ')}" for cause in causes]


@pytest.mark.parametrize("spec", VALID.values(), ids=VALID)
async def test_what_can_be_followed_is_taken(cluster: Cluster, spec: Any) -> None:
    status, made = await tried(cluster, spec)
    assert status == 201, made
    assert made["spec"] == {"semantics": "at-most-once", "drain": True, **spec}
    assert read_spec(made) == read_spec({"spec": spec})


@pytest.mark.parametrize(("spec", "expected"), INVALID.values(), ids=INVALID)
async def test_what_cannot_is_refused_in_our_words(cluster: Cluster, spec: Any, expected: list[str]) -> None:
    status, said = await tried(cluster, spec)
    assert (status, said["reason"]) == (422, "Invalid")
    assert told(said) == expected


@pytest.mark.parametrize("spec", [spec for spec, _ in UNREADABLE.values()], ids=UNREADABLE)
async def test_what_is_no_spec_is_refused(cluster: Cluster, spec: Any) -> None:
    assert (await tried(cluster, spec))[0] == 422


async def test_an_object_without_a_spec_is_refused(cluster: Cluster) -> None:
    status, said = await tried(cluster, None)
    assert (status, told(said)) == (422, ["spec: is required"])


async def test_numbers_beyond_int32_are_refused(cluster: Cluster) -> None:
    for spec in (lease(ttlSeconds=2**31), scaled(acquireAction={"scale": {"replicas": 2**31}})):
        status, said = await tried(cluster, spec)
        assert status == 422
        # It says itself that the format is another.
        assert [each for each in told(said) if each.startswith("spec.")] == problems(
            read_spec({"spec": spec})
        )


async def test_both_judge_every_combination_alike(cluster: Cluster) -> None:
    taken = 0
    for spec in combinations():
        status, said = await tried(cluster, spec)
        ours = problems(read_spec({"spec": spec}))
        assert (status, told(said)) == (422 if ours else 201, ours), spec
        taken += status == 201
    assert taken == 5  # only held, scaled to some, to none and to what was there before, resumed


async def test_defaults_are_stored_and_change_nothing(cluster: Cluster) -> None:
    made = await cluster.make(BERTH_LEASES, berth_lease(lease()))
    _, stored = await patch(cluster, BERTH_LEASES, "web", {"spec": {"semantics": None, "drain": None}})
    assert stored["spec"] == {**lease(), "semantics": "at-most-once", "drain": True}
    assert stored["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"leaseName": "other"}, ["leaseName"]),
        ({"holderIdentity": "west"}, ["holderIdentity"]),
        ({"target": {"name": "other"}}, ["target"]),
        ({"target": CRON_JOB, "acquireAction": {"suspend": False, "scale": None}}, ["target"]),
        ({"target": None, "acquireAction": None}, ["target"]),
        ({"releaseAction": None}, ["releaseAction"]),
        ({"releaseAction": {"scale": None, **HALT}}, ["releaseAction"]),
        ({"ttlSeconds": 60}, []),
        ({"heartbeatIntervalSeconds": 5}, []),
        ({"semantics": "at-least-once"}, []),
        ({"acquireAction": {"scale": {"replicas": 5}}}, []),
        ({"acquireAction": {"scale": {"replicas": None}}}, []),
        ({"lockDelaySeconds": 30, "stopBudgetSeconds": 9, "drain": False}, []),
    ],
    ids=str,
)
async def test_what_may_change(cluster: Cluster, change: Any, kept: list[str]) -> None:
    await cluster.make(BERTH_LEASES, berth_lease(scaled()))
    status, said = await patch(cluster, BERTH_LEASES, "web", {"spec": change})
    assert status == (422 if kept else 200), said
    assert [each for each in told(said) if KEPT in each] == [f"spec.{field}: {KEPT}" for field in kept]


async def test_a_target_is_not_added_later(cluster: Cluster) -> None:
    await cluster.make(BERTH_LEASES, berth_lease(lease()))
    status, said = await patch(cluster, BERTH_LEASES, "web", {"spec": scaled()})
    assert (status, told(said)) == (422, [f"spec.target: {KEPT}", f"spec.releaseAction: {KEPT}"])


async def test_the_spec_is_not_taken_away(cluster: Cluster) -> None:
    await cluster.make(BERTH_LEASES, berth_lease(lease()))
    status, said = await patch(cluster, BERTH_LEASES, "web", {"spec": None})
    assert (status, told(said)) == (422, ["spec: is required"])


async def test_the_references_status_is_kept_until_ours_replaces_it(cluster: Cluster) -> None:
    made = await cluster.make(BERTH_LEASES, berth_lease(scaled()))
    body = {**made, "status": OF_THE_REFERENCE}
    path = BERTH_LEASES.path(cluster.namespace, "web", "status") + "?fieldValidation=Strict"
    status, stored = await cluster.ask("PUT", path, body)
    assert (status, stored["status"]) == (200, OF_THE_REFERENCE)
    found = read_status(stored)
    for ours in (found, type(found)(observed_generation=1, lease_state="waiting")):
        status, stored = await patch(cluster, BERTH_LEASES, "web", {"status": status_patch(ours)}, "status")
        assert (status, read_status(stored)) == (200, ours)
        assert stored["metadata"]["generation"] == 1
    assert stored["status"] == {"observedGeneration": 1, "leaseState": "waiting"}


async def test_a_table_shows_what_people_look_for(cluster: Cluster) -> None:
    await cluster.make(BERTH_LEASES, berth_lease(scaled()))
    await patch(cluster, BERTH_LEASES, "web", {"status": OF_THE_REFERENCE}, "status")
    url = cluster.url + BERTH_LEASES.path(cluster.namespace)
    reply = await cluster.client.request("GET", url, headers={"accept": TABLE}, timeout_seconds=SECONDS)
    table = json.loads(reply.body)
    columns = [(column["name"], column["priority"]) for column in table["columnDefinitions"]]
    (row,) = table["rows"]
    cells = {name: (cell, wide) for (name, wide), cell in zip(columns, row["cells"], strict=True)}
    assert cells.pop("Age")[1] == 0
    assert cells == {
        "Name": ("web", 0),
        "State": ("held", 0),
        "Holder": ("east", 0),
        "Token": (7, 0),
        "Target": ("web", 0),
        "Kind": ("Deployment", 1),
        "Reason": ("Held", 1),
    }


async def test_it_has_a_short_name(cluster: Cluster) -> None:
    _, found = await cluster.ask("GET", "/apis/berth.skaphos.io/v1alpha1")
    shorts = {each["name"]: each.get("shortNames") for each in found["resources"]}
    assert shorts == {"berthleases": ["bl"], "berthleases/status": None}


STORED: dict[str, Any] = {
    **{f"invalid: {name}": spec for name, (spec, _) in INVALID.items()},
    "without a spec": None,
    "without a lease": without(lease(), "leaseName"),
    "without anything": {},
    "semantics unheard of": lease(semantics="twice"),
    "a name too long": lease(leaseName="a" * 300),
    "a ttl beyond int32": lease(ttlSeconds=2**40),
    "a target without a kind": scaled(target=without(CRON_JOB, "kind")),
    "with what is not known": lease(weight=3),
    "nothing where something may be": lease(drain=None, stopBudgetSeconds=None, target=None),
}


@asynccontextmanager
async def lax(cluster: Cluster) -> AsyncGenerator[None]:
    """Anything is taken inside. What was stored then is there under our definition afterwards."""
    anything = deepcopy(definition())
    open_schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    anything["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = open_schema
    await redefine(cluster, anything, probed_status=201)
    try:
        yield
    finally:
        await redefine(cluster, definition(), probed_status=422)


async def redefine(cluster: Cluster, wanted: Object, *, probed_status: int) -> None:
    """Returns once the new schema counts."""
    name = wanted["metadata"]["name"]
    _, current = await cluster.ask("GET", DEFINITIONS.path("", name))
    version = current["metadata"]["resourceVersion"]
    status, said = await cluster.ask(
        "PUT", DEFINITIONS.path("", name), changed(wanted, resourceVersion=version)
    )
    assert status == 200, said
    with trio.fail_after(SECONDS):
        while (await tried(cluster, lease(ttlSeconds=0)))[0] != probed_status:  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_what_was_stored_before_the_rules_can_be_told_of_and_let_go(cluster: Cluster) -> None:
    named = {f"web-{number}": spec for number, spec in enumerate(STORED.values())}
    async with lax(cluster):
        for name, spec in named.items():
            await cluster.make(BERTH_LEASES, berth_lease(spec, name))
    for name in named:
        _, found = await get(cluster, BERTH_LEASES, name)
        read_target(found)
        told_of = {"status": {"leaseState": "waiting", "observedGeneration": 1}}
        status, said = await patch(cluster, BERTH_LEASES, name, told_of, "status")
        assert status == 200, said
        status, said = await patch(cluster, BERTH_LEASES, name, {"metadata": {"labels": {"a": "b"}}})
        assert (status, said["metadata"]["generation"]) == (200, 1), said
        await delete(cluster, BERTH_LEASES, name)
        status, said = await patch(cluster, BERTH_LEASES, name, {"metadata": {"finalizers": []}})
        assert status == 200, said
    assert (await listed(cluster, BERTH_LEASES))["items"] == []


async def test_what_was_stored_before_the_rules_must_be_valid_once_it_is_changed(cluster: Cluster) -> None:
    async with lax(cluster):
        await cluster.make(BERTH_LEASES, berth_lease(lease(ttlSeconds=0)))
    status, _ = await patch(cluster, BERTH_LEASES, "web", {"spec": {"semantics": "at-least-once"}})
    assert status == 422
    status, stored = await patch(cluster, BERTH_LEASES, "web", {"spec": {"ttlSeconds": 30}})
    assert status == 200
    assert problems(read_spec(stored)) == []


async def test_a_manifest_of_the_reference_that_is_stored_stays_as_it_is(cluster: Cluster) -> None:
    named = {f"web-{number}": spec for number, spec in enumerate(FOLLOWED_BY_THE_REFERENCE.values())}
    async with lax(cluster):
        for name, spec in named.items():
            await cluster.make(BERTH_LEASES, berth_lease(spec, name))
    for name, spec in named.items():
        _, found = await get(cluster, BERTH_LEASES, name)
        assert found["spec"] == {**spec, "drain": True}
        status, stored = await patch(cluster, BERTH_LEASES, name, {"spec": {"heartbeatIntervalSeconds": 1}})
        assert status == 200, stored
        assert stored["spec"].get("releaseAction") in (None, DOWN, HALT)


async def test_what_has_another_type_than_it_should_must_be_put_right_first(cluster: Cluster) -> None:
    """CEL cannot look at it, not even to see that it is unchanged. No definition ever let it pass."""
    async with lax(cluster):
        await cluster.make(BERTH_LEASES, berth_lease(lease(ttlSeconds="30")))
    assert (await patch(cluster, BERTH_LEASES, "web", {"metadata": {"finalizers": []}}))[0] == 422
    _, found = await get(cluster, BERTH_LEASES, "web")
    with pytest.raises(Unreadable):
        read_spec(found)
    right = {"metadata": {"finalizers": []}, "spec": {"ttlSeconds": 30}}
    assert (await patch(cluster, BERTH_LEASES, "web", right))[0] == 200
