"""What a kube-apiserver does: the same on the test API server and on a real one, asked as by curl."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from berth.kube.objects import ACCESS_REVIEWS, EVENTS, LEASES, TOKEN_REVIEWS, Object, Resource
from berth.runtime.http import Pieces
from tests.kube.conftest import BERTH_LEASES, SECONDS, Cluster
from tests.kube.server.kinds import CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, JOBS, NAMESPACES, PODS
from tests.wire import berthleases

MERGE = "application/merge-patch+json"
POD_SPEC = {"containers": [{"name": "main", "image": "none"}]}
APP = {"app": "web"}
TEMPLATE = {"metadata": {"labels": APP}, "spec": POD_SPEC}
JOB = {"template": {"spec": {**POD_SPEC, "restartPolicy": "Never"}}}


def lease(name: str = "a", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"holderIdentity": "x", "leaseDurationSeconds": 15, **spec}}


def config_map(name: str = "a", **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "data": {"key": "value"}}


def deployment(name: str = "web", **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": APP}, "template": TEMPLATE, **spec},
    }


def berth_lease(name: str = "a", **spec: Any) -> Object:
    return {
        "apiVersion": BERTH_LEASES.api_version,
        "kind": BERTH_LEASES.kind,
        "metadata": {"name": name},
        "spec": berthleases.lease(**spec),
    }


def changed(obj: Object, **metadata: Any) -> Object:
    return {**obj, "metadata": {**obj["metadata"], **metadata}}


def version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


async def replace(
    cluster: Cluster, resource: Resource, obj: Object, subresource: str = ""
) -> tuple[int, Any]:
    return await cluster.ask(
        "PUT", resource.path(cluster.namespace, obj["metadata"]["name"], subresource), obj
    )


async def patch(
    cluster: Cluster, resource: Resource, name: str, body: Object, subresource: str = ""
) -> tuple[int, Any]:
    path = resource.path(cluster.namespace, name, subresource)
    return await cluster.ask("PATCH", path, body, content_type=MERGE)


async def get(cluster: Cluster, resource: Resource, name: str, subresource: str = "") -> tuple[int, Any]:
    return await cluster.ask("GET", resource.path(cluster.namespace, name, subresource))


async def delete(
    cluster: Cluster, resource: Resource, name: str, options: Object | None = None
) -> tuple[int, Any]:
    return await cluster.ask("DELETE", resource.path(cluster.namespace, name), options)


async def listed(cluster: Cluster, resource: Resource, query: str = "") -> Any:
    status, found = await cluster.ask("GET", resource.path(cluster.namespace) + query)
    assert status == 200, found
    return found


def names(found: Any) -> list[str]:
    return [item["metadata"]["name"] for item in found["items"]]


async def test_a_new_object_has_what_the_server_gives(cluster: Cluster) -> None:
    made = await cluster.make(CONFIG_MAPS, config_map())
    assert made["kind"] == "ConfigMap"
    assert made["apiVersion"] == "v1"
    assert made["metadata"]["namespace"] == cluster.namespace
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert version(made) > 0
    assert "generation" not in made["metadata"]
    status, found = await get(cluster, CONFIG_MAPS, "a")
    assert (status, found) == (200, made)


async def test_annotations_have_so_much_room_and_no_more(cluster: Cluster) -> None:
    fits = lease()
    fits["metadata"]["annotations"] = {"a": "x" * (256 * 1024 - 1)}
    await cluster.make(LEASES, fits)
    fits["metadata"] = {"name": "b", "annotations": {"a": "x" * (256 * 1024)}}
    status, refused = await cluster.ask("POST", LEASES.path(cluster.namespace), fits)
    assert (status, refused["reason"]) == (422, "Invalid")
    assert "metadata.annotations: Too long" in refused["message"]


async def test_a_dry_run_is_refused_as_the_real_thing_and_stores_nothing(cluster: Cluster) -> None:
    target = LEASES.path(cluster.namespace) + "?dryRun=All"
    status, made = await cluster.ask("POST", target, lease())
    assert (status, made["metadata"]["name"]) == (201, "a")
    assert (await get(cluster, LEASES, "a"))[0] == 404
    await cluster.make(LEASES, lease())
    assert (await cluster.ask("POST", target, lease()))[0] == 409
    assert (await cluster.ask("POST", LEASES.path("nowhere") + "?dryRun=All", lease()))[0] == 404


async def test_a_name_is_made_up_on_request(cluster: Cluster) -> None:
    one, other = [await cluster.make(CONFIG_MAPS, {"metadata": {"generateName": "made-"}}) for _ in range(2)]
    assert one["metadata"]["name"].startswith("made-")
    assert one["metadata"]["name"] != other["metadata"]["name"]


async def test_what_is_there_is_not_created_again(cluster: Cluster) -> None:
    await cluster.make(LEASES, lease())
    status, said = await cluster.ask("POST", LEASES.path(cluster.namespace), lease())
    assert (status, said["reason"], said["code"]) == (409, "AlreadyExists", 409)
    assert said["kind"] == "Status"
    assert said["status"] == "Failure"


async def test_there_is_nothing_in_a_namespace_that_does_not_exist(cluster: Cluster) -> None:
    status, said = await cluster.ask("POST", LEASES.path("nonsense"), lease())
    assert (status, said["reason"]) == (404, "NotFound")
    status, found = await cluster.ask("GET", LEASES.path("nonsense"))
    assert (status, found["items"]) == (200, [])


async def test_what_is_not_there_is_not_found(cluster: Cluster) -> None:
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"data": {}})):
        path = CONFIG_MAPS.path(cluster.namespace, "none")
        status, said = await cluster.ask(method, path, body, content_type=MERGE)
        assert (status, said["reason"]) == (404, "NotFound"), method
    status, said = await replace(cluster, CONFIG_MAPS, config_map("none"))
    assert (status, said["reason"]) == (404, "NotFound")


async def test_a_replacement_of_an_old_version_is_a_conflict(cluster: Cluster) -> None:
    made = await cluster.make(LEASES, lease())
    status, second = await replace(cluster, LEASES, {**made, "spec": {"holderIdentity": "y"}})
    assert status == 200
    assert version(second) > version(made)
    status, said = await replace(cluster, LEASES, {**made, "spec": {"holderIdentity": "z"}})
    assert (status, said["reason"]) == (409, "Conflict")
    _, found = await get(cluster, LEASES, "a")
    assert found["spec"]["holderIdentity"] == "y"


async def test_a_lease_is_not_replaced_without_a_version(cluster: Cluster) -> None:
    await cluster.make(LEASES, lease())
    status, said = await replace(cluster, LEASES, lease(holderIdentity="y"))
    assert (status, said["reason"]) == (422, "Invalid")
    await cluster.make(BERTH_LEASES, berth_lease())
    status, said = await replace(cluster, BERTH_LEASES, berth_lease(ttlSeconds=5))
    assert (status, said["reason"]) == (422, "Invalid")


async def test_a_config_map_is_replaced_without_a_version(cluster: Cluster) -> None:
    await cluster.make(CONFIG_MAPS, config_map())
    status, stored = await replace(cluster, CONFIG_MAPS, {**config_map(), "data": {"key": "other"}})
    assert (status, stored["data"]) == (200, {"key": "other"})


async def test_a_lease_that_is_gone_is_made_anew_by_a_replacement(cluster: Cluster) -> None:
    """Whoever renews by PUT must say which object it means."""
    made = await cluster.make(LEASES, lease())
    await delete(cluster, LEASES, "a")
    status, said = await replace(cluster, LEASES, made)
    assert (status, said["reason"]) == (409, "Conflict"), "with its uid"
    without = {key: value for key, value in made["metadata"].items() if key != "uid"}
    status, again = await replace(cluster, LEASES, {**made, "metadata": without})
    assert status == 201, "with its version alone"
    assert again["metadata"]["uid"] != made["metadata"]["uid"]


async def test_an_object_of_the_same_name_is_another(cluster: Cluster) -> None:
    made = await cluster.make(LEASES, lease())
    await delete(cluster, LEASES, "a")
    again = await cluster.make(LEASES, lease())
    assert again["metadata"]["uid"] != made["metadata"]["uid"]
    meant = changed(made, resourceVersion=again["metadata"]["resourceVersion"])
    status, said = await replace(cluster, LEASES, meant)
    assert (status, said["reason"]) == (409, "Conflict")


async def test_names_must_agree(cluster: Cluster) -> None:
    made = await cluster.make(LEASES, lease())
    path = LEASES.path(cluster.namespace, "a")
    status, said = await cluster.ask("PUT", path, changed(made, name="b"))
    assert (status, said["reason"]) == (400, "BadRequest")
    status, said = await cluster.ask(
        "POST", LEASES.path(cluster.namespace), changed(lease("c"), namespace="other")
    )
    assert (status, said["reason"]) == (400, "BadRequest")


async def test_a_replacement_without_a_change_is_no_write(cluster: Cluster) -> None:
    made = await cluster.make(LEASES, lease())
    status, stored = await replace(cluster, LEASES, made)
    assert (status, version(stored)) == (200, version(made))


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({"leaseDurationSeconds": 0}, 422),
        ({"leaseTransitions": -1}, 422),
        ({"renewTime": "2026-01-01T00:00:00Z"}, 400),
        ({"renewTime": "2026-01-01T00:00:00.123Z"}, 400),
        ({"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 0}, 201),
        ({"leaseDurationSeconds": None, "renewTime": "2026-01-01T00:00:00.000001Z"}, 201),
    ],
)
async def test_what_a_lease_may_say(cluster: Cluster, spec: Object, status: int) -> None:
    answered, _ = await cluster.ask("POST", LEASES.path(cluster.namespace), lease(**spec))
    assert answered == status


async def test_transitions_of_a_lease_may_be_lowered(cluster: Cluster) -> None:
    made = await cluster.make(LEASES, lease(leaseTransitions=7))
    lowered = {**made, "spec": {**made["spec"], "leaseTransitions": 3}}
    status, stored = await replace(cluster, LEASES, lowered)
    assert (status, stored["spec"]["leaseTransitions"]) == (200, 3)


async def test_a_merge_patch_changes_what_it_names(cluster: Cluster) -> None:
    made = await cluster.make(CONFIG_MAPS, {**config_map(labels={"a": "1", "b": "2"}), "data": {"k": "v"}})
    body = {"metadata": {"labels": {"a": None, "c": "3"}}, "data": {"new": "one"}}
    status, stored = await patch(cluster, CONFIG_MAPS, "a", body)
    assert status == 200
    assert stored["metadata"]["labels"] == {"b": "2", "c": "3"}
    assert stored["data"] == {"k": "v", "new": "one"}
    old = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"new": "two"}}
    status, said = await patch(cluster, CONFIG_MAPS, "a", old)
    assert (status, said["reason"]) == (409, "Conflict")


async def test_what_changes_of_the_spec_are_counted(cluster: Cluster) -> None:
    for resource, obj, change in (
        (DEPLOYMENTS, deployment(), {"spec": {"paused": True}}),
        (BERTH_LEASES, berth_lease(), {"spec": {"ttlSeconds": 60}}),
        (JOBS, {"metadata": {"name": "a"}, "spec": JOB}, {"spec": {"suspend": True}}),
        (
            CRON_JOBS,
            {"metadata": {"name": "a"}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": JOB}}},
            {"spec": {"suspend": True}},
        ),
    ):
        made = await cluster.make(resource, obj)
        name = made["metadata"]["name"]
        assert made["metadata"]["generation"] == 1, resource.kind
        _, labelled = await patch(cluster, resource, name, {"metadata": {"labels": {"a": "b"}}})
        assert labelled["metadata"]["generation"] == 1, resource.kind
        _, stored = await patch(cluster, resource, name, change)
        assert stored["metadata"]["generation"] == 2, resource.kind


async def test_the_status_is_written_apart(cluster: Cluster) -> None:
    for resource, obj, told in (
        (DEPLOYMENTS, deployment(), {"observedGeneration": 1}),
        (BERTH_LEASES, berth_lease(), {"leaseState": "held"}),
    ):
        made = await cluster.make(resource, {**obj, "status": told})
        assert not told.keys() & (made.get("status") or {}).keys(), resource.kind
        name = made["metadata"]["name"]
        _, stored = await replace(cluster, resource, {**made, "status": told})
        assert not told.keys() & (stored.get("status") or {}).keys(), resource.kind
        other = {**stored, "status": told, "spec": {**stored["spec"], "paused": True, "ttlSeconds": 99}}
        status, stored = await replace(cluster, resource, other, "status")
        assert status == 200
        assert told.items() <= stored["status"].items(), resource.kind
        assert "paused" not in stored["spec"], resource.kind
        assert stored["metadata"]["generation"] == 1, resource.kind
        status, said = await replace(cluster, resource, {**made, "status": {}}, "status")
        assert (status, said["reason"]) == (409, "Conflict"), resource.kind
        more = {"status": {"conditions": []}, "spec": {"paused": True}}
        status, stored = await patch(cluster, resource, name, more, "status")
        assert status == 200
        assert told.items() <= stored["status"].items(), resource.kind
        assert "paused" not in stored["spec"], resource.kind


async def test_a_scale_is_read_and_written(cluster: Cluster) -> None:
    made = await cluster.make(DEPLOYMENTS, deployment())
    assert made["spec"]["replicas"] == 1
    status, scale = await get(cluster, DEPLOYMENTS, "web", "scale")
    assert (status, scale["kind"], scale["spec"]["replicas"]) == (200, "Scale", 1)
    assert scale["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert scale["metadata"]["uid"] == made["metadata"]["uid"]
    status, none = await replace(cluster, DEPLOYMENTS, {**scale, "spec": {"replicas": 0}}, "scale")
    assert (status, none["spec"].get("replicas", 0)) == (200, 0)
    assert version(none) > version(scale)
    status, said = await replace(cluster, DEPLOYMENTS, {**scale, "spec": {"replicas": 5}}, "scale")
    assert (status, said["reason"]) == (409, "Conflict")
    status, scale = await patch(cluster, DEPLOYMENTS, "web", {"spec": {"replicas": 3}}, "scale")
    assert (status, scale["spec"]["replicas"]) == (200, 3)
    _, found = await get(cluster, DEPLOYMENTS, "web")
    assert found["spec"]["replicas"] == 3
    assert found["metadata"]["generation"] == 3
    status, said = await patch(cluster, DEPLOYMENTS, "web", {"spec": {"replicas": -1}}, "scale")
    assert (status, said["reason"]) == (422, "Invalid")


async def test_a_deletion_may_have_preconditions(cluster: Cluster) -> None:
    made = await cluster.make(LEASES, lease())
    for condition in ({"uid": "another"}, {"resourceVersion": "1"}):
        status, said = await delete(cluster, LEASES, "a", {"preconditions": condition})
        assert (status, said["reason"]) == (409, "Conflict")
    condition = {key: made["metadata"][key] for key in ("uid", "resourceVersion")}
    status, said = await delete(cluster, LEASES, "a", {"preconditions": condition})
    assert (status, said["kind"], said["status"]) == (200, "Status", "Success")
    assert (await get(cluster, LEASES, "a"))[0] == 404


async def test_a_finalizer_keeps_an_object(cluster: Cluster) -> None:
    made = await cluster.make(BERTH_LEASES, changed(berth_lease(), finalizers=["berth.skaphos.io/stop"]))
    status, kept = await delete(cluster, BERTH_LEASES, "a")
    assert (status, kept["kind"]) == (200, "BerthLease")
    _, found = await get(cluster, BERTH_LEASES, "a")
    assert found["metadata"]["deletionTimestamp"]
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    assert version(found) > version(made)
    more = {"metadata": {"finalizers": ["berth.skaphos.io/stop", "berth.skaphos.io/more"]}}
    assert (await patch(cluster, BERTH_LEASES, "a", more))[0] == 422
    status, _ = await patch(cluster, BERTH_LEASES, "a", {"metadata": {"labels": {"still": "here"}}})
    assert status == 200
    status, _ = await patch(cluster, BERTH_LEASES, "a", {"metadata": {"finalizers": []}})
    assert status == 200
    assert (await get(cluster, BERTH_LEASES, "a"))[0] == 404


async def test_the_end_of_an_object_with_a_finalizer_as_watched(cluster: Cluster) -> None:
    made = await cluster.make(BERTH_LEASES, changed(berth_lease(), finalizers=["berth.skaphos.io/stop"]))
    async with watching(cluster, BERTH_LEASES, f"resourceVersion={version(made)}") as watch:
        await delete(cluster, BERTH_LEASES, "a")
        kind, ending = await watch.next()
        assert (kind, ending["metadata"]["generation"]) == ("MODIFIED", 2)
        assert ending["metadata"]["deletionTimestamp"]
        await patch(cluster, BERTH_LEASES, "a", {"metadata": {"finalizers": None}})
        kind, ended = await watch.next()
        assert kind == "DELETED"
        assert ended["metadata"]["finalizers"], "as it was before the last one went"
        assert version(ended) > version(ending)


async def test_a_new_object_has_no_version_yet(cluster: Cluster) -> None:
    path = CONFIG_MAPS.path(cluster.namespace)
    status, said = await cluster.ask("POST", path, config_map(resourceVersion="5"))
    assert (status, said["kind"]) == (500, "Status")


async def test_a_pod_on_a_node_takes_its_time(cluster: Cluster) -> None:
    await cluster.make(PODS, {"metadata": {"name": "placed"}, "spec": {**POD_SPEC, "nodeName": "n"}})
    await cluster.make(PODS, {"metadata": {"name": "unplaced"}, "spec": POD_SPEC})
    status, ending = await delete(cluster, PODS, "placed")
    assert (status, ending["kind"]) == (200, "Pod")
    assert ending["metadata"]["deletionTimestamp"]
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await get(cluster, PODS, "placed"))[0] == 200
    assert (await delete(cluster, PODS, "placed", {"gracePeriodSeconds": 0}))[0] == 200
    assert (await get(cluster, PODS, "placed"))[0] == 404
    assert (await delete(cluster, PODS, "unplaced"))[0] == 200
    assert (await get(cluster, PODS, "unplaced"))[0] == 404


async def test_a_list_in_pages_is_as_of_its_beginning(cluster: Cluster) -> None:
    for number in range(5):
        await cluster.make(CONFIG_MAPS, config_map(f"a-{number}"))
    page = await listed(cluster, CONFIG_MAPS, "?limit=2")
    assert page["kind"] == "ConfigMapList"
    assert names(page) == ["a-0", "a-1"]
    assert page["metadata"]["remainingItemCount"] == 3
    assert "kind" not in page["items"][0]
    await delete(cluster, CONFIG_MAPS, "a-3")
    await cluster.make(CONFIG_MAPS, config_map("a-9"))
    seen: list[str] = []
    first = page["metadata"]["resourceVersion"]
    while token := page["metadata"].get("continue"):
        page = await listed(cluster, CONFIG_MAPS, f"?limit=2&continue={token}")
        assert page["metadata"]["resourceVersion"] == first
        seen += names(page)
    assert seen == ["a-2", "a-3", "a-4"]
    status, said = await cluster.ask("GET", CONFIG_MAPS.path(cluster.namespace) + "?continue=nonsense")
    assert (status, said["reason"]) == (400, "BadRequest")


async def test_a_list_that_the_server_has_forgotten_does_not_go_on(cluster: Cluster) -> None:
    for number in range(3):
        await cluster.make(CONFIG_MAPS, config_map(f"a-{number}"))
    page = await listed(cluster, CONFIG_MAPS, "?limit=1")
    await cluster.make(CONFIG_MAPS, config_map("later"))
    await cluster.compact()
    token = page["metadata"]["continue"]
    query = f"?limit=1&continue={token}"
    status, said = await cluster.ask("GET", CONFIG_MAPS.path(cluster.namespace) + query)
    assert (status, said["reason"], said["code"]) == (410, "Expired", 410)


async def test_selectors_choose(cluster: Cluster) -> None:
    for name, labels in (("a", {"tier": "one"}), ("b", {"tier": "two"}), ("c", {})):
        await cluster.make(CONFIG_MAPS, config_map(name, labels=labels))
    for query, found in (
        ("labelSelector=tier%3Done", ["a"]),
        ("labelSelector=tier", ["a", "b"]),
        ("labelSelector=!tier", ["c"]),
        ("labelSelector=tier!%3Done", ["b", "c"]),
        ("labelSelector=tier%20in%20(one,two),tier!%3Dtwo", ["a"]),
        ("labelSelector=tier%20notin%20(one)", ["b", "c"]),
        ("fieldSelector=metadata.name%3Db", ["b"]),
        ("fieldSelector=metadata.name!%3Db", ["a", "c"]),
        (f"fieldSelector=metadata.namespace%3D{cluster.namespace}", ["a", "b", "c"]),
    ):
        assert names(await listed(cluster, CONFIG_MAPS, f"?{query}")) == found, query
    for query in ("fieldSelector=data.key%3Dvalue", "labelSelector=%3D%3D"):
        status, said = await cluster.ask("GET", f"{CONFIG_MAPS.path(cluster.namespace)}?{query}")
        assert (status, said["reason"]) == (400, "BadRequest"), query


async def test_a_list_of_all_namespaces(cluster: Cluster) -> None:
    await cluster.make(LEASES, lease("everywhere"))
    _, found = await cluster.ask("GET", LEASES.path() + "?fieldSelector=metadata.name%3Deverywhere")
    assert cluster.namespace in [item["metadata"]["namespace"] for item in found["items"]]
    _, found = await cluster.ask("GET", NAMESPACES.path("", cluster.namespace))
    assert found["status"]["phase"] == "Active"


async def test_tokens_are_reviewed(cluster: Cluster) -> None:
    token = await cluster.token()
    for written, known in ((token, True), ("nonsense", False)):
        review = {**typed(TOKEN_REVIEWS), "spec": {"token": written}}
        status, reviewed = await cluster.ask("POST", TOKEN_REVIEWS.path(), review)
        assert status == 201
        assert reviewed["status"].get("authenticated", False) is known
        if known:
            user = f"system:serviceaccount:{cluster.namespace}:robot"
            assert reviewed["status"]["user"]["username"] == user


async def test_access_to_a_path_is_reviewed(cluster: Cluster) -> None:
    await cluster.let_read("a-reader", "/metrics")

    async def allowed(verb: str, path: str, **who: Any) -> bool:
        spec = {**who, "nonResourceAttributes": {"path": path, "verb": verb}}
        status, reviewed = await cluster.ask(
            "POST", ACCESS_REVIEWS.path(), {**typed(ACCESS_REVIEWS), "spec": spec}
        )
        assert status == 201, reviewed
        return reviewed["status"]["allowed"]

    with trio.fail_after(SECONDS):
        while not await allowed("get", "/metrics", user="a-reader", groups=["system:authenticated"]):  # noqa: ASYNC110
            await trio.sleep(0.05)  # a role counts a moment after it is bound
    assert not await allowed("get", "/other", user="a-reader")
    assert not await allowed("post", "/metrics", user="a-reader")
    assert not await allowed("get", "/metrics", user="somebody")


@pytest.mark.parametrize("spec", [{"user": "a"}, {"nonResourceAttributes": {"path": "/a", "verb": "get"}}])
async def test_what_a_review_lacks_is_told(cluster: Cluster, spec: Object) -> None:
    status, said = await cluster.ask("POST", ACCESS_REVIEWS.path(), {**typed(ACCESS_REVIEWS), "spec": spec})
    assert (status, said["reason"]) == (422, "Invalid")


async def test_an_event_is_kept(cluster: Cluster) -> None:
    event = {
        "metadata": {"name": "a.1"},
        "involvedObject": {"kind": "Lease", "name": "a", "namespace": cluster.namespace},
        "reason": "Tested",
        "message": "told",
        "count": 1,
    }
    await cluster.make(EVENTS, event)
    status, stored = await patch(cluster, EVENTS, "a.1", {"count": 2})
    assert (status, stored["count"], stored["message"]) == (200, 2, "told")


def typed(resource: Resource) -> Object:
    return {"apiVersion": resource.api_version, "kind": resource.kind}


class Watched:
    """A watch's events, one by one."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._rest = b""

    async def next(self) -> tuple[str, Any]:
        with trio.fail_after(SECONDS):
            while b"\n" not in self._rest:
                self._rest += await anext(self._pieces)
        line, _, self._rest = self._rest.partition(b"\n")
        event = json.loads(line)
        return event["type"], event["object"]

    async def rest(self) -> list[tuple[str, Any]]:
        """What comes until the server ends it."""
        with trio.fail_after(2 * SECONDS):
            async for piece in self._pieces:
                self._rest += piece
        events = [json.loads(line) for line in self._rest.splitlines() if line.strip()]
        return [(event["type"], event["object"]) for event in events]


