"""The operator's rights: they are enough for all that it does, and each of them is needed for it."""

import pytest
import trio

from berth.roles.operator.rbac import CLUSTER_RULES, ELECTION_RULES, METRICS_RULES
from tests.kube.conftest import BERTH_LEASES
from tests.kube.server.faults import Fault
from tests.kube.server.kinds import CRON_JOBS, DEPLOYMENTS, JOBS, REPLICA_SETS, STATEFUL_SETS
from tests.kube.server.rest import KubeServer
from tests.roles.operator.accounts import account_token, come_as_account, let_scrape
from tests.roles.operator.objects import GRACE_SECONDS, REPLICAS, berth_lease, workload
from tests.roles.operator.stage import ELECTED, Stage, permits

KINDS = (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS, JOBS, CRON_JOBS)
ALL = {
    (verb, group, resource)
    for rule in (*CLUSTER_RULES, *ELECTION_RULES, *METRICS_RULES)
    for verb in rule.verbs
    for group in rule.groups
    for resource in rule.resources
}
Right = tuple[str, str, str]


@pytest.mark.parametrize("places", ["kube-apiserver"], indirect=True)
async def test_all_that_it_does_is_permitted(stage: Stage) -> None:
    """By the manifest, as it is applied to a real cluster."""
    await come_as_account(stage.east, stage.folder)
    await much(stage)
    assert "forbidden" not in stage.east.operator.text.lower()


@pytest.mark.parametrize("places", ["test server"], indirect=True)
async def test_each_right_is_needed(stage: Stage) -> None:
    """Only the test server tells what it was asked."""
    place = stage.east.place
    assert isinstance(place, KubeServer)
    used: set[Right] = set()

    def noted(verb: str, group: str, resource: str, name: str) -> bool:
        used.add((verb, group, resource))
        return permits(verb, group, resource, name)

    place.permits = noted
    for resource in (BERTH_LEASES, CRON_JOBS):
        place.fail(Fault("status", "patch", resource.plural, 1, 409, "Conflict", "somebody was faster"))
    await much(stage)
    assert used == ALL


async def much(stage: Stage) -> None:
    """Elected and watched over, it starts, restores and stops a workload of each kind."""
    east = stage.east
    await east.start(*ELECTED, "--metrics-secure")
    token = await account_token(east, "scraper")
    await let_scrape(east, "scraper")

    async def scraped() -> bool:
        return (await trio.to_thread.run_sync(east.operator.scrape, token))[0] == 200

    await stage.until_asked(scraped)
    for kind in KINDS:
        # Longer than their grace: their node is looked at.
        await east.make(kind, workload(kind, kind.plural, end_seconds=GRACE_SECONDS + 1))
        await east.make(BERTH_LEASES, berth_lease(kind.plural, kind))
    await stage.until(lambda: all(stage.pods(east, kind.plural) for kind in KINDS))
    await east.scale(DEPLOYMENTS, DEPLOYMENTS.plural, 1)

    async def restored() -> bool:
        return await east.replicas(DEPLOYMENTS, DEPLOYMENTS.plural) == REPLICAS

    await stage.until_asked(restored)
    for kind in KINDS:
        await east.delete(BERTH_LEASES, kind.plural)
    await stage.until(lambda: not any(east.lease(kind.plural) for kind in KINDS))
