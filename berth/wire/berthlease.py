"""The BerthLease resource of `berth.skaphos.io/v1alpha1`: what people write, and what the operator tells.

Owns the shapes with their words for people, from which the schema is made (`crds`), and the reading of an
object as a kube-apiserver hands it out. Promises that whatever was stored can be read: an object whose spec
makes no sense gives no spec, and the reason. What of a spec can be read and not be followed,
`berthlease_rules` says.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from berth.wire.shapes import Semantics

GROUP, VERSION, PLURAL, KIND = "berth.skaphos.io", "v1alpha1", "berthleases", "BerthLease"
FINALIZER = "berth.skaphos.io/lease-release"


def _about(words: str, **schema: Any) -> Meta:
    """A field's words, and what else the schema says of it. Reading does not look at either."""
    return Meta(description=words, extra_json_schema=schema or None)


_INT32 = {"format": "int32"}
_INSTANT = {"format": "date-time"}


class Scale(Struct, frozen=True, rename="camel"):
    replicas: Annotated[
        int | None,
        _about("Number of replicas; without it as many as there were before the last stop.", **_INT32),
    ] = None


class Action(Struct, frozen=True, rename="camel"):
    """Exactly one of the two."""

    suspend: Annotated[bool | None, _about("Whether the CronJob or Job is suspended.")] = None
    scale: Annotated[Scale | None, _about("How far any other target is scaled.")] = None


class Target(Struct, frozen=True, rename="camel"):
    api_version: Annotated[str, _about("API group and version of the target, as in apps/v1.", maxLength=253)]
    kind: Annotated[str, _about("Kind of the target, as in Deployment.", maxLength=63)]
    name: Annotated[str, _about("Name of the target.", maxLength=253)]


class Spec(Struct, frozen=True, rename="camel"):
    """What is wanted. A cluster's own id may stand in the place of `holder_identity`."""

    lease_name: Annotated[
        str,
        _about(
            "Name of the lease, in the namespace of this object; the same in every cluster that takes part. "
            "Cannot be changed.",
            maxLength=253,
        ),
    ]
    holder_identity: Annotated[
        str,
        _about(
            "Who holds the lease, where the operator has no --cluster-id. Cannot be changed.", maxLength=253
        ),
    ]
    ttl_seconds: Annotated[
        int,
        _about("For how long the lease is held after the last sign of life, 1 or more.", **_INT32),
    ]
    heartbeat_interval_seconds: Annotated[
        int,
        _about("How often there is a sign of life: less than ttlSeconds, a third of it is good.", **_INT32),
    ]
    semantics: Annotated[
        Semantics,
        _about("At-most-once: one holder at a time. At-least-once: several, none of which stops in doubt."),
    ] = "at-most-once"
    target: Annotated[
        Target | None,
        _about(
            "The workload that runs only while the lease is held, in the namespace of this object: a "
            "Deployment, StatefulSet, ReplicaSet, CronJob, Job, or whatever can be scaled. Without it the "
            "lease is only held. Cannot be changed, added or removed."
        ),
    ] = None
    acquire_action: Annotated[
        Action | None,
        _about(
            "How the target is started; required with a target. For a CronJob or Job suspend: false, for "
            "others scale."
        ),
    ] = None
    release_action: Annotated[
        Action | None,
        _about(
            "How the target is stopped; required with a target. For a CronJob or Job suspend: true, for "
            "others scale: {replicas: 0}. Cannot be changed, added or removed."
        ),
    ] = None
    lock_delay_seconds: Annotated[
        int,
        _about(
            "For how long nobody is granted the lease after it has expired, so that what the lost holder "
            "runs can end; 0 to 600, without it 0. After a release there is no delay.",
            **_INT32,
        ),
    ] = 0
    stop_budget_seconds: Annotated[
        int | None,
        _about(
            "How long before the lease would expire the target begins to be stopped when the lease cannot "
            "be renewed; 1 to half of ttlSeconds. Without it 5, or a quarter of ttlSeconds if that is less.",
            **_INT32,
        ),
    ] = None
    drain: Annotated[
        bool, _about("Whether no pod of the target may be left before the lease is released.")
    ] = True


class Pod(Struct, frozen=True, rename="camel"):
    name: Annotated[str, _about("Name of the pod.", maxLength=253)]
    uid: Annotated[str, _about("UID of the pod.", maxLength=128)]


