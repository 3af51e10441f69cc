"""Deployments, ReplicaSets and StatefulSets, as the controller manager has them, but one revision at a time.

A pod that is ending does not count for a ReplicaSet, which makes another beside it; a StatefulSet begins and
ends its pods one after another and waits for each to be gone.
"""

from hashlib import sha256
from typing import Any

import msgspec

from berth.kube.objects import Object, being_deleted, mapping, name_of
from tests.kube.controllers.cache import Cache
from tests.kube.kubelet import terminal
from tests.kube.server.kinds import DEPLOYMENTS, PODS, REPLICA_SETS, STATEFUL_SETS

HASH = "pod-template-hash"


async def deployments(cache: Cache) -> None:
    owned = cache.by_owner(REPLICA_SETS)
    for deployment in cache.alive(DEPLOYMENTS):
        sets = [found for found in owned[_uid(deployment)] if not being_deleted(found)]
        spec = deployment["spec"]
        wanted = sha256(msgspec.json.encode(spec["template"])).hexdigest()[:8]
        current = [found for found in sets if found["metadata"]["labels"].get(HASH) == wanted]
        if not current:
            await cache.create(REPLICA_SETS, _replica_set(deployment, wanted), deployment)
        for found in sets:
            replicas = spec["replicas"] if found in current else 0
            await cache.patch(REPLICA_SETS, found, {"spec": {"replicas": replicas}})
        told = [mapping(found.get("status")) for found in sets]
        status = {key: sum(one.get(key, 0) for one in told) for key in ("replicas", "readyReplicas")}
        await _tell(cache, DEPLOYMENTS, deployment, {**status, "availableReplicas": status["readyReplicas"]})


async def replica_sets(cache: Cache) -> None:
    owned = cache.by_owner(PODS)
    for found in cache.alive(REPLICA_SETS):
        pods = [pod for pod in owned[_uid(found)] if not being_deleted(pod) and not terminal(pod)]
        surplus = len(pods) - found["spec"]["replicas"]
        for pod in sorted(pods, key=_ready)[: max(0, surplus)]:
            await cache.delete(PODS, pod)
        for _ in range(-surplus):
            await cache.create(PODS, _pod(found, {"generateName": f"{name_of(found).name}-"}), found)
        await _tell(cache, REPLICA_SETS, found, _counts(pods))


async def stateful_sets(cache: Cache) -> None:
    owned = cache.by_owner(PODS)
    for found in cache.alive(STATEFUL_SETS):
        pods = {int(name_of(pod).name.rpartition("-")[2]): pod for pod in owned[_uid(found)]}
        wanted = found["spec"]["replicas"]
        settled = all(_ready(pod) and not being_deleted(pod) for pod in pods.values())
        missing = [number for number in range(wanted) if number not in pods]
        surplus = [number for number in sorted(pods, reverse=True) if number >= wanted]
        if surplus:
            if not any(being_deleted(pod) for pod in pods.values()):
                await cache.delete(PODS, pods[surplus[0]])
        elif missing and settled:
            await cache.create(PODS, _pod(found, {"name": f"{name_of(found).name}-{missing[0]}"}), found)
        await _tell(cache, STATEFUL_SETS, found, _counts([*pods.values()]))


async def _tell(cache: Cache, kind: Any, obj: Object, status: Object) -> None:
    told = {**status, "observedGeneration": obj["metadata"]["generation"]}
    await cache.patch(kind, obj, {"status": told}, subresource="status")


def _replica_set(deployment: Object, hashed: str) -> Object:
    spec = deployment["spec"]
    template = spec["template"]
    labels = {**mapping(mapping(template.get("metadata")).get("labels")), HASH: hashed}
    return {
        "metadata": {"name": f"{name_of(deployment).name}-{hashed}", "labels": labels},
        "spec": {
            "replicas": spec["replicas"],
            "selector": {"matchLabels": labels},
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
    }


def _pod(owner: Object, named: Object) -> Object:
    return pod_of(owner["spec"]["template"], named)


def pod_of(template: Object, named: Object) -> Object:
    return {"metadata": {**template["metadata"], **named}, "spec": template["spec"]}


def _counts(pods: list[Object]) -> Object:
    return {"replicas": len(pods), "readyReplicas": sum(_ready(pod) for pod in pods)}


def _ready(pod: Object) -> bool:
    conditions = mapping(pod.get("status")).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _uid(obj: Object) -> str:
    return obj["metadata"]["uid"]
