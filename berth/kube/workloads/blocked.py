"""Why a workload may never end by itself, for people.

Owns the words, and what is asked of nodes for them. Promises the same words for as long as nothing changes,
and none while everything takes its ordinary time. Who may not read nodes judges by the time alone.
"""

from collections.abc import Sequence

from berth.kube.api import KubeClient
from berth.kube.faults import KubeFault, NotFound
from berth.kube.objects import (
    Object,
    being_deleted,
    controller_of,
    mapping,
    metadata,
    name_of,
    parsed_time,
    text,
)
from berth.kube.workloads.kinds import NODES, STATEFUL_SETS, TargetRef

OVERDUE_US = 5_000_000
"""So long after a pod's grace its node has had time to say that it has ended."""

NODE_SECONDS = 2.0
USUAL_FINALIZERS = ("batch.kubernetes.io/job-tracking", "foregroundDeletion")


async def why_blocked(
    client: KubeClient, target: TargetRef, pods: Sequence[Object], *, settled: bool, now_us: int
) -> str:
    """Of the pods that still run; `settled`: the controllers have done what they do."""
    ending = [pod for pod in pods if being_deleted(pod)]
    if ending:
        # The one that should have been gone first.
        return await _why_not_gone(client, min(ending, key=_due_us), now_us)
    if settled:
        for pod in pods:
            owner = controller_of(pod)
            # A StatefulSet ends its pods one after another.
            if owner is None or owner.get("kind") != STATEFUL_SETS.kind:
                return f"pod {name_of(pod).name} runs on, and {target} does not end it"
    return ""


async def _why_not_gone(client: KubeClient, pod: Object, now_us: int) -> str:
    overdue_us = now_us - _due_us(pod)
    if overdue_us <= 0:
        return ""
    node = text(mapping(pod.get("spec")).get("nodeName"))
    trouble = await _trouble_of(client, node) if node else ""
    if overdue_us <= OVERDUE_US and not trouble:
        return ""
    why = f"pod {name_of(pod).name} was to end by {metadata(pod)['deletionTimestamp']}"
    if trouble:
        return f"{why}, and its node {node} {trouble}"
    finalizers = metadata(pod).get("finalizers")
    kept_by = [text(each) for each in finalizers if each not in USUAL_FINALIZERS] if finalizers else []
    if kept_by:
        return f"{why}, and is kept by {', '.join(kept_by)}"
    return f"{why} on node {node}" if node else why


async def _trouble_of(client: KubeClient, node: str) -> str:
    """What keeps a node from ending pods, as far as it may be read."""
    try:
        found = await client.get(NODES, node, timeout_seconds=NODE_SECONDS)
    except NotFound:
        return "is gone"
    except KubeFault:
        return ""
    conditions = mapping(found.get("status")).get("conditions")
    for condition in conditions if isinstance(conditions, list) else ():
        if mapping(condition).get("type") == "Ready" and condition.get("status") != "True":
            return "does not answer" if condition.get("status") == "Unknown" else "is not ready"
    return ""


def _due_us(pod: Object) -> int:
    """The deletion's timestamp has the grace in it already."""
    return parsed_time(metadata(pod).get("deletionTimestamp")) or 0