class Workload(Struct, frozen=True, rename="camel"):
    """What was begun, under which identity: it outlives the process that began it."""

    target_uid: Annotated[str, _about("UID of the target.")] = msgspec.field(name="targetUID", default="")
    phase: Annotated[
        Literal["", "Active", "Stopping"],
        _about("Active: it may run. Stopping: the lease is released once nothing of it is left."),
    ] = ""
    lease_name: Annotated[str, _about("Name of the lease it was started under.")] = ""
    holder: Annotated[str, _about("Holder it was started under.")] = ""
    token: Annotated[int, _about("Fencing token it was started under.", **_INT32)] = 0
    selector: Annotated[str, _about("What finds its pods, also when the target is gone.", maxLength=4096)] = (
        ""
    )
    deadline: Annotated[str, _about("Of skaphos/berth: when it must have ended.", **_INSTANT)] = ""
    pods: Annotated[
        tuple[Pod, ...],
        _about(
            "Of skaphos/berth: pods that were let go.",
            maxItems=1024,
            **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"]},
        ),
    ] = ()


class Condition(Struct, frozen=True, rename="camel"):
    type: Annotated[str, _about("What it is about.", maxLength=316)]
    status: Annotated[Literal["True", "False", "Unknown"], _about("Whether it is so.")]
    reason: Annotated[str, _about("Why, in one word.", maxLength=1024)]
    message: Annotated[str, _about("Why, for people.", maxLength=32768)]
    last_transition_time: Annotated[str, _about("Since when the status is this one.", **_INSTANT)]
    observed_generation: Annotated[
        int, _about("The generation of the spec that it is about.", format="int64", minimum=0)
    ] = 0


class Status(Struct, frozen=True, rename="camel"):
    """What the operator tells. It writes no time that a heartbeat would change."""

    observed_generation: Annotated[
        int, _about("The generation of the spec that this is about.", format="int64", minimum=0)
    ] = 0
    lease_state: Annotated[
        Literal["", "held", "waiting", "released", "expired"],
        _about("held: the lease is this cluster's. waiting: it is not."),
    ] = ""
    current_holder: Annotated[str, _about("Who holds the lease, as far as is known.")] = ""
    fencing_token: Annotated[
        int, _about("Fencing token under which this cluster holds the lease.", **_INT32)
    ] = 0
    acquired_at: Annotated[str, _about("Since when this cluster holds the lease.", **_INSTANT)] = ""
    workload: Annotated[
        Workload | None, _about("What was started under the lease, and is not known to have ended.")
    ] = None
    conditions: Annotated[
        tuple[Condition, ...],
        _about(
            "What is so, and since when.",
            **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    expires_at: Annotated[str, _about("Of skaphos/berth: when the lease expires.", **_INSTANT)] = ""
    last_heartbeat: Annotated[str, _about("Of skaphos/berth: its last sign of life.", **_INSTANT)] = ""
    tenant: Annotated[str, _about("Of skaphos/berth; never written.")] = ""


class Unreadable(Exception):
    """The spec is none; the text says why, for people."""


def read_spec(obj: Mapping[str, Any]) -> Spec:
    """Raises Unreadable."""
    spec = obj.get("spec")
    if spec is None:
        raise Unreadable("spec: is required")
    try:
        return msgspec.convert(spec, Spec)
    except msgspec.ValidationError as fault:
        what, _, where = str(fault).partition(" - at `$")
        raise Unreadable(f"spec{where.rstrip('`')}: {what[0].lower()}{what[1:]}") from fault


def read_target(obj: Mapping[str, Any]) -> Target | None:
    """The target, also of a spec that makes no sense otherwise."""
    try:
        return msgspec.convert(obj, _TargetOnly).spec.target
    except msgspec.ValidationError:
        return None


def read_status(obj: Mapping[str, Any]) -> Status:
    """What of the status can be understood: where not all, then at least what was begun."""
    for shape in (_StatusOnly, _WorkloadOnly):
        try:
            found = msgspec.convert(obj, shape).status
        except msgspec.ValidationError:
            continue
        return found if isinstance(found, Status) else Status(workload=found.workload)
    return Status()


def status_patch(status: Status) -> dict[str, Any]:
    """The merge patch that makes the status this one: what is empty is taken away."""
    patch = _patch(msgspec.to_builtins(status))
    if status.workload is not None:
        # The target's UID stays even when empty: skaphos/berth requires it.
        workload = _patch(msgspec.to_builtins(status.workload))
        patch["workload"] = {**workload, "targetUID": status.workload.target_uid}
    return patch


def _patch(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value or None for name, value in fields.items()}


class _Reach(Struct, frozen=True):
    target: Target | None = None


class _TargetOnly(Struct, frozen=True):
    spec: _Reach = _Reach()


class _StatusOnly(Struct, frozen=True):
    status: Status = Status()


class _Begun(Struct, frozen=True):
    workload: Workload | None = None


class _WorkloadOnly(Struct, frozen=True):
    status: _Begun = _Begun()
