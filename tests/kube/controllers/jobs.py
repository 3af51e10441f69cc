"""Jobs and CronJobs, as the controller manager has them, of one pod each.

A schedule is `@every SECONDSs`, which a real controller manager takes too; any other never comes. A job that
is suspended has its pods ended. There is no job beside an unfinished one of the same CronJob.
"""

import re
from itertools import count
from typing import Any

import trio

from berth.kube.objects import Object, being_deleted, mapping, name_of, uid_of
from tests.kube.controllers.cache import Cache
from tests.kube.controllers.replicas import pod_of
from tests.kube.kubelet import terminal
from tests.kube.server.kinds import CRON_JOBS, JOBS, PODS

_EVERY = re.compile(r"@every (\d+)s", re.ASCII)


def finished(job: Object) -> bool:
    conditions = mapping(job.get("status")).get("conditions") or ()
    return any(one["type"] in {"Complete", "Failed"} and one["status"] == "True" for one in conditions)


async def jobs(cache: Cache) -> None:
    owned = cache.by_owner(PODS)
    for job in cache.alive(JOBS):
        if finished(job):
            continue
        pods = owned[uid_of(job)]
        running = [pod for pod in pods if not being_deleted(pod) and not terminal(pod)]
        succeeded = [pod for pod in pods if mapping(pod.get("status")).get("phase") == "Succeeded"]
        suspended = bool(job["spec"].get("suspend"))
        if suspended:
            for pod in running:
                await cache.delete(PODS, pod)
        elif not succeeded and not [pod for pod in pods if not terminal(pod)]:
            named = {"generateName": f"{name_of(job).name}-"}
            labels = {**job["spec"]["template"]["metadata"].get("labels", {}), "job-name": name_of(job).name}
            template = job["spec"]["template"]
            with_labels = {**template, "metadata": {**template["metadata"], "labels": labels}}
            await cache.create(PODS, pod_of(with_labels, named), job)
        await cache.patch(JOBS, job, {"status": _status(running, succeeded, suspended)}, subresource="status")


def _status(running: list[Object], succeeded: list[Object], suspended: bool) -> Object:
    conditions: list[dict[str, Any]] = []
    if succeeded:
        conditions = [{"type": "Complete", "status": "True"}]
    elif suspended:
        conditions = [{"type": "Suspended", "status": "True"}]
    return {"active": len(running), "succeeded": len(succeeded), "conditions": conditions}


def _reference(job: Object) -> Object:
    name = name_of(job)
    named = {"namespace": name.namespace, "name": name.name, "uid": uid_of(job)}
    return {"apiVersion": JOBS.api_version, "kind": JOBS.kind, **named}


class CronJobs:
    """Knows when each is due next."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._serial = count(1)

    def next_at(self) -> float:
        return min(self._due.values(), default=float("inf"))

    async def look(self, cache: Cache) -> None:
        owned = cache.by_owner(JOBS)
        due: dict[str, float] = {}
        for cron_job in cache.alive(CRON_JOBS):
            active = [_reference(job) for job in owned[uid_of(cron_job)] if not finished(job)]
            await cache.patch(
                CRON_JOBS, cron_job, {"status": {"active": active or None}}, subresource="status"
            )
            every = _EVERY.fullmatch(cron_job["spec"]["schedule"])
            if every is None or cron_job["spec"].get("suspend"):
                continue
            now, uid = trio.current_time(), uid_of(cron_job)
            due[uid] = self._due.get(uid, now + float(every[1]))
            if due[uid] <= now:
                due[uid] = now + float(every[1])
                if all(finished(job) for job in owned[uid]):
                    await cache.create(JOBS, self._job(cron_job), cron_job)
        self._due = due

    def _job(self, cron_job: Object) -> Object:
        template = cron_job["spec"]["jobTemplate"]
        metadata = mapping(template.get("metadata"))
        name = f"{name_of(cron_job).name}-{next(self._serial)}"
        return {"metadata": {**metadata, "name": name}, "spec": template["spec"]}
