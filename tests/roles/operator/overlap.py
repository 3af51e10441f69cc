"""For how long several clusters had pods of one workload at the same time.

Owns the measure of what at-most-once is about. A pod counts from its creation until it is gone or has ended
by itself; one that is merely ending counts. It hears of every change, so no overlap is too short to be seen;
it sees what the clusters' APIs tell, which is when the operators can know it too.
"""

from collections import defaultdict
from collections.abc import Callable

import trio

from berth.kube.informer import Changed
from berth.kube.objects import Object, labels_of, name_of, text, uid_of
from tests.kube.kubelet import terminal

Workload = tuple[str, str]
"""Namespace and label `app`."""


class Overlap:
    def __init__(self, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._pods: dict[Workload, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._since: dict[Workload, float] = {}
        self._seconds: dict[Workload, float] = defaultdict(float)

    def hear(self, cluster: str, change: Changed) -> None:
        for pod in (change.old, change.new):
            if pod is not None:
                self._pods[_workload(pod)][cluster].discard(uid_of(pod))
        if change.new is not None and not terminal(change.new):
            self._pods[_workload(change.new)][cluster].add(uid_of(change.new))
        for pod in (change.old, change.new):
            if pod is not None:
                self._judge(_workload(pod))

    def clusters(self, workload: Workload) -> set[str]:
        """Where it has pods now."""
        return {cluster for cluster, pods in self._pods[workload].items() if pods}

    def pods(self, workload: Workload, cluster: str) -> frozenset[str]:
        """Their uids."""
        return frozenset(self._pods[workload][cluster])

    def seconds(self) -> dict[Workload, float]:
        """Of each workload that ever was in two clusters at once."""
        ongoing = {workload: self._now() - since for workload, since in self._since.items()}
        return {
            workload: self._seconds[workload] + ongoing.get(workload, 0.0)
            for workload in {*self._seconds, *ongoing}
        }

    def _judge(self, workload: Workload) -> None:
        several = len(self.clusters(workload)) > 1
        if several and workload not in self._since:
            self._since[workload] = self._now()
        elif not several and workload in self._since:
            self._seconds[workload] += self._now() - self._since.pop(workload)


def _workload(pod: Object) -> Workload:
    return name_of(pod).namespace, text(labels_of(pod).get("app"))
