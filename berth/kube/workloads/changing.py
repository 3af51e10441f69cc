"""Writes to targets: one request to start or to stop, and what is read when it is refused.

Owns the patches. A stop is for that very object, whatever its version; a start is for that very version too,
so that one which comes late finds a newer one. Replicas are written by the scale subresource: nobody needs
the right to change pods' templates for it.
"""

from msgspec.structs import replace

from berth.core.targets import Change, SetReplicas, SetSuspend, TargetSeen, is_stop
from berth.kube.api import KubeClient
from berth.kube.objects import Object
from berth.kube.workloads.kinds import Kind, TargetRef, seen_in_scale

WRITE_SECONDS = 5.0


async def write(
    client: KubeClient, kind: Kind, target: TargetRef, seen: TargetSeen, change: Change
) -> TargetSeen:
    """The target as it is then. Raises KubeFault: a Conflict, or Invalid, where it is not what was seen."""
    guard = {"uid": seen.uid}
    if not is_stop(change) or kind.read is None:
        # Of custom resources the server does not look at a scale's uid.
        guard["resourceVersion"] = seen.resource_version
    answer = await client.merge_patch(
        kind.resource,
        target.name,
        target.namespace,
        patch={"metadata": guard, "spec": _spec(change)},
        subresource="" if kind.suspends else "scale",
        timeout_seconds=WRITE_SECONDS,
    )
    return _seen(kind, answer, seen)


async def read(client: KubeClient, kind: Kind, target: TargetRef) -> TargetSeen:
    """The target as the quorum has it. Raises KubeFault."""
    subresource = "" if kind.read is not None else "scale"
    obj = await client.get(
        kind.resource,
        target.name,
        target.namespace,
        subresource=subresource,
        timeout_seconds=WRITE_SECONDS,
    )
    return kind.read(obj) if kind.read is not None else seen_in_scale(obj)


def _spec(change: Change) -> Object:
    match change:
        case SetReplicas(replicas):
            return {"replicas": replicas}
        case SetSuspend(suspend):
            return {"suspend": suspend}


def _seen(kind: Kind, answer: Object, before: TargetSeen) -> TargetSeen:
    if kind.suspends:
        assert kind.read is not None
        return kind.read(answer)
    # What else was seen of it a scale does not say.
    seen = seen_in_scale(answer)
    return replace(seen, selector=seen.selector or before.selector, grace_seconds=before.grace_seconds)