@asynccontextmanager
async def watching(cluster: Cluster, resource: Resource, query: str) -> AsyncIterator[Watched]:
    url = f"{cluster.url}{resource.path(cluster.namespace)}?watch=true&{query}"
    pieces = await cluster.client.pieces("GET", url, timeout_seconds=SECONDS, idle_seconds=SECONDS)
    assert isinstance(pieces, Pieces)
    try:
        yield Watched(pieces)
    finally:
        await pieces.aclose()


async def test_a_watch_tells_what_changes_since(cluster: Cluster) -> None:
    since = (await listed(cluster, LEASES))["metadata"]["resourceVersion"]
    made = await cluster.make(LEASES, lease())
    async with watching(cluster, LEASES, f"resourceVersion={since}") as watch:
        assert await watch.next() == ("ADDED", made)
        _, stored = await patch(cluster, LEASES, "a", {"spec": {"holderIdentity": "y"}})
        assert await watch.next() == ("MODIFIED", stored)
        await delete(cluster, LEASES, "a")
        kind, ended = await watch.next()
        assert (kind, ended["spec"]) == ("DELETED", stored["spec"])
        assert version(ended) > version(stored)
    async with watching(cluster, LEASES, f"resourceVersion={version(stored)}") as watch:
        assert (await watch.next())[0] == "DELETED"


