"""Looking: all that is known of one BerthLease at one moment, put together for who decides.

Owns the sight: what the object says, what the lease API has answered, how the target stands, how much time is
left. Asks nobody: everything is read from what is kept at hand.
"""

from math import inf

from msgspec import Struct
from msgspec.structs import replace

from berth.client.tenures import Held, LeaseId, Lost, Standby, Standing, Tenures, Terms, Unasked
from berth.core.holding import stop_budget_us
from berth.core.reconcile import Claim, Recorded, Seen, Target
from berth.core.targets import (
    Change,
    Left,
    Missing,
    TargetSeen,
    TargetState,
    Unseen,
    start_change,
    stop_change,
    to_remember,
)
from berth.kube.objects import Name
from berth.kube.workloads import Workloads
from berth.roles.operator.resource import BerthLease, Index
from berth.roles.operator.status import Facts, recorded_in
from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.log import Logger
from berth.wire.berthlease import Spec

CONFLICT_SECONDS, CONFLICTS_COUNTED = 0.02, 6
"""The first conflict is tried again at once, and each after that later, up to a second or so."""

STOP_SECONDS_EACH = 0.003
"""What one stop takes of the operator's time: where many are due at once, they begin as much earlier."""


class Memory(Struct):
    """What this process knows of one BerthLease beside what is stored and cached."""

    left: Left | None = None
    released: bool = False
    releasing: bool = False
    lease: LeaseId | None = None
    troubled: bool = False
    conflicts: int = 0

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


class Sight(Struct, frozen=True):
    """What there is to see. `start` and `stop` are what would have to be changed; None: it is so.

    `contends`: whether this object is the one that the lease is asked for.
    """

    seen: Seen
    facts: Facts
    lease: LeaseId
    contends: bool
    terms: Terms | None
    remaining_seconds: float
    target_seen: TargetSeen | None
    start: Change | None
    stop: Change | None
    to_remember: int | None

    @property
    def stop_due_seconds(self) -> float:
        """Until what runs must be stopped if nothing is heard; inf where nothing is to come."""
        runs = self.seen.recorded.phase == "Active" and self.remaining_seconds > 0
        return self.remaining_seconds if runs else inf

    @property
    def selector(self) -> str:
        """What finds the pods: of what was begun, if anything was."""
        return self.facts.selector


