"""What cannot be done is refused by the cluster, or told in the status; and it can always be deleted."""

import trio

from berth.kube.faults import Invalid
from berth.kube.objects import Object
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import DEPLOYMENTS
from tests.roles.operator.objects import berth_lease, workload
from tests.roles.operator.stage import CONVERGENCE_SECONDS, Stage

SCALE = {"scale": {"replicas": 2}}
TOLD = {"InvalidSpec", "TargetUnseen", "TargetMissing"}


def target(api_version: str, kind: str) -> Object:
    return {"target": {"apiVersion": api_version, "kind": kind, "name": "odd"}}


INVALID: dict[str, Object] = {
    "heartbeat as long as the ttl": {"ttlSeconds": 5, "heartbeatIntervalSeconds": 5},
    "no time to live": {"ttlSeconds": 0},
    "a negative heartbeat": {"heartbeatIntervalSeconds": -1},
    "no name": {"leaseName": ""},
    "a name that no lease has": {"leaseName": "Not A Name"},
    "semantics unheard of": {"semantics": "at-most-twice"},
    "a kind unheard of": target("example.test/v1", "Teapot"),
    "a version unheard of": target("apps/v0", "Deployment"),
    "a kind that cannot be stopped": target("v1", "ConfigMap"),
    "no target, but actions": {"target": None},
    "no releaseAction": {"releaseAction": None},
    "a releaseAction that stops nothing": {"releaseAction": SCALE},
    "a CronJob to be scaled": target("batch/v1", "CronJob"),
    "a Deployment to be resumed": {"acquireAction": {"suspend": False}},
    "both at once": {"acquireAction": {"suspend": False, **SCALE}},
    "a spec of another type": {"ttlSeconds": "for ever"},
}
"""What is wrong, and how the spec of a good one is changed for it; None takes a field away."""


async def test_it_is_refused_or_told_and_can_be_deleted(stage: Stage) -> None:
    await stage.east.start()
    taken: list[str] = []
    titles = {"bare": "no spec"} | {f"odd-{number}": title for number, title in enumerate(INVALID)}
    for name, title in titles.items():
        obj = berth_lease(name)
        spec = {**obj["spec"], **INVALID.get(title, {})}
        obj["spec"] = {key: value for key, value in spec.items() if value is not None}
        if title == "no spec":
            del obj["spec"]
        await stage.east.make(DEPLOYMENTS, workload(DEPLOYMENTS, name))
        taken += await made(stage, obj)
    with trio.move_on_after(CONVERGENCE_SECONDS):
        await stage.until(lambda: all(stage.east.condition(name, "Acquired")[1] in TOLD for name in taken))
    told = {titles[name]: stage.east.condition(name, "Acquired") for name in taken}
    assert {title: said for title, said in told.items() if said[0] != "False" or said[1] not in TOLD} == {}
    assert not any(stage.pods(stage.east, name) for name in titles)
    # Others are none the worse for it.
    await stage.deploy("web")
    await stage.until(lambda: stage.runs(stage.east))
    for name in taken:
        await stage.east.delete(BERTH_LEASES, name)
    await stage.until(lambda: not any(stage.east.lease(name) for name in taken))
    assert stage.east.operator.process.poll() is None


async def made(stage: Stage, obj: Object) -> list[str]:
    """Its name, unless the cluster itself refuses it."""
    try:
        await stage.east.make(BERTH_LEASES, obj)
    except Invalid:
        return []
    return [obj["metadata"]["name"]]


async def test_a_held_lease_that_becomes_invalid_is_stopped_and_given_up(stage: Stage) -> None:
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    try:
        await holder.patch(BERTH_LEASES, "web", {"spec": {"heartbeatIntervalSeconds": 60}})
    except Invalid:
        return
    await stage.until(lambda: stage.runs(stage.other(holder)))
    assert holder.condition("web", "Acquired") == ("False", "InvalidSpec")


async def test_one_that_is_put_right_is_contended_for(stage: Stage) -> None:
    await stage.east.start()
    await stage.east.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web"))
    try:
        await stage.east.make(BERTH_LEASES, berth_lease("web", heartbeatIntervalSeconds=60))
    except Invalid:
        return
    await stage.until(lambda: stage.east.condition("web", "Acquired") == ("False", "InvalidSpec"))
    await stage.east.patch(BERTH_LEASES, "web", {"spec": {"heartbeatIntervalSeconds": 1}})
    await stage.until(lambda: stage.runs(stage.east))


async def test_of_two_that_name_one_target_the_first_to_begin_has_it(stage: Stage) -> None:
    """Else one would stop what the other has started, and so on."""
    await stage.east.start()
    await stage.deploy("web")
    await stage.until(lambda: stage.runs(stage.east))
    before = stage.pods(stage.east)
    target = berth_lease("web")["spec"]["target"]
    await stage.east.make(BERTH_LEASES, berth_lease("other", target=target))
    await stage.until(lambda: stage.east.condition("other", "Acquired") == ("False", "InvalidSpec"))
    await stage.stays(lambda: stage.pods(stage.east) == before, seconds=1)
    await stage.east.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.east.status("other").get("leaseState") == "held")
    await stage.until(lambda: stage.runs(stage.east) and not before & stage.pods(stage.east))
    await stage.east.delete(BERTH_LEASES, "other")
    await stage.until(lambda: not stage.running())


async def test_of_two_that_name_one_lease_the_older_has_it(stage: Stage) -> None:
    """To the lease server they are one holder: it would let both run."""
    await stage.east.start()
    await stage.deploy("web")
    await stage.until(lambda: stage.runs(stage.east))
    await stage.east.make(DEPLOYMENTS, workload(DEPLOYMENTS, "other"))
    await stage.east.make(BERTH_LEASES, berth_lease("other", leaseName="web"))
    await stage.until(lambda: stage.east.condition("other", "Acquired")[0] == "False")
    await stage.stays(lambda: not stage.pods(stage.east, "other"), seconds=1)
    await stage.east.delete(BERTH_LEASES, "other")
    await stage.until(lambda: stage.east.lease("other") is None)
    assert stage.runs(stage.east)
    assert await stage.token() == 1
