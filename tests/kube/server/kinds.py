"""The kinds that the test API server knows, and in what they differ."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from berth.kube.objects import ACCESS_REVIEWS, EVENTS, LEASES, TOKEN_REVIEWS, Resource

Object = dict[str, Any]


class Kind(Struct, frozen=True):
    """One resource. `generation`: changes of the spec are counted. `lax`: a PUT needs no resourceVersion."""

    resource: Resource
    status: bool = False
    scale: bool = False
    replicas_at: str = "replicas"
    """Where in the spec, and in the status, the scale finds its number."""

    generation: bool = False
    lax: bool = True
    made_by_put: bool = False
    """A PUT of what is not there makes it."""

    answers_object: bool = False
    """A DELETE answers with the object, not with a Status."""

    check: Callable[[Object], str | None] | None = None

    @property
    def qualified(self) -> str:
        """As messages name it: `deployments.apps`."""
        group = self.resource.group
        return f"{self.resource.plural}.{group}" if group else self.resource.plural


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
BINDINGS = Resource("", "v1", "bindings", "Binding")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
JOBS = Resource("batch", "v1", "jobs", "Job")
CRON_JOBS = Resource("batch", "v1", "cronjobs", "CronJob")


def lease_problem(obj: Object) -> str | None:
    """What the API server says of a Lease that it does not take, or None."""
    spec = obj.get("spec") or {}
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        return f"spec.leaseDurationSeconds: Invalid value: {seconds}: must be greater than 0"
    if transitions is not None and transitions < 0:
        return f"spec.leaseTransitions: Invalid value: {transitions}: must be greater than or equal to 0"
    return None


BUILT_IN = (
    Kind(NAMESPACES, status=True),
    Kind(PODS, status=True, generation=True, answers_object=True),
    Kind(NODES, status=True),
    Kind(BINDINGS),
    Kind(TOKEN_REVIEWS),
    Kind(ACCESS_REVIEWS),
    Kind(CONFIG_MAPS),
    Kind(EVENTS),
    Kind(SERVICE_ACCOUNTS, answers_object=True),
    Kind(LEASES, lax=False, made_by_put=True, check=lease_problem),
    Kind(DEPLOYMENTS, status=True, scale=True, generation=True),
    Kind(STATEFUL_SETS, status=True, scale=True, generation=True),
    Kind(REPLICA_SETS, status=True, scale=True, generation=True),
    Kind(JOBS, status=True, generation=True),
    Kind(CRON_JOBS, status=True, generation=True),
)


def custom(resource: Resource, *, status: bool = True, replicas_at: str = "") -> Kind:
    """A custom resource, as its definition would declare it; with a scale if `replicas_at` is given."""
    scaled = {"scale": True, "replicas_at": replicas_at} if replicas_at else {}
    return Kind(resource, status=status, generation=True, lax=False, answers_object=True, **scaled)


def served_of(kinds: Iterable[Kind], group: str, version: str) -> Object | None:
    """The APIResourceList of a group's version; None where there is none."""
    found = [kind for kind in kinds if (kind.resource.group, kind.resource.version) == (group, version)]
    if not found:
        return None
    resources: list[Object] = []
    for kind in found:
        of = {"namespaced": kind.resource.namespaced, "verbs": ["get", "patch", "update"]}
        resources.append({"name": kind.resource.plural, "kind": kind.resource.kind, **of})
        if kind.status:
            resources.append({"name": f"{kind.resource.plural}/status", "kind": kind.resource.kind, **of})
        if kind.scale:
            scale = {"group": "autoscaling", "version": "v1", "kind": "Scale", **of}
            resources.append({"name": f"{kind.resource.plural}/scale", **scale})
    group_version = found[0].resource.api_version
    return {"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}
