"""Memory: what this process knows of one BerthLease beside what is stored and cached.

Owns how long to wait before looking again, and what has been told already. None of it has to outlive the
process: the next one looks for itself.
"""

from math import inf

import trio
from msgspec import Struct

from berth.client.tenures import LeaseId
from berth.core.targets import Left
from berth.kube.faults import Forbidden, Invalid, KubeFault
from berth.kube.objects import Name
from berth.runtime.log import Logger

CONFLICT_SECONDS, CONFLICTS_COUNTED = 0.02, 6
"""The first conflict is tried again at once, and each after that later, up to a second or so."""

DRAIN_LOOK_SECONDS, DRAIN_LOOK_MAX_SECONDS, DRAIN_SHARE = 0.5, 10.0, 40
"""How soon to look again what is left: of a drain that takes long, after a share of its time so far."""


class Memory(Struct):
    """Of one BerthLease; `left` None: nobody has looked since it was stopped."""

    left: Left | None = None
    stops: int = 0
    """How often it was stopped: what was seen before that is not left of it."""

    draining_since: float | None = None
    released: int = 0
    """The token that was given up."""

    busy: bool = False
    """Whether it is being released or looked at, in a task of its own."""

    lease: LeaseId | None = None
    jobs_ended_at: str = ""
    """The version of a target whose Jobs have been asked to end."""

    jobs_due_at: float = 0.0
    """When to end the Jobs of a stopped CronJob, whatever its status tells: of one that began in the moment
    of the suspension it may not."""

    drain_trouble: str = ""
    """Why a stop does not get on, where the cluster refuses it."""

    refused_by: type[KubeFault] | None = None
    """What a write to the target came to, as was told."""

    asking: trio.CancelScope | None = None
    """Around what the cluster is being asked, but for a stop."""

    troubled: bool = False
    conflicts: int = 0

    def begun_anew(self) -> None:
        """Another phase was written down: what was seen in the one before counts no more."""
        self.left, self.draining_since, self.released, self.drain_trouble = None, None, 0, ""
        self.stops += 1

    def ended_jobs(self, version: str) -> None:
        """Those that there are by now, of the target's version, have been asked to end."""
        self.jobs_ended_at = version
        if trio.current_time() >= self.jobs_due_at:
            self.jobs_due_at = inf

    def next_look_seconds(self) -> float:
        """After a look at what is left: when to take another."""
        now = trio.current_time()
        if self.draining_since is None:
            self.draining_since = now
        share = (now - self.draining_since) / DRAIN_SHARE
        return min(DRAIN_LOOK_MAX_SECONDS, max(DRAIN_LOOK_SECONDS, share))

    def trouble(self, logger: Logger, name: Name, text: str) -> None:
        if not self.troubled:
            logger.warning(
                "the cluster does not do what is needed, trying again", berthlease=str(name), error=text
            )
        self.troubled = True

    def after_conflict_seconds(self) -> float:
        """How soon to try again what somebody else was in the way of."""
        self.conflicts += 1
        return CONFLICT_SECONDS * (2 ** min(self.conflicts, CONFLICTS_COUNTED) - 2)

    def settled(self, logger: Logger, name: Name) -> None:
        self.conflicts = 0
        if self.troubled:
            logger.info("the cluster does what is needed again", berthlease=str(name))
        self.troubled = False

    def refused(self, fault: KubeFault) -> None:
        """A stop does not get on. The words stay the same from try to try."""
        if isinstance(fault, Forbidden | Invalid):
            self.drain_trouble = f"the cluster refuses what a stop needs: {fault}"
        else:
            self.drain_trouble = "the cluster does not answer what a stop needs"
