"""What a kube-apiserver does with targets: the same on the test API server and on a real one."""

import pytest

from berth.kube.discovery import Discovered, discover
from berth.kube.faults import Conflict, Invalid, NotFound, Unavailable
from berth.kube.objects import Object, Resource, labels_of, mapping, metadata, uid_of, version_of
from tests.kube.server.kinds import CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, JOBS, REPLICA_SETS, STATEFUL_SETS
from tests.kube.workloads.stage import RINGS, Stage, workload

REPLICATED: tuple[Resource, ...] = (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS)
Replicated = pytest.mark.parametrize("kind", REPLICATED, ids=lambda kind: kind.kind)
ANOTHER = "11111111-2222-3333-4444-555555555555"


async def scale(stage: Stage, kind: Resource, guard: Object, replicas: int = 0) -> Object:
    patch = {"metadata": guard, "spec": {"replicas": replicas}}
    return await stage.patch(kind, "web", patch, "scale")


@pytest.mark.parametrize(
    ("resource", "has_scale"),
    [(DEPLOYMENTS, True), (STATEFUL_SETS, True), (RINGS, True), (JOBS, False), (CONFIG_MAPS, False)],
    ids=lambda value: value.kind if isinstance(value, Resource) else "",
)
async def test_a_kind_is_discovered(stage: Stage, resource: Resource, has_scale: bool) -> None:
    found = await discover(stage.client, resource.api_version, resource.kind)
    assert found == Discovered(resource, has_scale)


async def test_an_unknown_kind_or_group_is_not_discovered(stage: Stage) -> None:
    assert await discover(stage.client, "apps/v1", "Scale") is None
    assert await discover(stage.client, "apps/v7", "Deployment") is None
    assert await discover(stage.client, "nothing.example.org/v1", "Deployment") is None
    assert await discover(stage.client, "v7", "Pod") is None


@Replicated
async def test_a_scale_is_of_one_uid_and_one_version(stage: Stage, kind: Resource) -> None:
    made = await stage.make(kind, workload(kind, replicas=1))
    with pytest.raises(Conflict):
        await scale(stage, kind, {"uid": ANOTHER})
    with pytest.raises(Conflict):
        await scale(stage, kind, {"uid": uid_of(made), "resourceVersion": "1"})
    scaled = await scale(stage, kind, {"uid": uid_of(made)})
    assert scaled["spec"] == {}
    assert scaled["status"]["selector"] == "app=web"
    assert uid_of(scaled) == uid_of(made)
    assert int(version_of(scaled)) > int(version_of(made))


async def test_a_custom_resources_scale_is_of_one_version_and_any_uid(stage: Stage) -> None:
    made = await stage.make(RINGS, workload(RINGS, replicas=1))
    with pytest.raises(Conflict):
        await scale(stage, RINGS, {"resourceVersion": "1"})
    scaled = await scale(stage, RINGS, {"uid": ANOTHER, "resourceVersion": version_of(made)}, replicas=2)
    assert scaled["spec"] == {"replicas": 2}
    assert "selector" not in scaled["status"]
    assert (await stage.client.get(RINGS, "web", stage.namespace))["spec"] == {"size": 2}


async def test_a_custom_resource_without_a_number_has_no_scale_to_read(stage: Stage) -> None:
    await stage.make(RINGS, {"metadata": {"name": "web"}, "spec": {}})
    with pytest.raises(Unavailable, match="does not exist"):
        await stage.client.get(RINGS, "web", stage.namespace, subresource="scale")


@pytest.mark.parametrize("kind", [CRON_JOBS, JOBS], ids=lambda kind: kind.kind)
async def test_a_suspension_is_of_one_uid_and_one_version(stage: Stage, kind: Resource) -> None:
    made = await stage.make(kind, workload(kind))
    for guard, fault in (({"uid": ANOTHER}, Invalid), ({"resourceVersion": "1"}, Conflict)):
        with pytest.raises(fault):
            await stage.patch(kind, "web", {"metadata": guard, "spec": {"suspend": False}})
    patch = {"metadata": {"uid": uid_of(made)}, "spec": {"suspend": False}}
    assert (await stage.patch(kind, "web", patch))["spec"]["suspend"] is False
    with pytest.raises(NotFound):
        await stage.client.get(kind, "web", stage.namespace, subresource="scale")


async def test_a_job_has_a_selector_and_its_pods_the_labels(stage: Stage) -> None:
    made = await stage.make(JOBS, workload(JOBS, runs=True))
    labels = mapping(made["spec"]["selector"]["matchLabels"])
    assert labels == {"batch.kubernetes.io/controller-uid": uid_of(made)}
    [pod] = await stage.pods(1)
    job_name = {"batch.kubernetes.io/job-name": "web", "job-name": "web"}
    assert {**labels, **job_name}.items() <= labels_of(pod).items()


async def test_what_is_orphaned_has_no_owner(stage: Stage) -> None:
    await stage.make(DEPLOYMENTS, workload(DEPLOYMENTS, replicas=1))
    await stage.pods(1)
    await stage.client.delete(DEPLOYMENTS, "web", stage.namespace, propagation="Orphan")
    left = await stage.until_left(stage.ref(), lambda left: bool(left.blocked))
    assert left.unsettled
    [replica_set] = await stage.all(REPLICA_SETS)
    assert not metadata(replica_set).get("ownerReferences")