class Sights:
    """Makes them. `handover`: everything is to be given up."""

    def __init__(self, index: Index, tenures: Tenures, workloads: Workloads, clock: Clock) -> None:
        self._index = index
        self._tenures = tenures
        self._workloads = workloads
        self._clock = clock
        self.handover = False
        self.running: set[Name] = set()
        """Those whose stop would be due with all others."""

    def is_idle(self, found: BerthLease) -> bool:
        """Whether nothing runs and nothing is held."""
        standing = self._tenures.standing(found.lease)
        return not recorded_in(found.status, found.lease.name).phase and not isinstance(standing, Held)

    def sight(self, found: BerthLease, memory: Memory) -> Sight:
        recorded = recorded_in(found.status, found.lease.name)
        lease = found.lease
        if recorded.phase and recorded.lease:
            lease = LeaseId(lease.namespace, recorded.lease, recorded.holder)
        memory.lease = lease
        spec = found.spec
        exclusive = spec is None or spec.semantics == "at-most-once"
        self._note_running(found.name, recorded, exclusive)
        rival = self._index.before(found)
        # What another object holds is somebody else's, though under our name.
        standing = self._tenures.standing(lease) if rival is None else Standby(lease.holder, "held")
        remaining_seconds = self._tenures.remaining_seconds(lease) - self._allowance_seconds(spec)
        state = self._workloads.seen(found.target) if found.target is not None else None
        there = state if isinstance(state, TargetSeen) else None
        start = stop = None
        if there is not None:
            start = self._start(spec, there, found.remembered)
            stop = stop_change(there)
        problems = found.problems if rival is None else (*found.problems, _taken_by(rival))
        seen = Seen(
            found.lease.name,
            found.lease.holder,
            finalizer=found.has_finalizer,
            deleting=found.deleting,
            invalid=bool(problems),
            handover=self.handover,
            exclusive=exclusive,
            drain=spec is None or spec.drain,
            recorded=recorded,
            claim=_claim(standing, in_time=remaining_seconds > 0),
            target=_target(state, starts=start is not None, runs=stop is not None),
            left=memory.left,
            released=memory.released,
        )
        return Sight(
            seen,
            self._facts(found, standing, state, problems),
            lease,
            rival is None,
            self._terms(spec) if spec is not None else None,
            remaining_seconds,
            there,
            start,
            stop,
            to_remember(there)
            if there is not None and _counts_freely(spec) and recorded.phase == "Active"
            else None,
        )

    def _note_running(self, name: Name, recorded: Recorded, exclusive: bool) -> None:
        if recorded.phase == "Active" and recorded.target_uid and exclusive:
            self.running.add(name)
        else:
            self.running.discard(name)

    def _allowance_seconds(self, spec: Spec | None) -> float:
        if spec is None:
            return 0.0
        return min(len(self.running) * STOP_SECONDS_EACH, spec.ttl_seconds / 4)

    def _start(self, spec: Spec | None, there: TargetSeen, remembered: int | None) -> Change | None:
        action = spec.acquire_action if spec is not None else None
        if action is None:
            return None
        replicas = action.scale.replicas if action.scale is not None else None
        return start_change(there, replicas=replicas, remembered=remembered)

    def _terms(self, spec: Spec) -> Terms:
        return Terms(
            spec.ttl_seconds,
            spec.heartbeat_interval_seconds,
            spec.semantics,
            spec.lock_delay_seconds,
            _budget_us(spec),
        )

    def _facts(
        self,
        found: BerthLease,
        standing: Standing,
        state: TargetState | None,
        problems: tuple[str, ...],
    ) -> Facts:
        target = found.target
        facts = Facts(
            found.generation,
            problems=problems,
            target=f"{target.kind} {target.name}" if target is not None else "",
            target_trouble=state.why if isinstance(state, Unseen) else "",
            selector=_selector(found, state),
            budget_short=_budget_short(found.spec, state),
        )
        match standing:
            case Held():
                pending = ""
                if found.spec is not None and found.spec.ttl_seconds != standing.ttl_seconds:
                    pending = (
                        f"held with a ttl of {standing.ttl_seconds} s; "
                        f"{found.spec.ttl_seconds} s count from the next tenure on"
                    )
                return replace(
                    facts, acquired_at=standing.acquired_at, trouble=standing.trouble, ttl_pending=pending
                )
            case Standby():
                waits_for = standing.reason
                return replace(
                    facts, other_holder=standing.holder, waits_for=waits_for, trouble=standing.trouble
                )
            case Unasked():
                return replace(facts, trouble=standing.trouble)
            case Lost():
                return facts


def _taken_by(rival: Name) -> str:
    return f"spec.leaseName: BerthLease {rival.name} has this lease already; name another, or delete one"


def _claim(standing: Standing, *, in_time: bool) -> Claim:
    match standing:
        case Unasked(trouble):
            return Claim("unknown", in_time=in_time, troubled=bool(trouble))
        case Held():
            return Claim("held", standing.token, in_time=in_time, troubled=bool(standing.trouble))
        case Standby():
            return Claim("elsewhere", troubled=bool(standing.trouble))
        case Lost(token, loss):
            return Claim("lost", token, loss=loss)


def _target(state: TargetState | None, *, starts: bool, runs: bool) -> Target:
    match state:
        case None:
            return Target()
        case Missing():
            return Target("missing")
        case Unseen():
            return Target("unseen")
        case TargetSeen():
            return Target("there", state.uid, runs=runs, starts=starts)


def _selector(found: BerthLease, state: TargetState | None) -> str:
    begun = found.status.workload
    if begun is not None and begun.phase:
        return begun.selector
    return state.selector if isinstance(state, TargetSeen) else ""


def _counts_freely(spec: Spec | None) -> bool:
    """Whether the number of replicas is somebody else's to say."""
    action = spec.acquire_action if spec is not None else None
    return action is not None and action.scale is not None and action.scale.replicas is None


def _budget_us(spec: Spec) -> int:
    if spec.stop_budget_seconds is not None:
        return spec.stop_budget_seconds * MICROSECONDS
    return stop_budget_us(spec.ttl_seconds * MICROSECONDS)


def _budget_short(spec: Spec | None, state: TargetState | None) -> str:
    if spec is None or not isinstance(state, TargetSeen) or state.grace_seconds is None:
        return ""
    budget_seconds = _budget_us(spec) / MICROSECONDS
    if spec.semantics != "at-most-once" or state.grace_seconds <= budget_seconds:
        return ""
    return (
        f"pods may take {state.grace_seconds} s to end (terminationGracePeriodSeconds), and "
        f"{budget_seconds:g} s are kept for that before the lease expires: raise stopBudgetSeconds and "
        f"ttlSeconds, add lockDelaySeconds, or shorten the grace"
    )
