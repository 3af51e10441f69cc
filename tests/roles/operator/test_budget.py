"""How much time a loss leaves: the stop budget before the lease expires, the lock delay after it."""

import trio

from tests.kube.conftest import BERTH_LEASES
from tests.roles.operator.objects import TTL_SECONDS
from tests.roles.operator.stage import Stage

HEARTBEAT_SECONDS = 1
BUDGET_SECONDS = 2
"""Twice of what is kept for a stop unless a lease asks for more."""

LOCK_DELAY_SECONDS = 2
GRACE_TOO_LONG, FITS = ("True", "GraceTooLong"), ("False", "AsExpected")


async def test_a_grace_that_does_not_fit_is_told_until_it_does(stage: Stage) -> None:
    await stage.east.start()
    await stage.deploy(pods={"grace_seconds": BUDGET_SECONDS})
    await stage.settled()
    await stage.until(lambda: stage.east.condition("web", "StopBudgetShort") == GRACE_TOO_LONG)
    before = stage.pods(stage.east)
    await stage.east.patch(BERTH_LEASES, "web", {"spec": {"stopBudgetSeconds": BUDGET_SECONDS}})
    await stage.until(lambda: stage.east.condition("web", "StopBudgetShort") == FITS)
    assert stage.pods(stage.east) == before
    assert await stage.token() == 1


async def test_pods_have_the_whole_budget_to_end(stage: Stage) -> None:
    """They take more of it than there would be without one, and yet are gone when the other begins."""
    await stage.start()
    await stage.deploy(
        pods={"grace_seconds": BUDGET_SECONDS, "end_seconds": BUDGET_SECONDS - 0.4},
        stopBudgetSeconds=BUDGET_SECONDS,
    )
    holder = await stage.settled()
    assert holder.condition("web", "StopBudgetShort") == ("", "")
    holder.lease_link.drop()
    await stage.until(lambda: stage.runs(stage.other(holder)), within_seconds=TTL_SECONDS + 2)


async def test_after_a_loss_the_lease_stays_closed_for_the_lock_delay(stage: Stage) -> None:
    await stage.start()
    await stage.deploy(lockDelaySeconds=LOCK_DELAY_SECONDS)
    holder = await stage.settled()
    standby = stage.other(holder)
    lost_at = trio.current_time()
    holder.lease_link.drop()
    await stage.until(lambda: standby.condition("web", "Acquired") == ("False", "NotFree"))
    assert not stage.running()
    await stage.until(lambda: stage.runs(standby))
    assert trio.current_time() - lost_at >= TTL_SECONDS - HEARTBEAT_SECONDS + LOCK_DELAY_SECONDS


async def test_what_is_given_up_is_open_at_once(stage: Stage) -> None:
    await stage.start()
    await stage.deploy(lockDelaySeconds=60)
    holder = await stage.settled()
    await holder.delete(BERTH_LEASES, "web")
    await stage.until(lambda: stage.runs(stage.other(holder)))
