"""Looking: all that is known of one BerthLease at one moment, put together for who decides.

Owns the sight: what the object says, what the lease API has answered, how the target stands, how much time is
left. Asks nobody: everything is read from what is kept at hand.
"""

from collections.abc import Iterator
from math import inf

import trio
from msgspec import Struct
from msgspec.structs import replace

from berth.client.tenures import Held, LeaseId, Lost, Standby, Standing, Tenures, Terms, Unasked
from berth.core.holding import stop_budget_us
from berth.core.reconcile import Claim, Recorded, Seen, Target
from berth.core.targets import (
    Change,
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
from berth.roles.operator.memory import Memory
from berth.roles.operator.resource import BerthLease, Index
from berth.roles.operator.status import Facts
from berth.runtime.clock import MICROSECONDS, Clock
from berth.wire.berthlease import Spec

STOP_SECONDS_EACH = 0.003
"""What one stop takes of the operator's time: where many are due at once, they begin as much earlier."""


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

    def told_soon(self, wants: bool) -> bool:
        """Whether there is nothing to tell yet: the lease, or the target, has only just been asked for."""
        claim = self.seen.claim
        return self.facts.target_soon or (wants and claim.state == "unknown" and not claim.troubled)

    def again_seconds(self, memory: Memory) -> float | None:
        """When something is due that nobody tells of."""
        if self.seen.recorded.phase == "Stopping" and memory.left is not None and not memory.left.nothing:
            memory.left = None
            return memory.next_look_seconds()
        due_seconds = self.stop_due_seconds
        jobs_due_seconds = memory.jobs_due_at - trio.current_time()
        if not self.seen.recorded.phase and self.seen.target.jobs is not None and jobs_due_seconds > 0:
            due_seconds = jobs_due_seconds
        return due_seconds if due_seconds != inf else None

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
        return not found.recorded.phase and not isinstance(self._tenures.standing(found.lease), Held)

    def must_stop(self, found: BerthLease) -> bool:
        """Whether there is no time left for what may run, or none any more."""
        recorded = found.recorded
        if recorded.phase != "Active" or not recorded.lease:
            return False
        lease = LeaseId(found.name.namespace, recorded.lease, recorded.holder)
        standing = self._tenures.standing(lease)
        if isinstance(standing, Lost):
            late = True
        else:
            late = self._tenures.remaining_seconds(lease) <= self._allowance_seconds(found.spec, standing)
        state = self._workloads.seen(found.target) if late and found.target is not None else None
        return isinstance(state, TargetSeen) and stop_change(state) is not None

    def sight(self, found: BerthLease, memory: Memory) -> Sight:
        recorded = found.recorded
        lease = found.lease
        if recorded.phase and recorded.lease:
            lease = LeaseId(lease.namespace, recorded.lease, recorded.holder)
        memory.lease = lease
        spec = found.spec
        rival, rival_at_target = self._index.before_at_lease(found), self._index.before_at_target(found)
        # What another object holds is somebody else's, though under our name.
        standing = self._tenures.standing(lease) if rival is None else Standby(lease.holder, "held")
        wanted = spec is None or spec.semantics == "at-most-once"
        exclusive = standing.exclusive if isinstance(standing, Held) else wanted
        self._note_running(found.name, recorded, exclusive)
        allowance_seconds = self._allowance_seconds(spec, standing)
        remaining_seconds = self._tenures.remaining_seconds(lease) - allowance_seconds
        # And what another starts and stops is nothing to us.
        ours = found.target is not None and rival_at_target is None
        state = self._workloads.seen(found.target) if ours and found.target is not None else None
        there = state if isinstance(state, TargetSeen) else None
        start = stop = None
        if there is not None:
            start = self._start(spec, there, found.remembered)
            stop = stop_change(there)
        problems = (*found.problems, *_taken(rival, rival_at_target))
        claim = _claim(standing, in_time=remaining_seconds > 0)
        seen = Seen(
            found.lease.name,
            found.lease.holder,
            finalizer=found.has_finalizer,
            deleting=found.deleting,
            invalid=bool(problems),
            handover=self.handover,
            exclusive=exclusive,
            other_semantics=exclusive != wanted,
            drain=spec is None or spec.drain,
            recorded=recorded,
            claim=claim,
            target=_target(state, memory, starts=start is not None, runs=stop is not None),
            left=memory.left,
            released=memory.released != 0 and memory.released == (recorded.token or claim.token),
        )
        return Sight(
            seen,
            self._facts(found, standing, state, problems, memory),
            lease,
            rival is None,
            self._terms(spec) if spec is not None else None,
            remaining_seconds,
            there,
            start,
            stop,
            _worth_remembering(found, there),
        )

    def _note_running(self, name: Name, recorded: Recorded, exclusive: bool) -> None:
        if recorded.phase == "Active" and recorded.target_uid and exclusive:
            self.running.add(name)
        else:
            self.running.discard(name)

    def _allowance_seconds(self, spec: Spec | None, standing: Standing) -> float:
        """How much earlier a stop begins, for the others': at most half of what heartbeats leave."""
        if spec is None:
            return 0.0
        ttl_seconds = standing.ttl_seconds if isinstance(standing, Held) else spec.ttl_seconds
        spare_seconds = ttl_seconds - _budget_us(spec) / MICROSECONDS - spec.heartbeat_interval_seconds
        return min(len(self.running) * STOP_SECONDS_EACH, ttl_seconds / 4, max(0.0, spare_seconds / 2))

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
        memory: Memory,
    ) -> Facts:
        target = found.target
        facts = Facts(
            found.generation,
            problems=problems,
            target=f"{target.kind} {target.name}" if target is not None else "",
            target_trouble=state.why if isinstance(state, Unseen) else "",
            target_soon=isinstance(state, Unseen) and state.soon,
            drain_trouble=memory.drain_trouble,
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


def _taken(rival: Name | None, rival_at_target: Name | None) -> Iterator[str]:
    if rival is not None:
        yield f"spec.leaseName: BerthLease {rival.name} has this lease already; name another, or delete one"
    if rival_at_target is not None:
        yield f"spec.target: BerthLease {rival_at_target.name} has this target already; delete one"


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


def _target(state: TargetState | None, memory: Memory, *, starts: bool, runs: bool) -> Target:
    match state:
        case None:
            return Target()
        case Missing():
            return Target("missing")
        case Unseen():
            return Target("unseen")
        case TargetSeen():
            jobs = state.jobs
            if jobs is not None and trio.current_time() >= memory.jobs_due_at:
                jobs = max(1, jobs)
            elif jobs is not None and memory.jobs_ended_at == state.resource_version:
                jobs = 0
            return Target("there", state.uid, runs=runs, starts=starts, jobs=jobs)


def _selector(found: BerthLease, state: TargetState | None) -> str:
    begun = found.status.workload
    if begun is not None and begun.phase:
        return begun.selector
    return state.selector if isinstance(state, TargetSeen) else ""


def _worth_remembering(found: BerthLease, there: TargetSeen | None) -> int | None:
    """The count of replicas, where it is somebody else's to say: of what runs, or was found running."""
    action = found.spec.acquire_action if found.spec is not None else None
    freely = action is not None and action.scale is not None and action.scale.replicas is None
    found_running = not found.recorded.phase and found.remembered is None
    if there is None or not freely or not (found.recorded.phase == "Active" or found_running):
        return None
    return to_remember(there)


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
