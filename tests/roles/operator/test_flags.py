"""What the flags change, seen from outside: who is trusted, who asks, who leads, and where it looks."""

import trio

from berth.kube.objects import LEASES
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import DEPLOYMENTS, NAMESPACES
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import REPLICAS, berth_lease, workload
from tests.roles.operator.stage import ELECTED, Stage

SKIP_VERIFY = "--berth-insecure-skip-tls-verify"
STILL_SECONDS = 1.0


async def held(stage: Stage) -> None:
    await stage.deploy()
    assert await stage.settled() is stage.east


async def untrusted(stage: Stage) -> None:
    """The lease API is not who it has to be: nothing is acquired, and it says why."""
    await stage.deploy()
    await stage.until(lambda: stage.east.condition("web", "HeartbeatHealthy") == ("False", "AcquireFailed"))
    conditions = stage.east.status("web")["conditions"]
    (told,) = (each["message"] for each in conditions if each["type"] == "HeartbeatHealthy")
    assert "certificate" in told.lower()
    assert not stage.running()


def warned(cluster: Cluster, flag: str) -> bool:
    return any(
        line["level"] == "WARN" and line["msg"].startswith(f"{flag}:") for line in cluster.operator.log
    )


async def test_the_certificate_names_whom_it_is_told_to(stage: Stage) -> None:
    await stage.east.start("--berth-server-name=localhost")
    await held(stage)


async def test_a_certificate_that_names_another_is_not_trusted(stage: Stage) -> None:
    """Although it names the URL's host."""
    await stage.east.start("--berth-server-name=elsewhere.test")
    await untrusted(stage)


async def test_an_unknown_authority_is_not_trusted(stage: Stage) -> None:
    stage.east.forget_flag("--berth-ca-bundle-file")
    await stage.east.start()
    await untrusted(stage)
    assert not warned(stage.east, SKIP_VERIFY)


async def test_anybody_is_trusted_who_asks_for_it_and_is_warned(stage: Stage) -> None:
    stage.east.forget_flag("--berth-ca-bundle-file")
    await stage.east.start(SKIP_VERIFY)
    await held(stage)
    assert warned(stage.east, SKIP_VERIFY)


async def test_a_key_on_the_command_line_is_taken_and_warned_of(stage: Stage) -> None:
    key = stage.key_file("east").read_text()
    stage.east.forget_flag("--berth-api-key-file")
    await stage.east.start(f"--berth-api-key={key}")
    await held(stage)
    assert warned(stage.east, "--berth-api-key")
    assert key not in stage.east.operator.text


async def test_without_a_cluster_id_each_berthlease_names_its_holder(stage: Stage) -> None:
    stage.east.forget_flag("--cluster-id")
    await stage.east.start()
    await stage.deploy(holderIdentity="east/web")
    await stage.east.make(BERTH_LEASES, berth_lease("bare", None, holderIdentity="east"))
    await stage.settled()
    await stage.until(lambda: stage.east.status("bare").get("leaseState") == "held")
    assert await stage.holder() == "east/web" == stage.east.status("web")["currentHolder"]
    assert await stage.holder("bare") == "east" == stage.east.status("bare")["currentHolder"]


async def test_each_election_has_a_leader(stage: Stage) -> None:
    ids = ("first", "second")
    for name in ids:
        operator = await stage.east.start(*ELECTED, f"--leader-election-id={name}")
        await trio.to_thread.run_sync(operator.wait_for, "leading")
    for name in ids:
        assert (await stage.east.get(LEASES, name))["spec"]["holderIdentity"]


async def new_team(stage: Stage, name: str) -> str:
    """A namespace with a workload and its BerthLease."""
    namespace = f"{stage.namespace}-{name}"
    await stage.east.client.create(NAMESPACES, {"metadata": {"name": namespace}})
    await stage.east.make(DEPLOYMENTS, workload(DEPLOYMENTS, "web"), namespace=namespace)
    await stage.east.make(BERTH_LEASES, berth_lease("web"), namespace=namespace)
    return namespace


async def started_in(stage: Stage, namespace: str) -> bool:
    web = await stage.east.client.get(DEPLOYMENTS, "web", namespace)
    return web["spec"]["replicas"] == REPLICAS


async def comes_to_run(stage: Stage, namespace: str) -> None:
    async def so() -> bool:
        return await started_in(stage, namespace)

    await stage.until_asked(so)
    assert (await stage.caller.get_lease(namespace, "web")).holder == "east"


async def test_several_namespaces_are_watched_and_no_other(stage: Stage) -> None:
    also, elsewhere = await new_team(stage, "also"), await new_team(stage, "elsewhere")
    await stage.east.start(f"--watch-namespaces={also}")
    await held(stage)
    await comes_to_run(stage, also)
    await trio.sleep(STILL_SECONDS)
    left = await stage.east.client.get(BERTH_LEASES, "web", elsewhere)
    assert "status" not in left
    assert not await started_in(stage, elsewhere)


async def test_all_namespaces_are_watched_also_those_to_come(stage: Stage) -> None:
    stage.east.forget_flag("--watch-namespaces")
    before = await new_team(stage, "before")
    await stage.east.start()
    await held(stage)
    await comes_to_run(stage, before)
    await comes_to_run(stage, await new_team(stage, "after"))
