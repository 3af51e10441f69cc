"""One cluster with 2,000 BerthLeases on a real kube-apiserver: what it costs to keep them, and to lose them.

The kube-apiserver has no controllers, so no pods run: what is measured is the operator. It shares the load's
core with nobody but this process; kube-apiserver, etcd and the API server have the other.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio
import yaml

from berth.kube.access import access_by_kubeconfig
from berth.kube.api import KubeClient, open_client
from berth.kube.faults import AlreadyExists, KubeFault
from berth.kube.objects import Object, Resource
from berth.runtime.log import Logs
from tests.support.kube_apiserver import KubeApiserver, kube_apiserver

from .findings import Finding, NotMeasured, Row
from .stage import ROOT, Running, Stage

LEASES = 2_000
TTL_SECONDS, HEARTBEAT_SECONDS, BUDGET_SECONDS = 30, 10, 5.0
SETTLE_SECONDS, WINDOW_SECONDS = 10.0, 60.0
AT_ONCE = 16
DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
BERTHLEASES = Resource("berth.skaphos.io", "v1alpha1", "berthleases", "BerthLease")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")


def kept_and_lost(stage: Stage) -> Finding:
    """2,000 BerthLeases of one operator: core, memory, requests while they are held; all lost at once."""
    with ExitStack() as stack:
        cluster = stack.enter_context(_cluster())
        server = stack.enter_context(stage.berth("mem"))
        kubeconfig = cluster.kubeconfig(stage.directory / "kubeconfig")
        trio.run(partial(_filled, kubeconfig))
        operator = stack.enter_context(stage.operator(kubeconfig, server.url))
        took = _until(operator, lambda: operator.metric("berth_operator_leases", state="held") == LEASES, 300)
        time.sleep(SETTLE_SECONDS)
        core, asked, written = _steady(operator, server, cluster)
        rss = operator.rss_bytes / 2**20
        spare, stops = _lost(operator, server)
    return Finding(
        [
            Row(f"core of an operator with {LEASES:,} leases", "under 10%", f"{core:.1%}", "", core < 0.1),
            Row("its resident memory", "under 250 MiB", f"{rss:.0f} MiB", "", rss < 250),
            Row("its requests per second to the lease API", "under 2", f"{asked:.2f}", "", asked < 2),
            Row("its writes to the kube-apiserver meanwhile", "none", f"{written:.0f}", "", written == 0),
            Row(
                "all lost at once: from the last stop that is written to the deadline",
                "in time",
                f"{spare:.1f} s",
                "",
                spare >= 0,
            ),
        ],
        f"Ttl {TTL_SECONDS} s, heartbeat {HEARTBEAT_SECONDS} s, one Deployment each, {WINDOW_SECONDS:.0f} s. "
        f"From its start on the operator took {took:.0f} s to acquire all, write their status and start the "
        f"targets. Then the API server was stopped (SIGSTOP): {LEASES:,} stops at {stops:.0f} a second.",
    )


@contextmanager
def _cluster() -> Iterator[KubeApiserver]:
    try:
        with kube_apiserver() as cluster:
            yield cluster
    except pytest.skip.Exception as reason:
        raise NotMeasured(str(reason)) from reason


async def _filled(kubeconfig: Path) -> None:
    """The definition, and a Deployment and a BerthLease for each lease."""
    access = await access_by_kubeconfig(str(kubeconfig), logger=Logs("error").logger("benchmark"))
    definition = yaml.safe_load((ROOT / "charts/berth-operator/crds/berthlease.yaml").read_text())
    async with open_client(access) as client:
        await client.create(DEFINITIONS, definition)
        with trio.fail_after(60):
            while not await _is_served(client):  # noqa: ASYNC110 - a condition of another process's
                await trio.sleep(0.2)
        objects = [(resource, make(number)) for number in range(LEASES) for resource, make in _MADE]
        left = iter(Random(1).sample(objects, len(objects)))
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(_make_some, client, left)


async def _is_served(client: KubeClient) -> bool:
    try:
        await client.list_page(BERTHLEASES, "default", limit=1)
    except KubeFault:
        return False
    return True


async def _make_some(client: KubeClient, left: Iterator[tuple[Resource, Object]]) -> None:
    for resource, obj in left:
        try:
            await client.create(resource, obj)
        except AlreadyExists:
            pass


def _deployment(number: int) -> Object:
    labels = {"app": f"web-{number}"}
    pod = {
        "containers": [{"name": "main", "image": "example.test/web"}],
        "terminationGracePeriodSeconds": 1,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": "default", "name": f"web-{number}"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _berth_lease(number: int) -> Object:
    return {
        "apiVersion": BERTHLEASES.api_version,
        "kind": BERTHLEASES.kind,
        "metadata": {"namespace": "default", "name": f"web-{number}"},
        "spec": {
            "leaseName": f"web-{number}",
            "holderIdentity": "east",
            "ttlSeconds": TTL_SECONDS,
            "heartbeatIntervalSeconds": HEARTBEAT_SECONDS,
            "target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"web-{number}"},
            "acquireAction": {"scale": {"replicas": 2}},
            "releaseAction": {"scale": {"replicas": 0}},
        },
    }


_MADE = ((DEPLOYMENTS, _deployment), (BERTHLEASES, _berth_lease))


def _steady(operator: Running, server: Running, cluster: KubeApiserver) -> tuple[float, float, float]:
    """Share of a core, requests a second, and writes in all, while nothing happens."""

    def counts() -> Sequence[float]:
        requests = server.metric("berth_apiserver_requests_total")
        return operator.cpu_seconds, requests, _writes(cluster)

    before, begun = counts(), time.monotonic()
    time.sleep(WINDOW_SECONDS)
    cpu, asked, written = (after - was for after, was in zip(counts(), before, strict=True))
    elapsed = time.monotonic() - begun
    return cpu / elapsed, asked / elapsed, written


def _writes(cluster: KubeApiserver) -> float:
    """Of what only the operator writes here."""
    told = cluster.read("/metrics").splitlines()
    samples = [line for line in told if line.startswith("apiserver_request_total{")]
    resources = [f'resource="{each}"' for each in ("berthleases", "deployments")]
    ours = [line for line in samples if any(each in line for each in resources)]
    return sum(
        float(line.rpartition(" ")[2])
        for line in ours
        if any(f'verb="{verb}"' in line for verb in ("PATCH", "APPLY", "PUT", "POST", "DELETE"))
    )


def _lost(operator: Running, server: Running) -> tuple[float, float]:
    """Seconds from the last stop to the end of the tenures, and stops a second."""

    def stopped() -> float:
        return operator.metric("berth_operator_stop_duration_seconds_count")

    until_stop = operator.metric("berth_operator_deadline_seconds")
    deadline = time.monotonic() + until_stop + BUDGET_SECONDS
    server.process.send_signal(signal.SIGSTOP)
    try:
        _until(operator, lambda: stopped() > 0, TTL_SECONDS)
        first = time.monotonic()
        _until(operator, lambda: stopped() >= LEASES, 2 * TTL_SECONDS)
        last = time.monotonic()
    finally:
        server.process.send_signal(signal.SIGCONT)
    return deadline - last, LEASES / max(last - first, 0.1)


def _until(operator: Running, condition: Callable[[], bool], within_seconds: float) -> float:
    begun = time.monotonic()
    while not condition():
        if operator.process.poll() is not None or time.monotonic() > begun + within_seconds:
            raise NotMeasured("the operator did not do it in time")
        time.sleep(0.2)
    return time.monotonic() - begun