async def test_a_watch_begins_before_anything_happens(cluster: Cluster) -> None:
    since = (await listed(cluster, LEASES))["metadata"]["resourceVersion"]
    async with watching(cluster, LEASES, f"resourceVersion={since}") as watch:
        await cluster.make(LEASES, lease())
        assert (await watch.next())[0] == "ADDED"


async def test_a_watch_from_anywhere_begins_with_what_is_there(cluster: Cluster) -> None:
    made = await cluster.make(LEASES, lease())
    async with watching(cluster, LEASES, "resourceVersion=0") as watch:
        assert await watch.next() == ("ADDED", made)


async def test_a_watch_with_a_selector_sees_objects_come_and_go(cluster: Cluster) -> None:
    since = (await listed(cluster, CONFIG_MAPS))["metadata"]["resourceVersion"]
    await cluster.make(CONFIG_MAPS, config_map())
    await cluster.make(CONFIG_MAPS, config_map("other"))
    async with watching(cluster, CONFIG_MAPS, f"resourceVersion={since}&labelSelector=mine%3Dyes") as watch:
        for labels, kind in (({"mine": "yes"}, "ADDED"), ({"mine": "yes", "a": "b"}, "MODIFIED")):
            await patch(cluster, CONFIG_MAPS, "a", {"metadata": {"labels": labels}})
            assert (await watch.next())[0] == kind
        _, stored = await patch(cluster, CONFIG_MAPS, "a", {"metadata": {"labels": {"mine": "no"}}})
        kind, left = await watch.next()
        assert (kind, left["metadata"]["labels"]["mine"]) == ("DELETED", "yes")
        assert version(left) == version(stored)


