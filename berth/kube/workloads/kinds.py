"""The kinds of workload, and how a target is read out of its object or its scale.

Owns what is known of a kind without asking. Promises that an object at hand is kept as small as it can be:
its names, and the target that was seen in it.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from berth.core.targets import TargetSeen
from berth.kube.objects import Object, Resource, mapping, metadata, text, uid_of, version_of

SEEN = "seen"
"""The key of a trimmed object under which the target is."""

KEPT = ("namespace", "name", "uid", "resourceVersion")


class TargetRef(NamedTuple):
    """A workload as a lease names it."""

    namespace: str
    api_version: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Kind(Struct, frozen=True):
    """`read` sees a target in an object; None: only the scale subresource tells how it stands.

    `suspends`: it is stopped by its own `suspend`, else by its scale.
    """

    resource: Resource
    suspends: bool = False
    read: Callable[[Object], TargetSeen] | None = None


def seen_in(obj: Mapping[str, Any]) -> TargetSeen | None:
    """The target in a trimmed object."""
    return obj.get(SEEN)


def trimmed(kind: Kind, obj: Object) -> Object:
    """What is kept of an object; of a trimmed one all."""
    if SEEN in obj:
        return obj
    found = metadata(obj)
    kept = {"metadata": {key: found[key] for key in KEPT if key in found}}
    return {**kept, SEEN: kind.read(obj) if kind.read is not None else None}


def with_seen(obj: Object, seen: TargetSeen) -> Object:
    """A trimmed object after a write of our own."""
    return {"metadata": {**obj["metadata"], "resourceVersion": seen.resource_version}, SEEN: seen}


def seen_in_scale(scale: Object) -> TargetSeen:
    """A target of any kind, as its scale has it."""
    return TargetSeen(
        uid_of(scale),
        version_of(scale),
        replicas=replicas_in(scale),
        selector=text(mapping(scale.get("status")).get("selector")),
    )


def replicas_in(scale: Object) -> int:
    """Scales leave out a 0."""
    return number(mapping(scale.get("spec")).get("replicas"))


def number(value: Any, default: int = 0) -> int:
    return value if isinstance(value, int) else default


def selector_text(selector: Mapping[str, Any]) -> str:
    """A LabelSelector as a query writes it."""
    labels = mapping(selector.get("matchLabels"))
    terms = [f"{key}={labels[key]}" for key in sorted(labels)]
    for requirement in selector.get("matchExpressions") or ():
        key, among = requirement["key"], ",".join(requirement.get("values") or ())
        match requirement["operator"]:
            case "In":
                terms.append(f"{key} in ({among})")
            case "NotIn":
                terms.append(f"{key} notin ({among})")
            case "Exists":
                terms.append(key)
            case _:
                terms.append(f"!{key}")
    return ",".join(terms)


def _replicated(obj: Object) -> TargetSeen:
    spec = mapping(obj.get("spec"))
    return TargetSeen(
        uid_of(obj),
        version_of(obj),
        replicas=number(spec.get("replicas"), 1),
        selector=selector_text(mapping(spec.get("selector"))),
        grace_seconds=_grace_seconds(spec),
    )


def _job(obj: Object) -> TargetSeen:
    spec = mapping(obj.get("spec"))
    return TargetSeen(
        uid_of(obj),
        version_of(obj),
        suspended=spec.get("suspend") is True,
        selector=selector_text(mapping(spec.get("selector"))),
        grace_seconds=_grace_seconds(spec),
    )


def _cron_job(obj: Object) -> TargetSeen:
    spec = mapping(obj.get("spec"))
    job = mapping(mapping(spec.get("jobTemplate")).get("spec"))
    return TargetSeen(
        uid_of(obj),
        version_of(obj),
        suspended=spec.get("suspend") is True,
        jobs=len(mapping(obj.get("status")).get("active") or ()),
        grace_seconds=_grace_seconds(job),
    )


def _grace_seconds(spec: Mapping[str, Any]) -> int | None:
    """How long pods of a spec with a `template` may take to end."""
    pod = mapping(mapping(spec.get("template")).get("spec"))
    found = pod.get("terminationGracePeriodSeconds")
    return found if isinstance(found, int) else None


DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
JOBS = Resource("batch", "v1", "jobs", "Job")
CRON_JOBS = Resource("batch", "v1", "cronjobs", "CronJob")
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)

BUILT_IN = {
    (kind.resource.api_version, kind.resource.kind): kind
    for kind in (
        Kind(DEPLOYMENTS, read=_replicated),
        Kind(STATEFUL_SETS, read=_replicated),
        Kind(REPLICA_SETS, read=_replicated),
        Kind(JOBS, suspends=True, read=_job),
        Kind(CRON_JOBS, suspends=True, read=_cron_job),
    )
}
"""Those that every cluster has, by API version and kind."""
