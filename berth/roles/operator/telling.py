"""Telling: each transition of a lease, as an Event of its object, a line in the log and a count.

Owns their words. Promises one of each for a transition, and none otherwise.
"""

from berth.core.reconcile import Cause, Recorded, Start, Stop
from berth.core.targets import Change
from berth.kube.events import EventRecorder
from berth.kube.faults import KubeFault
from berth.roles.operator.instruments import Instruments
from berth.roles.operator.resource import BerthLease
from berth.runtime.log import Logger

WHY: dict[Cause, str] = {
    "deleted": "the BerthLease is being deleted",
    "handover": "the operator hands over",
    "invalid": "the spec cannot be followed",
    "semantics_changed": "its semantics are others by now",
    "holder_changed": "it is wanted under another name",
    "target_replaced": "the target was made anew",
    "target_missing": "the target is gone",
    "token_changed": "the lease was lost and won again",
    "refused": "the lease is lost: the lease API says so",
    "deadline": "the lease could not be renewed in time",
}
_LOSSES = ("refused", "deadline", "token_changed")


class Teller:
    """Told by the reconciler of what it has done."""

    def __init__(self, recorder: EventRecorder, instruments: Instruments, logger: Logger) -> None:
        self._recorder = recorder
        self._instruments = instruments
        self._logger = logger

    def recorded(self, found: BerthLease, recorded: Recorded, cause: Cause | None) -> None:
        """Another phase has begun."""
        match recorded.phase:
            case "Active":
                text = f"holds {recorded.lease} with fencing token {recorded.token}"
                self._tell(found, "Normal", "Acquired", text)
                self._instruments.transition("acquired")
            case "Stopping":
                assert cause is not None
                loss = cause in _LOSSES
                self._tell(found, "Warning" if loss else "Normal", "Lost" if loss else "Stopping", WHY[cause])
                self._instruments.transition(cause)
            case _:
                self._tell(found, "Normal", "Stopped", "nothing runs any more, and the lease is given up")
                self._instruments.transition("stopped")

    def driven(self, found: BerthLease, step: Start | Stop, change: Change) -> None:
        """The target was written to."""
        target = f"{found.target.kind} {found.target.name}" if found.target is not None else "the target"
        if isinstance(step, Start):
            self._tell(found, "Normal", "TargetStarted", f"{target}: {change}")
        elif step.cause is not None:
            self._tell(found, "Normal", "TargetStopped", f"{target}: {change}, for {WHY[step.cause]}")
        else:
            self._tell(
                found, "Warning", "TargetStopped", f"{target}: {change}, for the lease is not held here"
            )

    def refused(self, found: BerthLease, step: Start | Stop, fault: KubeFault) -> None:
        """The target could not be written to; told once until it can."""
        start = isinstance(step, Start)
        reason, what = ("StartFailed", "started") if start else ("StopFailed", "stopped")
        self._tell(found, "Warning", reason, f"the target cannot be {what}, trying again: {fault}")

    def _tell(self, found: BerthLease, kind: str, reason: str, text: str) -> None:
        self._recorder.tell(found.obj, "Warning" if kind == "Warning" else "Normal", reason, text)
        self._logger.info(
            text, berthlease=str(found.name), lease=found.lease.name, holder=found.lease.holder, reason=reason
        )
