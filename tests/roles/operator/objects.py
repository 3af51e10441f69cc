"""The objects of the scenarios: leases, and the workloads that they are for.

Every pod has the label `app` with its workload's name. Nothing runs in the pods; see `tests.kube.kubelet`.
"""

from typing import Any

from berth.kube.objects import Object, Resource
from tests.kube.kubelet import END_SECONDS, RUN_SECONDS
from tests.kube.server.kinds import CRON_JOBS, DEPLOYMENTS, JOBS, REPLICA_SETS, STATEFUL_SETS

TTL_SECONDS = 4
REPLICAS = 2
GRACE_SECONDS = 1
"""It fits into the stop budget. How long pods really take is for their node to say."""


def berth_lease(
    name: str,
    kind: Resource | None = DEPLOYMENTS,
    *,
    replicas: int | None = REPLICAS,
    ttl_seconds: int = TTL_SECONDS,
    semantics: str = "at-most-once",
    **spec: Any,
) -> Object:
    """For the workload of the same name; `replicas` None leaves the count to the operator."""
    found: Object = {
        "leaseName": name,
        "holderIdentity": "cluster",
        "ttlSeconds": ttl_seconds,
        "heartbeatIntervalSeconds": 1,
        "semantics": semantics,
    }
    if kind is not None:
        found["target"] = {"apiVersion": kind.api_version, "kind": kind.kind, "name": name}
        if kind in (CRON_JOBS, JOBS):
            found["acquireAction"], found["releaseAction"] = {"suspend": False}, {"suspend": True}
        else:
            found["releaseAction"] = {"scale": {"replicas": 0}}
            found["acquireAction"] = {"scale": {} if replicas is None else {"replicas": replicas}}
    return {"metadata": {"name": name}, "spec": {**found, **spec}}


def workload(kind: Resource, name: str, **pods: str | float) -> Object:
    """Stopped. `end_seconds` and `run_seconds` say what its pods do, `grace_seconds` what they may take."""
    template = _template(name, **pods)
    if kind in (JOBS, CRON_JOBS):
        template["spec"]["restartPolicy"] = "Never"
    if kind == JOBS:
        spec: Object = {"suspend": True, "template": template}
    elif kind == CRON_JOBS:
        job = {"spec": {"template": template}}
        spec = {"suspend": True, "schedule": "@every 1s", "concurrencyPolicy": "Forbid", "jobTemplate": job}
    else:
        assert kind in (DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS)
        labels = {"matchLabels": {"app": name}}
        spec = {"replicas": 0, "selector": labels, "template": template}
    if kind == STATEFUL_SETS:
        spec["serviceName"] = name
    return {"metadata": {"name": name}, "spec": spec}


def _template(
    name: str,
    *,
    end_seconds: str | float = "",
    run_seconds: str | float = "",
    grace_seconds: str | float = GRACE_SECONDS,
) -> Object:
    told = {END_SECONDS: str(end_seconds), RUN_SECONDS: str(run_seconds)}
    annotations = {key: value for key, value in told.items() if value}
    spec: Object = {
        "containers": [{"name": "main", "image": "example.test/nothing"}],
        "terminationGracePeriodSeconds": grace_seconds,
    }
    return {"metadata": {"labels": {"app": name}, "annotations": annotations}, "spec": spec}
