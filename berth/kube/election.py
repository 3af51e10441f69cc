"""Leader election over a Lease: work that runs only while this process leads.

Owns the life of a tenure: waiting for it, keeping it, and stopping the work in time when it is lost. Promises
that nobody leads past its deadline, which counts from before the request was sent, on the machine's fastest
clock; that an outcome that is unknown neither prolongs a tenure nor ends it; and that the Lease is given up
only after the work has stopped. It exchanges turns with client-go's electors on the same Lease.

It cannot stop code that does not reach a checkpoint of Trio: see `core.election` and the manual on fencing.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import trio

from berth.core.election import Timing, timing_problem
from berth.core.holding import Holding, Loss, Reading, checked, elapsed_us, refused, remaining_us, renewed
from berth.kube.api import KubeClient
from berth.kube.candidate import Candidate, Win
from berth.kube.faults import KubeFault
from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.log import Logger
from berth.runtime.supervise import alongside

LOOK_SECONDS = 1.0
"""Trio's clock stands still in suspend: the deadline is looked at by the other clocks at least this often."""

RELEASE_SECONDS = 5.0
JITTER = 1.2
"""client-go's: a candidate looks again after one to 2.2 retry periods."""


class LeadershipLost(Exception):
    """It was lost while the work ran, which has stopped. `loss`: by the `deadline`, or by being `refused`."""

    def __init__(self, name: str, loss: Loss) -> None:
        why = "not renewed in time" if loss == "deadline" else "another has it, or it was deleted"
        super().__init__(f"leadership of {name} was lost: {why}")
        self.loss: Loss = loss


class Leadership:
    """A tenure. `token` is the Lease's count of transitions: it grows while the Lease is not deleted."""

    def __init__(self, name: str, holding: Holding, version: str, clock: Clock) -> None:
        self.name = name
        self.token = holding.token
        self.resource_version = version
        """Of the write that won it: on Kubernetes 1.35 and later it grows even when the Lease is deleted."""

        self._holding = holding
        self._clock = clock
        self._news = trio.Event()

    @property
    def lost(self) -> Loss | None:
        """Whether it is over, by a look at the clocks now."""
        self._holding = checked(self._holding, _reading(self._clock))
        return self._holding.loss

    def remaining_seconds(self) -> float:
        """How long the work may go on before it must begin to stop."""
        if self.lost:
            return 0.0
        return max(0.0, remaining_us(self._holding, _reading(self._clock)) / MICROSECONDS)

    def hear(self, win: Win | None) -> None:
        """What a renewal came to."""
        if win is None:
            self._holding = refused(self._holding)
        else:
            self._holding = renewed(self._holding, win.sent, _reading(self._clock))
        self._news.set()

    async def until_lost(self) -> None:
        while self.lost is None:
            self._news = trio.Event()
            with trio.move_on_after(min(LOOK_SECONDS, self.remaining_seconds())):
                await self._news.wait()

    def seconds_since_sent(self) -> float:
        return elapsed_us(self._holding.sent, _reading(self._clock)) / MICROSECONDS


@asynccontextmanager
async def leading(
    client: KubeClient,
    *,
    namespace: str,
    name: str,
    identity: str,
    timing: Timing,
    clock: Clock,
    rng: Random,
    logger: Logger,
) -> AsyncGenerator[Leadership]:
    """Wait, for ever, until this process leads; lead while the body runs; then let the next one lead.

    When leadership is lost the body is cancelled, `timing.lease_seconds` less the renew deadline before
    another may lead, and once it has stopped LeadershipLost is raised. `identity` must be this process's own:
    one that is used again waits until the record that names it has expired. Raises ValueError for a timing
    by which nobody could lead.
    """
    if problem := timing_problem(timing):
        raise ValueError(problem)
    candidate = Candidate(
        client,
        namespace=namespace,
        name=name,
        identity=identity,
        timing=timing,
        now=partial(_reading, clock),
    )
    try:
        leadership = await _elected(candidate, f"{namespace}/{name}", timing, clock, rng, logger)
    except trio.Cancelled:
        with trio.move_on_after(RELEASE_SECONDS, shield=True):
            await candidate.withdraw()
        raise
    logger.info("leading", lease=leadership.name, identity=identity, token=leadership.token)
    work = trio.CancelScope()
    keep = partial(_keep, leadership, candidate, timing, logger)
    guard = partial(_guard, leadership, work)
    lost: Loss | None = None
    try:
        async with alongside(keep, guard):
            with work:
                yield leadership
            lost = leadership.lost
    finally:
        # The work has stopped: now, and not before, somebody else may lead.
        released = False
        with trio.move_on_after(RELEASE_SECONDS, shield=True):
            released = await candidate.release()
        logger.info("no longer leading", lease=leadership.name, lost=lost, released=released)
    if lost is not None:
        raise LeadershipLost(leadership.name, lost)


async def _elected(
    candidate: Candidate, name: str, timing: Timing, clock: Clock, rng: Random, logger: Logger
) -> Leadership:
    leader, troubled = "", False
    while True:
        try:
            win = await candidate.campaign()
            troubled = False
        except KubeFault as fault:
            win = None
            if not troubled:
                logger.warning("cannot campaign, trying again", lease=name, error=str(fault))
            troubled = True
        if win is not None:
            leadership = Leadership(name, _holding(candidate, win, timing), win.version, clock)
            if leadership.lost is None:
                return leadership
            continue  # the reply came too late: claim it anew
        if candidate.leader != leader:
            leader = candidate.leader
            logger.info("another leads" if leader else "nobody leads", lease=name, leader=leader)
        await trio.sleep(_pause_seconds(candidate, timing, rng))


def _pause_seconds(candidate: Candidate, timing: Timing, rng: Random) -> float:
    """As client-go waits, but no longer than until the record's time is over; not all at that instant."""
    regular = timing.retry_seconds * (1 + JITTER * rng.random())
    left_seconds = candidate.free_in_us() / MICROSECONDS
    if left_seconds <= 0:
        return regular
    return min(regular, left_seconds + rng.uniform(0, timing.retry_seconds / 4))


def _holding(candidate: Candidate, win: Win, timing: Timing) -> Holding:
    ttl_us = timing.lease_seconds * MICROSECONDS
    budget_us = ttl_us - round(timing.renew_deadline_seconds * MICROSECONDS)
    return Holding(candidate.transitions, ttl_us, budget_us, win.sent)


async def _keep(leadership: Leadership, candidate: Candidate, timing: Timing, logger: Logger) -> None:
    """Renew until it is refused. It goes on while the work is being stopped: that may take time."""
    pause_seconds = max(0.0, timing.retry_seconds - leadership.seconds_since_sent())
    while leadership.lost != "refused":
        await trio.sleep(pause_seconds)
        pause_seconds = timing.retry_seconds
        try:
            leadership.hear(await candidate.renew())
        except KubeFault as fault:
            logger.warning("leadership not renewed, trying again", lease=leadership.name, error=str(fault))
            pause_seconds = timing.retry_seconds / 4


async def _guard(leadership: Leadership, work: trio.CancelScope) -> None:
    await leadership.until_lost()
    work.cancel()


def _reading(clock: Clock) -> Reading:
    return Reading(clock.boot_us(), clock.raw_us(), clock.wall_us())
