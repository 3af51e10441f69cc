"""What an operator tells of itself: metrics through the life of a lease, whether it is alive and ready."""

from functools import partial
from math import inf
from signal import SIGTERM
from typing import get_args

import pytest
import trio

from berth.core.reconcile import Cause
from berth.roles.operator.instruments import State
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.faults import Fault
from tests.kube.server.rest import KubeServer
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.objects import TTL_SECONDS, berth_lease
from tests.roles.operator.stage import ELECTED, Stage
from tests.support.operator import Operator

LEFT_SECONDS = TTL_SECONDS * 3 / 4
"""Of a renewal, less the stop budget."""


async def metric(cluster: Cluster, name: str, **labels: str) -> float:
    return await trio.to_thread.run_sync(partial(cluster.operator.metric, f"berth_operator_{name}", **labels))


async def probe(operator: Operator, path: str) -> int:
    return await trio.to_thread.run_sync(operator.probe, path)


async def states(cluster: Cluster) -> set[State]:
    """Those in which there are any BerthLeases; one in each."""
    counts = {state: await metric(cluster, "leases", state=state) for state in get_args(State)}
    assert max(counts.values()) <= 1
    return {state for state, count in counts.items() if count}


async def transitions(cluster: Cluster) -> dict[str, int]:
    """Those that have been."""
    causes = ("acquired", "stopped", *get_args(Cause))
    counts = {cause: await metric(cluster, "transitions_total", cause=cause) for cause in causes}
    return {cause: int(count) for cause, count in counts.items() if count}


async def come_to(stage: Stage, cluster: Cluster, *wanted: State) -> None:
    async def so() -> bool:
        return await states(cluster) == {*wanted}

    await stage.until_asked(so)


async def readiness(stage: Stage, operator: Operator, status: int) -> None:
    """It comes to that."""

    async def so() -> bool:
        return await probe(operator, "/readyz") == status

    await stage.until_asked(so)


async def test_metrics_tell_the_life_of_a_lease(stage: Stage) -> None:
    await stage.start()
    await stage.deploy(pods={"end_seconds": 1})
    holder = await stage.settled()
    other = stage.other(holder)
    await come_to(stage, holder, "held")
    await come_to(stage, other, "standby")
    assert await transitions(holder) == {"acquired": 1}
    assert await transitions(other) == {}
    assert 0 < await metric(holder, "deadline_seconds") <= LEFT_SECONDS
    assert await metric(other, "deadline_seconds") == inf
    assert await metric(holder, "reconcile_duration_seconds_count") >= 1
    assert await metric(holder, "stop_duration_seconds_count") == 0

    holder.lease_link.drop()
    await stage.until(lambda: stage.runs(other))
    await come_to(stage, holder, "standby")
    assert await transitions(holder) == {"acquired": 1, "deadline": 1, "stopped": 1}
    assert await metric(holder, "stop_duration_seconds_count") == 1
    assert 0 < await metric(holder, "stop_duration_seconds_sum") < 1
    assert await metric(holder, "deadline_seconds") == inf

    await come_to(stage, other, "held")
    await other.delete(BERTH_LEASES, "web")
    await come_to(stage, other, "stopping")
    await come_to(stage, other)
    assert await transitions(other) == {"acquired": 1, "deleted": 1, "stopped": 1}


@pytest.mark.parametrize("places", ["test server"], indirect=True)
async def test_what_is_invalid_is_counted_and_nobody_is_named(stage: Stage) -> None:
    """A real server refuses it."""
    await stage.east.start()
    await stage.east.make(BERTH_LEASES, berth_lease("held-one", None))
    await come_to(stage, stage.east, "held")
    await stage.east.make(BERTH_LEASES, berth_lease("invalid-one", None, heartbeatIntervalSeconds=60))
    await come_to(stage, stage.east, "held", "invalid")
    text = await trio.to_thread.run_sync(stage.east.operator.metrics)
    assert not [name for name in (stage.namespace, "held-one", "invalid-one", "east") if name in text]


async def test_it_is_ready_while_the_lease_api_answers(stage: Stage) -> None:
    operator = await stage.east.start()
    await readiness(stage, operator, 200)
    stage.east.lease_link.reset()
    await readiness(stage, operator, 503)
    assert await probe(operator, "/healthz") == 200
    await stage.east.lease_link.mend()
    await readiness(stage, operator, 200)


async def test_it_is_ready_only_once_it_has_seen_the_berthleases(stage: Stage) -> None:
    place = stage.east.place
    if not isinstance(place, KubeServer):
        pytest.skip("a real server has no script of faults")
    place.fail(Fault("status", "list", "berthleases", 1000, 403, "Forbidden", "not yet"))
    operator = await stage.east.start()
    await stage.until(lambda: place.asked_for("list", "berthleases"))
    assert await probe(operator, "/readyz") == 503
    assert await probe(operator, "/healthz") == 200
    place.script.clear()
    await readiness(stage, operator, 200)


async def test_it_is_not_ready_while_it_hands_over(stage: Stage) -> None:
    await stage.east.start("--shutdown=handover")
    await stage.deploy(pods={"end_seconds": 2})
    await stage.settled()
    await readiness(stage, stage.east.operator, 200)
    stage.east.operator.signal(SIGTERM)
    await readiness(stage, stage.east.operator, 503)
    assert await probe(stage.east.operator, "/healthz") == 200
    assert stage.pods(stage.east)
    assert await stage.east.ended() == 0


async def test_one_that_does_not_lead_is_ready_and_has_nothing(stage: Stage) -> None:
    leader = await stage.east.start(*ELECTED)
    await stage.until(lambda: leader.logged("leading"))
    await stage.deploy()
    await stage.settled()
    follower = await stage.east.start(*ELECTED)
    for operator in (leader, follower):
        await readiness(stage, operator, 200)
    assert await states(stage.east) == set()
    assert await transitions(stage.east) == {}
    assert await metric(stage.east, "deadline_seconds") == inf
