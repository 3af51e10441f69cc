"""Nothing is written when nothing changes: not for the holder's heartbeats, nor on the standby."""

import trio

from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.kinds import CRON_JOBS
from tests.roles.operator.objects import TTL_SECONDS, berth_lease
from tests.roles.operator.stage import Stage


async def test_a_steady_state_writes_nothing(stage: Stage) -> None:
    await stage.start()
    await stage.deploy()
    await stage.deploy("nightly", CRON_JOBS)
    for cluster in stage.clusters:
        await cluster.make(BERTH_LEASES, berth_lease("bare", None))
        await cluster.make(BERTH_LEASES, berth_lease("missing"))
    await stage.settled()
    states = {"held", "waiting"}
    for name in ("nightly", "bare"):
        await stage.until(
            lambda name=name: {cluster.status(name).get("leaseState") for cluster in stage.clusters} == states
        )
    await trio.sleep(1.5)  # Events may be told a moment later
    before = [await cluster.operators_writes() for cluster in stage.clusters]
    await trio.sleep(1.5 * TTL_SECONDS)
    assert [await cluster.operators_writes() for cluster in stage.clusters] == before


async def test_an_operator_that_goes_on_writes_nothing_either(stage: Stage) -> None:
    """What was said is still so; also what pods' grace comes to, and a ttl that counts later."""
    await stage.start()
    await stage.deploy(ttl_seconds=10, pods={"grace_seconds": 30})
    await stage.settled()
    for cluster in stage.clusters:
        await cluster.patch(BERTH_LEASES, "web", {"spec": {"ttlSeconds": 12}})
    holder = await stage.settled()
    await stage.until(lambda: holder.condition("web", "TTLPending")[0] == "True")
    assert holder.condition("web", "StopBudgetShort")[0] == "True"
    await trio.sleep(1.5)
    for cluster in stage.clusters:
        before = await cluster.operators_writes()
        await cluster.stop()
        await cluster.start()
        await trio.sleep(3)
        assert await cluster.operators_writes() == before
