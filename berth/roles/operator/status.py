"""Status: what a BerthLease says of itself, made from what the operator sees.

Owns the conditions and their words. Promises that the same situation gives the same status, to the letter, so
that nothing is written when nothing has changed; a condition's time moves when it turns, and only then.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from berth.core.reconcile import Recorded, Seen
from berth.wire.berthlease import Condition, Status, Workload

ACQUIRED, HEALTHY = "Acquired", "HeartbeatHealthy"
DRAIN_BLOCKED, TTL_PENDING, BUDGET_SHORT = "DrainBlocked", "TTLPending", "StopBudgetShort"

MESSAGE_CHARACTERS = 1024


class Facts(Struct, frozen=True):
    """What only people need, beside what decides."""

    generation: int
    acquired_at: str = ""
    other_holder: str = ""
    waits_for: str = ""
    trouble: str = ""
    problems: tuple[str, ...] = ()
    target: str = ""
    target_trouble: str = ""
    target_soon: bool = False
    drain_trouble: str = ""
    selector: str = ""
    ttl_pending: str = ""
    budget_short: str = ""


class _Word(Struct, frozen=True):
    """A condition, but for when."""

    type: str
    status: Literal["True", "False"]
    reason: str
    message: str


def recorded_in(status: Status, lease: str) -> Recorded:
    """What the status says was begun. Without a record of a workload the status itself is one, as
    skaphos/berth writes it for a lease without a target.
    """
    kept = status.workload
    if kept is not None:
        return Recorded(kept.phase, kept.lease_name, kept.holder, kept.token, kept.target_uid)
    if status.lease_state == "held" and status.fencing_token:
        return Recorded("Active", lease, status.current_holder, status.fencing_token)
    return Recorded()


def next_status(before: Status, seen: Seen, facts: Facts, now: str) -> Status:
    """The status as it should be. `now` is the instant that a condition which turns gets."""
    recorded = seen.recorded
    held = recorded.phase == "Active" and seen.claim.state in ("held", "unknown")
    words = [_acquired(seen, facts), _healthy(before, seen, facts)]
    words += _warnings(before, seen, facts)
    uid = recorded.target_uid or (before.workload.target_uid if before.workload is not None else "")
    workload: Workload | None = None
    if recorded.phase:
        workload = Workload(
            uid, recorded.phase, recorded.lease, recorded.holder, recorded.token, facts.selector
        )
    elif uid:
        workload = Workload(uid)
    return Status(
        observed_generation=facts.generation,
        lease_state="held" if recorded.phase == "Active" and not _is_lost(seen) else "waiting",
        current_holder=recorded.holder if recorded.phase else facts.other_holder,
        fencing_token=recorded.token,
        acquired_at=(facts.acquired_at or before.acquired_at) if held else "",
        workload=workload,
        conditions=tuple(_dated(words, before.conditions, facts.generation, now)),
    )


def _acquired(seen: Seen, facts: Facts) -> _Word:
    phase = seen.recorded.phase
    if phase == "Active" and _is_lost(seen):
        return _Word(
            ACQUIRED, "False", "Stopping", "the lease is lost, and what runs under it is being stopped"
        )
    if phase == "Active":
        return _Word(ACQUIRED, "True", "Held", f"held with fencing token {seen.recorded.token}")
    if phase == "Stopping":
        return _Word(ACQUIRED, "False", "Stopping", "the lease is released when nothing of it runs any more")
    if seen.invalid:
        return _Word(ACQUIRED, "False", "InvalidSpec", "; ".join(facts.problems))
    if seen.target.state == "missing":
        return _Word(ACQUIRED, "False", "TargetMissing", f"{facts.target} does not exist: it cannot be run")
    if seen.target.state == "unseen":
        return _Word(ACQUIRED, "False", "TargetUnseen", f"{facts.target}: {facts.target_trouble}")
    if seen.claim.state == "elsewhere":
        if facts.other_holder:
            return _Word(ACQUIRED, "False", "HeldByOther", f"held by {facts.other_holder}")
        return _Word(ACQUIRED, "False", "NotFree", facts.waits_for or "the lease is not to be had yet")
    return _Word(ACQUIRED, "False", "Waiting", "the lease is asked for")


def _is_lost(seen: Seen) -> bool:
    return seen.claim.state in ("lost", "elsewhere")


def _healthy(before: Status, seen: Seen, facts: Facts) -> _Word:
    if seen.claim.troubled:
        known = next((each for each in before.conditions if each.type == HEALTHY), None)
        if known is not None and known.status == "False":
            # Its text may be another at each try, and the first says as much.
            return _Word(HEALTHY, "False", known.reason, known.message)
        return _Word(HEALTHY, "False", "AcquireFailed", facts.trouble)
    if seen.recorded.phase:
        return _Word(HEALTHY, "True", "Heartbeating", "the lease is kept")
    return _Word(HEALTHY, "True", "Standby", "the lease is waited for")


def _warnings(before: Status, seen: Seen, facts: Facts) -> Iterable[_Word]:
    """Conditions that are bad when they are true, and not there before they ever were."""
    blocked = _blocked(before, seen, facts)
    for kind, reason, message, fine in (
        (DRAIN_BLOCKED, "PodsRemain", blocked, "nothing is in the way of a stop"),
        (TTL_PENDING, "NextTenure", facts.ttl_pending, "the ttl is the spec's"),
        (BUDGET_SHORT, "GraceTooLong", facts.budget_short, "a stop fits into its budget"),
    ):
        if message:
            yield _Word(kind, "True", reason, message)
        elif any(each.type == kind for each in before.conditions):
            yield _Word(kind, "False", "AsExpected", fine)


def _blocked(before: Status, seen: Seen, facts: Facts) -> str:
    """What is in the way of a stop."""
    if facts.drain_trouble or seen.recorded.phase != "Stopping":
        return facts.drain_trouble
    if seen.target.state == "unseen" and not facts.target_soon:
        return f"{facts.target} cannot be seen to be stopped: {facts.target_trouble}"
    if seen.left is None:
        return _message(before, DRAIN_BLOCKED)  # until there has been a look
    return seen.left.blocked


def _message(status: Status, kind: str) -> str:
    return next(
        (each.message for each in status.conditions if each.type == kind and each.status == "True"), ""
    )


def _dated(
    words: Iterable[_Word], before: Iterable[Condition], generation: int, now: str
) -> Iterable[Condition]:
    known = {each.type: each for each in before}
    for word in words:
        was = known.pop(word.type, None)
        since = was.last_transition_time if was is not None and was.status == word.status else now
        yield Condition(
            word.type, word.status, word.reason, word.message[:MESSAGE_CHARACTERS], since or now, generation
        )
    yield from known.values()  # somebody else's
