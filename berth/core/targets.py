"""Targets: the workload that a lease starts and stops, and what must be changed in it to do so.

Owns how a target is seen, the one write that starts or stops it, and when nothing of it is left. Pure: from
what was seen it says what to write; None is that it is so already. Knows no kinds: what can be suspended is
suspended, and all else has a count of replicas.
"""

from msgspec import Struct
from msgspec.structs import replace


class TargetSeen(Struct, frozen=True):
    """A target that is there. It has either a count of `replicas` or can be `suspended`.

    `jobs` counts what it has begun that may run yet; None where it is of no kind that begins any.
    `selector` finds its pods, as Kubernetes writes label selectors; "" where it has none of its own.
    `grace_seconds` is how long its pods may take to end; None where that cannot be seen.
    """

    uid: str
    resource_version: str
    replicas: int | None = None
    suspended: bool | None = None
    jobs: int | None = None
    selector: str = ""
    grace_seconds: int | None = None

    def same_but_version(self, other: "TargetSeen") -> bool:
        return replace(self, resource_version=other.resource_version) == other


class Missing(Struct, frozen=True):
    """The cluster has no such object."""


class Unseen(Struct, frozen=True):
    """It cannot be seen whether it is there; `why` says so to people. `soon`: it has just been asked for."""

    why: str
    soon: bool = False


TargetState = TargetSeen | Missing | Unseen


class SetReplicas(Struct, frozen=True):
    replicas: int

    def __str__(self) -> str:
        return f"scaled to {self.replicas}"


class SetSuspend(Struct, frozen=True):
    suspend: bool

    def __str__(self) -> str:
        return "suspended" if self.suspend else "resumed"


Change = SetReplicas | SetSuspend


class Left(Struct, frozen=True):
    """What still runs of a workload that was stopped, or may yet begin to.

    `jobs` have not been asked to end yet. `unsettled`: more may come, for its controllers have perhaps not
    seen that it was stopped, or what is ending has not ended. `blocked` says to people why it may never end
    by itself; "" while it is merely ending.
    """

    pods: int = 0
    jobs: int = 0
    unsettled: bool = False
    blocked: str = ""

    @property
    def nothing(self) -> bool:
        return not (self.pods or self.jobs or self.unsettled)


def start_change(
    seen: TargetSeen, *, replicas: int | None = None, remembered: int | None = None
) -> Change | None:
    """What lets it run: with exactly `replicas`, or with any number where that is None.

    Then one that has none gets the `remembered` count from before it was stopped, or else one.
    """
    if seen.suspended is not None:
        return SetSuspend(False) if seen.suspended else None
    wanted = replicas if replicas is not None else seen.replicas or remembered or 1
    return SetReplicas(wanted) if seen.replicas != wanted else None


def stop_change(seen: TargetSeen) -> Change | None:
    """What stops it."""
    if seen.suspended is not None:
        return None if seen.suspended else SetSuspend(True)
    return SetReplicas(0) if seen.replicas else None


def is_stop(change: Change) -> bool:
    return change in (SetReplicas(0), SetSuspend(True))


def made(seen: TargetSeen, change: Change) -> bool:
    """Whether it is so already."""
    match change:
        case SetReplicas(replicas):
            return seen.replicas == replicas
        case SetSuspend(suspend):
            return seen.suspended == suspend


def to_remember(seen: TargetSeen) -> int | None:
    """The count to come back to after a stop; None where there is none to remember."""
    return seen.replicas or None
