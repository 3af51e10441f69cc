"""The BerthLeases of the cluster as the operator uses them: read once a version, found by what they name.

Owns which object has which lease and which target. Promises that of several objects that name the same lease
under the same holder only one has it, the first to begin or else the oldest: to the lease API they are one
holder, and would not exclude each other. Of several that name the same target likewise: one would stop what
another has started.
"""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from berth.client.tenures import LeaseId
from berth.core.reconcile import Recorded
from berth.kube.objects import (
    Name,
    Object,
    Resource,
    annotations_of,
    being_deleted,
    metadata,
    name_of,
    text,
    uid_of,
)
from berth.kube.workloads import TargetRef
from berth.roles.operator.instruments import State
from berth.roles.operator.status import recorded_in
from berth.wire import berthlease, berthlease_rules
from berth.wire.berthlease import FINALIZER, Spec, Status, Unreadable, read_spec, read_status, read_target

BERTHLEASES = Resource(berthlease.GROUP, berthlease.VERSION, berthlease.PLURAL, berthlease.KIND)

REMEMBERED = "berth.skaphos.io/replicas"
"""The annotation with the target's replicas before it was last stopped, where the spec names no number."""


class BerthLease(Struct, frozen=True):
    """One object. `spec` None: it cannot be read, `problems` say why. `status` is what was last told.

    `gone`: it went before it was let go. What was begun under it is ended as if it were being deleted.
    """

    obj: Object
    name: Name
    spec: Spec | None
    status: Status
    target: TargetRef | None
    lease: LeaseId
    problems: tuple[str, ...]
    gone: bool = False

    @property
    def deleting(self) -> bool:
        return self.gone or being_deleted(self.obj)

    @property
    def finalizers(self) -> list[str]:
        found = metadata(self.obj).get("finalizers")
        return [text(each) for each in found] if isinstance(found, list) else []

    @property
    def has_finalizer(self) -> bool:
        return self.gone or FINALIZER in self.finalizers

    @property
    def recorded(self) -> Recorded:
        """What its status says was begun."""
        return recorded_in(self.status, self.lease.name)

    @property
    def generation(self) -> int:
        found = metadata(self.obj).get("generation")
        return found if isinstance(found, int) else 0

    @property
    def state(self) -> State:
        match self.recorded.phase:
            case "Active":
                return "held"
            case "Stopping":
                return "stopping"
            case _:
                return "invalid" if self.problems else "standby"

    @property
    def remembered(self) -> int | None:
        written = text(annotations_of(self.obj).get(REMEMBERED))
        return int(written) if written.isdecimal() and len(written) < 10 else None

    @property
    def rank(self) -> tuple[bool, str, str]:
        """Sorts who has begun before who has not, and then by age."""
        found = metadata(self.obj)
        return not self.recorded.phase, text(found.get("creationTimestamp")), text(found.get("uid"))


def read(obj: Object, cluster_id: str) -> BerthLease:
    """What the object says, for a cluster of that id; the objects' own holders count where it has none."""
    name = name_of(obj)
    problems: list[str] = []
    spec: Spec | None = None
    try:
        spec = read_spec(obj)
        problems += berthlease_rules.problems(spec)
    except Unreadable as fault:
        problems.append(str(fault))
    target = read_target(obj)
    ref = TargetRef(name.namespace, target.api_version, target.kind, target.name) if target else None
    holder = cluster_id or (spec.holder_identity if spec is not None else "")
    lease = LeaseId(name.namespace, spec.lease_name if spec is not None else "", holder)
    return BerthLease(obj, name, spec, read_status(obj), ref, lease, tuple(problems))


class Index:
    """Every BerthLease that is known, by its name, its lease and its target."""

    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self._known: dict[Name, BerthLease] = {}
        self._by_lease: dict[LeaseId, set[Name]] = {}
        self._by_target: dict[TargetRef, set[Name]] = {}
        self._after: dict[Name, Object] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: Name) -> BerthLease | None:
        return self._known.get(name)

    def values(self) -> list[BerthLease]:
        return list(self._known.values())

    def note(self, name: Name, obj: Object | None) -> set[Name]:
        """Take an object up, or None where it is gone; whom that concerns, besides itself.

        One that goes with our finalizer on it, or with something begun under it, was torn away. It is kept
        until it is let go, and what has its name by then waits for that.
        """
        before = self._known.get(name)
        self._after.pop(name, None)
        if before is None or not _torn_away(before, obj):
            concerned = self._drop(name)
            if obj is not None:
                self.keep(read(obj, self._cluster_id))
            return concerned
        self._known[name] = replace(before, gone=True)
        if obj is not None:
            self._after[name] = obj
        return set()

    def keep(self, found: BerthLease) -> None:
        """As it is from now on; of one that is gone nobody else tells."""
        self._known[found.name] = found
        self._by_lease.setdefault(found.lease, set()).add(found.name)
        if found.target is not None:
            self._by_target.setdefault(found.target, set()).add(found.name)

    def let_go(self, name: Name) -> set[Name]:
        """Of one that is gone all has been ended; whom that concerns, besides itself."""
        concerned = self._drop(name)
        after = self._after.pop(name, None)
        if after is not None:
            self.keep(read(after, self._cluster_id))
        return concerned

    def _drop(self, name: Name) -> set[Name]:
        found = self._known.pop(name, None)
        if found is None:
            return set()
        concerned = _dropped(self._by_lease, found.lease, name)
        if found.target is not None:
            concerned |= _dropped(self._by_target, found.target, name)
        return concerned

    def of_lease(self, lease: LeaseId) -> set[Name]:
        return self._by_lease.get(lease, set())

    def of_target(self, target: TargetRef) -> set[Name]:
        return self._by_target.get(target, set())

    def state(self, found: BerthLease) -> State:
        """One that another is in the way of is as one that cannot be followed."""
        if found.state == "standby" and (self.before_at_lease(found) or self.before_at_target(found)):
            return "invalid"
        return found.state

    def before_at_lease(self, found: BerthLease) -> Name | None:
        """Another object that has the lease, so that this one has not."""
        return self._before(found, self.of_lease(found.lease))

    def before_at_target(self, found: BerthLease) -> Name | None:
        """Another object that has the target, so that this one has not."""
        return self._before(found, self.of_target(found.target)) if found.target is not None else None

    def _before(self, found: BerthLease, names: set[Name]) -> Name | None:
        rivals = [self._known[name] for name in names if name != found.name]
        first = min(rivals, key=lambda each: each.rank, default=None)
        return first.name if first is not None and first.rank < found.rank else None


def _torn_away(before: BerthLease, obj: Object | None) -> bool:
    """Whether what is known is no more, and had not been let go."""
    if before.gone:
        return True
    another = obj is None or uid_of(obj) != uid_of(before.obj)
    return another and (before.has_finalizer or bool(before.recorded.phase))


def _dropped(by: dict[Any, set[Name]], key: Any, name: Name) -> set[Name]:
    """Those that are left under the key."""
    names: set[Name] = by.get(key, set())
    names.discard(name)
    if not names:
        by.pop(key, None)
    return set(names)
