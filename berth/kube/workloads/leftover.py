"""What is left of a workload that was stopped: its pods and Jobs, as the quorum has them.

Owns the look, and the end of a CronJob's Jobs. Looks at controllers first and at pods last: what a controller
that has seen the stop made before, the list of pods has. A pod that may be the workload's counts: too many is
safe, too few is not.

Jobs and CronJobs do not say which version of theirs was seen last, and the Job controller tells only that it
has suspended: of a CronJob a Job may begin in the moment of its suspension. So it is looked at for longer.
"""

from collections.abc import Sequence

import trio
from msgspec import Struct

from berth.core.targets import Left
from berth.kube.api import KubeClient, Selector
from berth.kube.faults import Conflict, NotFound
from berth.kube.objects import Object, Resource, being_deleted, controller_of, mapping, name_of, text, uid_of
from berth.kube.workloads.blocked import why_blocked
from berth.kube.workloads.kinds import (
    DEPLOYMENTS,
    JOBS,
    PODS,
    REPLICA_SETS,
    Kind,
    TargetRef,
    number,
    seen_in_scale,
)
from berth.kube.workloads.owners import (
    controlled_by,
    finished,
    has_condition,
    is_cron_job,
    is_kind,
    may_be_of,
    may_be_of_jobs,
    may_run_for,
    named_after,
    replica_set_of,
    runs,
    unseen_by_controller,
)
from berth.runtime.clock import Clock

JOB_PODS = Selector(labels="batch.kubernetes.io/job-name")
SETTLE_SECONDS = 1.0
"""So long after it was first seen stopped, a CronJob's controller has seen it too, where it runs."""

LATE_SECONDS = 15.0
"""Controllers see a change within moments, where they run."""


class _Standing(Struct, frozen=True):
    """How it stands with the target itself. `counted`: how many pods its controller says there are."""

    resource_version: str = ""
    selector: str = ""
    settled: bool = True
    counted: int = 0


