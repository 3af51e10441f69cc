"""Reconcile: what is done next for one BerthLease, by what is known of it.

Owns the order of things. Who wins records it and then starts; who loses stops, sees that nothing of the
workload is left, and only then releases. Promises a step for whatever is seen, that a step which has been
taken is not asked for again, and that nothing is started that is not recorded under the very token that is
held. Where it is not known who holds, nothing starts; what runs goes on until its time is over, and an
at-least-once lease until it is refused.

Knows no clock and no cluster: what it sees may be old, and who acts on it guards each write.
"""

from typing import Literal

from msgspec import Struct

from berth.core.targets import Left

Phase = Literal["", "Active", "Stopping"]
"""Nothing runs; it may run; it is being stopped."""

Cause = Literal[
    "deleted", "handover", "invalid", "holder_changed", "target_replaced", "target_missing", "token_changed",
    "semantics_changed", "refused", "deadline",
]  # fmt: skip
"""Why something is stopped that was started."""


class Recorded(Struct, frozen=True):
    """What the object's status says was begun: under which identity and token, on which target."""

    phase: Phase = ""
    lease: str = ""
    holder: str = ""
    token: int = 0
    target_uid: str = ""


class Claim(Struct, frozen=True):
    """How it stands with the lease.

    unknown: nothing is known that counts. held: under `token`, with time left. elsewhere: it is not to be
    had now. lost: it was held here and is no more, by `loss`: refused, out of time, or released, of which the
    server has perhaps not heard. `troubled`: the server cannot be asked.
    """

    state: Literal["unknown", "held", "elsewhere", "lost"] = "unknown"
    token: int = 0
    in_time: bool = True
    loss: Literal["refused", "deadline", "released"] = "deadline"
    troubled: bool = False


class Target(Struct, frozen=True):
    """How the workload stands: `runs` if it must change to be stopped, `starts` if it must to be started.

    `jobs` of its own may go on when it is stopped; None: it begins none.
    """

    state: Literal["none", "unseen", "missing", "there"] = "none"
    uid: str = ""
    runs: bool = False
    starts: bool = False
    jobs: int | None = None


class Seen(Struct, frozen=True):
    """All that decides. `lease` and `holder` are what is asked for now; `left` None: nobody has looked."""

    lease: str
    holder: str
    finalizer: bool = True
    deleting: bool = False
    invalid: bool = False
    handover: bool = False
    exclusive: bool = True
    other_semantics: bool = False
    """`exclusive` is what is held by, not what the spec wants by now."""

    drain: bool = True
    recorded: Recorded = Recorded()
    claim: Claim = Claim()
    target: Target = Target()
    left: Left | None = None
    released: bool = False
    """Whether what is recorded has been given up, or need not be any more."""


class AddFinalizer(Struct, frozen=True):
    """Make sure that the object does not go before what runs under it."""


class RemoveFinalizer(Struct, frozen=True):
    """Nothing is left to be done: let the object go."""


class Record(Struct, frozen=True):
    """Write down the phase, before anything is done in it."""

    phase: Phase
    token: int = 0
    cause: Cause | None = None


class Start(Struct, frozen=True):
    """Let the workload run."""


class Stop(Struct, frozen=True):
    """Stop the workload. `cause` None: it was never to run."""

    cause: Cause | None = None


class Look(Struct, frozen=True):
    """See what is left of the workload."""


class EndJobs(Struct, frozen=True):
    """End what a suspended CronJob has begun."""


class Release(Struct, frozen=True):
    """Give the lease up."""

    token: int


class Again(Struct, frozen=True):
    """What was lost has been stopped: the lease may be asked for."""


class Rest(Struct, frozen=True):
    """Nothing to do until something changes. `wants`: the lease is to be asked for, or kept."""

    wants: bool


Step = (
    AddFinalizer | RemoveFinalizer | Record | Start | Stop | Look | EndJobs | Release | Again | Rest
)  # fmt: skip


def next_step(seen: Seen) -> Step:
    """The one thing to do now."""
    if not (seen.finalizer or seen.recorded.phase):
        # Nothing was begun yet, or all has been ended.
        return Rest(wants=False) if seen.deleting else AddFinalizer()
    match seen.recorded.phase:
        case "Active":
            cause = stop_cause(seen)
            return _running(seen) if cause is None else _ending(seen, cause)
        case "Stopping":
            return _stopping(seen)
        case _:
            return _idle(seen)


def stop_cause(seen: Seen) -> Cause | None:
    """Why what runs must be stopped; None while it may run."""
    recorded, claim, target = seen.recorded, seen.claim, seen.target
    if claim.state == "lost":
        return "refused" if claim.loss == "released" else claim.loss
    if claim.state == "elsewhere":
        return "refused"
    if seen.exclusive and not claim.in_time:
        return "deadline"
    if seen.exclusive and claim.state == "held" and claim.token != recorded.token:
        return "token_changed"
    if seen.deleting:
        return "deleted"
    if seen.handover:
        return "handover"
    if seen.invalid:
        return "invalid"
    if seen.other_semantics:
        return "semantics_changed"
    if (recorded.lease, recorded.holder) != (seen.lease, seen.holder):
        return "holder_changed"
    if target.state == "missing":
        return "target_missing"
    if target.state == "there" and target.uid != recorded.target_uid:
        return "target_replaced"
    return None


def _running(seen: Seen) -> Step:
    claim, target = seen.claim, seen.target
    if not seen.finalizer:
        return AddFinalizer()  # somebody took it off
    if claim.state == "held":
        if claim.token != seen.recorded.token:
            return Record("Active", claim.token)  # of several holders: a new tenure, and nothing stops
        if target.state == "there" and target.starts:
            return Start()
    return Rest(wants=True)


def _ending(seen: Seen, cause: Cause) -> Step:
    """Stop, then write it down: the stop is what there may be little time for."""
    target = seen.target
    if target.state == "there" and target.runs:
        return Stop(cause)
    return Record("Stopping", seen.recorded.token, cause)


def _stopping(seen: Seen) -> Step:
    target, recorded = seen.target, seen.recorded
    if target.state == "unseen":
        return Rest(wants=False)  # what cannot be seen has not been seen to be stopped
    if target.state == "there" and target.runs:
        return Stop()
    if target.state != "none" and (seen.drain or target.jobs is not None):
        if seen.left is None:
            return Look()
        if seen.left.jobs:
            return EndJobs()
        if seen.drain and not seen.left.nothing:
            return Rest(wants=False)
    holds = seen.claim.state in ("held", "unknown") and seen.claim.in_time
    if holds and not seen.released and seen.claim.token in (0, recorded.token):
        return Release(recorded.token)
    return Record("")


def _idle(seen: Seen) -> Step:
    claim, target = seen.claim, seen.target
    wants = not (seen.deleting or seen.invalid or seen.handover) and target.state in ("none", "there")
    if claim.state == "held" and claim.in_time and wants and not seen.other_semantics:
        return Record("Active", claim.token)
    # What runs here was never to run: unless it is about to be known that it may.
    waits = claim.state == "unknown" and not claim.troubled and wants
    if target.state == "there" and not waits and not seen.deleting:
        if target.runs:
            return Stop()
        if target.jobs:
            return EndJobs()
    if claim.state == "held" and not seen.released:
        return Release(claim.token)
    if claim.state == "lost":
        return Again()  # first of all: what has come of it since may have to be released
    if seen.deleting:
        return RemoveFinalizer()
    return Rest(wants=wants)
