"""Whose a pod or a Job is, by what controls it, and whether it still runs.

Pure. Promises to deny that something is a target's only where it is plain whose it is: an owner that is gone,
or that nobody controls, may have been the target's.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from berth.kube.objects import Object, controller_of, mapping, metadata, name_of, text, uid_of
from berth.kube.workloads.kinds import BUILT_IN, CRON_JOBS, DEPLOYMENTS, JOBS, REPLICA_SETS, TargetRef, number

TERMINAL = ("Succeeded", "Failed")
GENERATED_MAX = 58
"""So much of a name is left when the server adds to it."""


def runs(pod: Object) -> bool:
    return mapping(pod.get("status")).get("phase") not in TERMINAL


def finished(job: Object) -> bool:
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def has_condition(obj: Object, kind: str) -> bool:
    """Whether its status says so of it."""
    conditions = mapping(obj.get("status")).get("conditions")
    return any(
        mapping(found).get("type") == kind and mapping(found).get("status") == "True"
        for found in (conditions if isinstance(conditions, list) else ())
    )


def unseen_by_controller(obj: Object) -> bool:
    """Whether its controller has not said yet that it has seen the newest spec."""
    told = mapping(obj.get("status")).get("observedGeneration")
    return number(told) < number(metadata(obj).get("generation"))


def named_after(obj: Object, target: TargetRef) -> bool:
    """As controllers name what they make; for where no selector says more."""
    return name_of(obj).name.startswith(f"{target.name}-"[:GENERATED_MAX])


def controlled_by(obj: Object, target: TargetRef) -> bool:
    """By the target, or by another of that name before or after it."""
    owner = controller_of(obj)
    return owner is not None and _is(owner, target)


def may_run_for(replica_set: Object, target: TargetRef) -> bool:
    """Whether the Deployment's pods may be in it: then it is its, or it was left behind."""
    return controller_of(replica_set) is None or controlled_by(replica_set, target)


def replica_set_of(pod: Object) -> Mapping[str, Any] | None:
    """The reference to the ReplicaSet that controls it, if one does."""
    owner = controller_of(pod)
    of_set = owner is not None and _kind(owner) == (REPLICA_SETS.group, REPLICA_SETS.kind)
    return owner if of_set else None


def may_be_of(pod: Object, target: TargetRef, others: Collection[str] = ()) -> bool:
    """Whether a pod that the target's selector finds may be its.

    `others` are the uids of ReplicaSets that are plainly not the Deployment's.
    """
    owner = controller_of(pod)
    if owner is None or _is(owner, target):
        return True
    if (target.api_version, target.kind) not in BUILT_IN:
        return True  # nobody knows by what it makes its pods
    if is_kind(target, DEPLOYMENTS) and replica_set_of(pod) is not None:
        return owner.get("uid") not in others
    return False


def may_be_of_jobs(pod: Object, target: TargetRef, jobs: Iterable[Object]) -> bool:
    """Whether a pod may be one of the CronJob's, by all `jobs` that there are."""
    owner = controller_of(pod)
    if owner is None or _kind(owner) != (JOBS.group, JOBS.kind):
        return False
    known = [job for job in jobs if uid_of(job) == owner.get("uid")]
    return not known or controlled_by(known[0], target)


def is_cron_job(target: TargetRef) -> bool:
    return is_kind(target, CRON_JOBS)


def is_kind(target: TargetRef, resource: Any) -> bool:
    return (target.api_version, target.kind) == (resource.api_version, resource.kind)


def _is(owner: Mapping[str, Any], target: TargetRef) -> bool:
    group = target.api_version.rpartition("/")[0]
    return _kind(owner) == (group, target.kind) and owner.get("name") == target.name


def _kind(owner: Mapping[str, Any]) -> tuple[str, str]:
    return text(owner.get("apiVersion")).rpartition("/")[0], text(owner.get("kind"))