class Leftover:
    """Looks. Remembers only since when controllers have not seen a stop, or may not have."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._unsettled_since: dict[TargetRef, float] = {}
        self._looked_at_since: dict[TargetRef, float] = {}

    async def left(self, target: TargetRef, kind: Kind, selector: str, *, in_doubt: str = "") -> Left:
        """`in_doubt` is the version for which a start may be on its way. Raises KubeFault."""
        if is_cron_job(target):
            return await self._left_of_cron_job(target)
        standing = await self._standing(target, kind)
        selectors = sorted({selector, standing.selector} - {""})
        of_deployment = is_kind(target, DEPLOYMENTS)
        sets = await self._found(REPLICA_SETS, target, selectors) if of_deployment else []
        making = [found for found in sets if may_run_for(found, target) and _makes_pods(found)]
        settled = standing.settled and not making and not (in_doubt and in_doubt == standing.resource_version)
        pods = [pod for pod in await self._found(PODS, target, selectors) if runs(pod)]
        strangers = await self._strangers(target, sets, pods) if of_deployment else set[str]()
        pods = [pod for pod in pods if may_be_of(pod, target, strangers)]
        blocked = await self._why_blocked(target, pods, settled)
        orphans = [found for found in making if controller_of(found) is None]
        if orphans:
            blocked = (
                f"ReplicaSet {name_of(orphans[0]).name} has replicas, and no Deployment has it: delete it"
            )
        return Left(max(len(pods), standing.counted), unsettled=not settled, blocked=blocked)

    async def end_jobs(self, target: TargetRef) -> int:
        """Asks for the deletion of a CronJob's unfinished Jobs; how many. Raises KubeFault."""
        asked = 0
        for job in await self._unfinished(target):
            if being_deleted(job):
                continue
            namespace, name = name_of(job)
            try:
                await self._client.delete(JOBS, name, namespace, uid=uid_of(job), propagation="Foreground")
                asked += 1
            except (NotFound, Conflict):
                pass  # it is gone by now
        return asked

    async def _standing(self, target: TargetRef, kind: Kind) -> _Standing:
        where = (kind.resource, target.name, target.namespace)
        try:
            obj = await self._client.get(*where)
            scale = None if kind.read is not None else await self._client.get(*where, subresource="scale")
        except NotFound:
            return _Standing()
        if scale is not None:
            seen = seen_in_scale(scale)
            told = "observedGeneration" in mapping(obj.get("status")) and unseen_by_controller(obj)
            counted = number(mapping(scale.get("status")).get("replicas"))
            return _Standing(seen.resource_version, seen.selector, not (told or seen.replicas), counted)
        assert kind.read is not None
        seen = kind.read(obj)
        if kind.suspends:
            settled = finished(obj) or (seen.suspended is True and has_condition(obj, "Suspended"))
        else:
            settled = not (seen.replicas or unseen_by_controller(obj))
        return _Standing(seen.resource_version, seen.selector, settled)

    async def _left_of_cron_job(self, target: TargetRef) -> Left:
        since = self._looked_at_since.setdefault(target, trio.current_time())
        settled = trio.current_time() >= since + SETTLE_SECONDS
        jobs = (await self._client.list_all(JOBS, target.namespace)).items
        unfinished = [job for job in jobs if controlled_by(job, target) and not finished(job)]
        listed = await self._client.list_all(PODS, target.namespace, selector=JOB_PODS)
        pods = [pod for pod in listed.items if runs(pod) and may_be_of_jobs(pod, target, jobs)]
        blocked = await self._why_blocked(target, pods, not unfinished)
        going_on = [job for job in unfinished if not being_deleted(job)]
        left = Left(len(pods), len(going_on), unsettled=not settled or bool(unfinished), blocked=blocked)
        if left.nothing:
            self._looked_at_since.pop(target, None)
        return left

    async def _unfinished(self, target: TargetRef) -> list[Object]:
        jobs = (await self._client.list_all(JOBS, target.namespace)).items
        return [job for job in jobs if controlled_by(job, target) and not finished(job)]

    async def _found(self, resource: Resource, target: TargetRef, selectors: Sequence[str]) -> list[Object]:
        """What the selectors find; without any, what is named after the target."""
        if not selectors:
            listed = await self._client.list_all(resource, target.namespace)
            found = [obj for obj in listed.items if named_after(obj, target)]
            return [obj for obj in found if resource != PODS or controller_of(obj) is not None]
        by_uid: dict[str, Object] = {}
        for selector in selectors:
            listed = await self._client.list_all(
                resource, target.namespace, selector=Selector(labels=selector)
            )
            by_uid |= {uid_of(obj): obj for obj in listed.items}
        return [*by_uid.values()]

    async def _strangers(self, target: TargetRef, sets: Sequence[Object], pods: Sequence[Object]) -> set[str]:
        """The uids of ReplicaSets that are plainly not the Deployment's: another's, or of other labels."""
        strangers = {uid_of(found) for found in sets if not may_run_for(found, target)}
        owners = [owner for pod in pods if (owner := replica_set_of(pod)) is not None]
        names = {text(owner.get("uid")): text(owner.get("name")) for owner in owners}
        for uid in names.keys() - {uid_of(found) for found in sets}:
            try:
                found = await self._client.get(REPLICA_SETS, names[uid], target.namespace)
            except NotFound:
                continue  # whose it was nobody can say
            if uid_of(found) == uid and not controlled_by(found, target):
                strangers.add(uid)
        return strangers

    async def _why_blocked(self, target: TargetRef, pods: Sequence[Object], settled: bool) -> str:
        why = await why_blocked(self._client, target, pods, settled=settled, now_us=self._clock.wall_us())
        if settled:
            self._unsettled_since.pop(target, None)
            return why
        since = self._unsettled_since.setdefault(target, trio.current_time())
        if not why and trio.current_time() - since > LATE_SECONDS:
            return "its controller has not seen yet that it was stopped: does kube-controller-manager run?"
        return why


def _makes_pods(replica_set: Object) -> bool:
    """Whether it may make pods yet."""
    wanted = number(mapping(replica_set.get("spec")).get("replicas"), 1)
    return wanted > 0 or unseen_by_controller(replica_set)
