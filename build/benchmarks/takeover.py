"""Two clusters with controllers, an operator in each, one workload: how long it runs nowhere.

Owns the scenes, which are those of the tests: real operators, a real API server and real kube-apiservers with
their controller managers. A node of ours takes the pods: it has one run 0.05 s after it was made, and has it
end 0.2 s after it was deleted.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
import trio

from berth.kube.access import access_by_kubeconfig
from berth.kube.api import open_client
from berth.runtime.log import Logs
from tests.kube.conftest import BERTH_LEASES
from tests.roles.operator.cluster import Cluster
from tests.roles.operator.definition import define
from tests.roles.operator.objects import TTL_SECONDS, berth_lease
from tests.roles.operator.stage import Stage as Scene
from tests.roles.operator.stage import open_stage
from tests.runtime.conftest import Journal
from tests.support.apiserver import Certificates
from tests.support.kube_apiserver import KubeApiserver, kube_apiserver

from .findings import Finding, NotMeasured, Row
from .stage import Stage

TIMES = 10
BEHIND_SECONDS = 2 * TTL_SECONDS


def between_clusters(stage: Stage) -> Finding:
    """From the end of a holder's operator, and from the end of its pods, to the pods of the other cluster."""
    with _clusters() as clusters:
        folder = _made(stage.directory / "takeover")
        with redirect_stdout(StringIO()):  # of the scenes' logs
            killed, deleted, overlap = trio.run(partial(_measured, clusters, folder))
    return Finding(
        [
            Row(
                "from the end (SIGKILL) of the holder's operator to pods in the other cluster, longest",
                "ttl + 1 s",
                f"ttl ({TTL_SECONDS} s) {max(killed) - TTL_SECONDS:+.2f} s",
                "",
                max(killed) <= TTL_SECONDS + 1,
            ),
            Row(
                "from the end of the last pod to pods in the other cluster, after a deletion, longest",
                "1 s",
                f"{max(deleted):.2f} s",
                "",
                max(deleted) < 1,
            ),
            Row("pods in both clusters over these deletions", "never", f"{overlap:.2f} s", "", overlap == 0),
        ],
        f"{TIMES} times each, with a ttl of {TTL_SECONDS} s and a heartbeat of 1 s, on two kube-apiservers "
        "with their controllers. An operator that was killed stops nothing: its pods run on until it "
        "is back, and are not counted in the last row. After a deletion pods are looked at every 0.5 s. They "
        "are counted from their creation until they are gone, at each change that the clusters tell of.",
    )


@contextmanager
def _clusters() -> Iterator[tuple[KubeApiserver, KubeApiserver]]:
    try:
        with kube_apiserver(controllers=True) as east, kube_apiserver(controllers=True) as west:
            yield east, west
    except pytest.skip.Exception as reason:
        raise NotMeasured(str(reason)) from reason


async def _measured(
    clusters: tuple[KubeApiserver, KubeApiserver], folder: Path
) -> tuple[list[float], list[float], float]:
    """Seconds after a kill, seconds after the last pod, and seconds of overlap after deletions."""
    for number, cluster in enumerate(clusters):
        kubeconfig = str(cluster.kubeconfig(folder / f"admin-{number}"))
        access = await access_by_kubeconfig(kubeconfig, logger=Logs("error").logger("benchmark"))
        async with open_client(access) as client:
            await define(client)
    certificates = Certificates(folder)
    opened = partial(
        open_stage, clusters, store=("--store-backend", "mem"), certificates=certificates, journal=Journal()
    )
    async with opened(namespace="deleted", folder=_made(folder / "deleted")) as scene:
        holder = await _begun(scene)
        deleted = [await _after_deletion(scene, holder) for holder in _in_turns(scene, holder)]
        overlap = sum(scene.overlap.seconds().values())
    async with opened(namespace="killed", folder=_made(folder / "killed")) as scene:
        holder = await _begun(scene)
        killed = [await _after_kill(scene, holder) for holder in _in_turns(scene, holder)]
    return killed, deleted, overlap


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def _begun(scene: Scene) -> Cluster:
    await scene.start()
    await scene.deploy()
    return await scene.settled()


def _in_turns(scene: Scene, holder: Cluster) -> Iterator[Cluster]:
    for _ in range(TIMES):
        yield holder
        holder = scene.other(holder)


async def _after_deletion(scene: Scene, holder: Cluster) -> float:
    await holder.delete(BERTH_LEASES, "web")
    await scene.until(lambda: not scene.pods(holder))
    begun = trio.current_time()
    await scene.until(lambda: scene.pods(scene.other(holder)))
    took = trio.current_time() - begun
    await scene.until(lambda: holder.lease("web") is None)
    await holder.make(BERTH_LEASES, berth_lease("web"))
    await scene.until(lambda: holder.status("web").get("leaseState") == "waiting")
    return took


async def _after_kill(scene: Scene, holder: Cluster) -> float:
    await holder.kill()
    begun = trio.current_time()
    await scene.until(lambda: scene.pods(scene.other(holder)), within_seconds=BEHIND_SECONDS)
    took = trio.current_time() - begun
    await holder.start()
    await scene.until(lambda: scene.runs(scene.other(holder)))
    return took