async def test_a_watch_ends_in_time_after_bookmarks(cluster: Cluster) -> None:
    """A real server tells most watches one before their end, not all."""
    since = (await listed(cluster, LEASES))["metadata"]["resourceVersion"]
    marks: list[Any] = []
    for lasting_seconds in (4, 9, 9):
        query = f"resourceVersion={since}&timeoutSeconds={lasting_seconds}&allowWatchBookmarks=true"
        async with watching(cluster, LEASES, query) as watch:
            events = await watch.rest()
        assert {kind for kind, _ in events} <= {"BOOKMARK"}
        marks += [mark for _, mark in events]
        if marks:
            break
    assert (marks[0]["kind"], marks[0]["apiVersion"]) == ("Lease", LEASES.api_version)
    assert version(marks[0]) >= int(since)


async def test_a_watch_from_the_future_is_told_nothing(cluster: Cluster) -> None:
    """As after the cluster was put back to an older state."""
    since = version(await cluster.make(LEASES, lease())) + 1_000
    query = f"resourceVersion={since}&timeoutSeconds=5&allowWatchBookmarks=true"
    async with watching(cluster, LEASES, query) as watch:
        await patch(cluster, LEASES, "a", {"spec": {"holderIdentity": "y"}})
        assert await watch.rest() == []


async def test_what_is_no_resource_is_not_found(cluster: Cluster) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/default/nonsense"
    assert (await cluster.reply("GET", path)).status == 404
