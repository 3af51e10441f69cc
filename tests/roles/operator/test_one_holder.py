"""Nothing goes wrong: one of two clusters runs the workload, and both say which."""

import pytest

from berth.kube.objects import EVENTS, Object
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import DEPLOYMENTS, NAMESPACES
from tests.kube.server.rest import KubeServer
from tests.roles.operator.objects import TTL_SECONDS, berth_lease, workload
from tests.roles.operator.stage import Place, Stage


async def test_one_cluster_runs_it_and_goes_on_doing_so(stage: Stage) -> None:
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    before = stage.pods(holder)
    await stage.stays(lambda: stage.pods(holder) == before, seconds=1.5 * TTL_SECONDS)
    assert await stage.token() == 1


async def test_both_say_who_holds_it(stage: Stage) -> None:
    await stage.start()
    await stage.deploy()
    holder = await stage.settled()
    standby = stage.other(holder)
    await stage.until(lambda: standby.status("web").get("currentHolder"))
    held = holder.status("web")
    assert held["currentHolder"] == holder.name == await stage.holder()
    assert held["fencingToken"] == await stage.token()
    assert holder.condition("web", "Acquired") == ("True", "Held")
    assert standby.status("web")["currentHolder"] == holder.name
    assert not standby.status("web").get("fencingToken")
    assert standby.condition("web", "Acquired") == ("False", "HeldByOther")


async def test_what_is_there_before_the_operators_is_found_by_them(stage: Stage) -> None:
    await stage.deploy()
    await stage.start()
    await stage.settled()


async def test_a_cluster_alone_runs_it(stage: Stage) -> None:
    await stage.west.start()
    await stage.deploy()
    assert await stage.settled() is stage.west
    assert await stage.east.replicas(DEPLOYMENTS, "web") == 0


async def test_leases_stand_alone(stage: Stage) -> None:
    """One that a cluster cannot have keeps it from no other."""
    await stage.east.start()
    await stage.deploy("first")
    await stage.settled("first")
    await stage.west.start()
    await stage.west.make(DEPLOYMENTS, workload(DEPLOYMENTS, "second"))
    await stage.west.make(BERTH_LEASES, berth_lease("second"))
    await stage.until(lambda: stage.runs(stage.west, "second"))
    assert stage.running("first") == {"east"}


async def test_two_clusters_of_one_name_do_not_pass_for_one(stage: Stage) -> None:
    """As when one was made from a copy of the other's configuration."""
    await stage.east.start()
    await stage.deploy()
    assert await stage.settled() is stage.east
    await stage.west.start("--cluster-id=east", f"--berth-api-key-file={stage.key_file('east')}")
    await stage.until(lambda: stage.west.status("web").get("leaseState") == "waiting")
    await stage.stays(lambda: stage.runs(stage.east), seconds=1.5 * TTL_SECONDS)
    await stage.east.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.runs(stage.west))


async def test_it_is_written_down_before_it_is_acted_upon(stage: Stage, places: tuple[Place, Place]) -> None:
    if not isinstance(places[0], KubeServer):
        pytest.skip("the order of writes is read off the test server's history")
    await stage.east.start()
    await stage.deploy()
    await stage.settled()
    history = [
        (event.version, event.address.plural, event.after or {}) for event in places[0].storage.history
    ]
    active = [version for version, plural, obj in history if plural == "berthleases" and _is_active(obj)]
    started = [
        version for version, plural, obj in history if plural == "deployments" and obj["spec"]["replicas"]
    ]
    assert active[0] < started[0]


def _is_active(obj: Object) -> bool:
    status = obj.get("status", {})
    return status.get("fencingToken") == 1 and status.get("workload", {}).get("phase") == "Active"


async def test_each_turn_is_told_by_an_event(stage: Stage) -> None:
    await stage.east.start()
    await stage.deploy()
    await stage.settled()

    async def told() -> bool:
        page = await stage.east.client.list_all(EVENTS, stage.namespace)
        about = [event["involvedObject"] for event in page.items]
        return any((obj.get("kind"), obj.get("name")) == ("BerthLease", "web") for obj in about)

    await stage.until_asked(told)


async def test_other_namespaces_are_left_alone(stage: Stage) -> None:
    await stage.east.start()
    elsewhere = f"{stage.namespace}-elsewhere"
    await stage.east.client.create(NAMESPACES, {"metadata": {"name": elsewhere}})
    await stage.east.make(BERTH_LEASES, berth_lease("web", None), namespace=elsewhere)
    await stage.deploy()
    await stage.settled()
    left = await stage.east.client.get(BERTH_LEASES, "web", elsewhere)
    assert "status" not in left
    assert "finalizers" not in left["metadata"]
