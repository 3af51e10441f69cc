"""Lease objects of a Kubernetes cluster: what they cost it, and how fast they are.

The cluster is a real kube-apiserver over an etcd of its own, durable, on the file system of the machine's
temporary files and on whichever core is free. It counts the requests itself.
"""

import re
import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import count, cycle

import pytest

from tests.support.kube_apiserver import KubeApiserver, kube_apiserver

from . import pairs, waiters, wire
from .findings import Finding, NotMeasured, Row, percentile, thousands
from .stage import Running, Stage

RENEWALS = 200
HELD = 1_000
BATCH = 50
BATCHES_AT_ONCE = 2
SECONDS = 10.0
UNLIMITED = ("--k8s-qps=100000", "--k8s-burst=100000")
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")

_SAMPLE = re.compile(r'apiserver_request_total\{.*?resource="leases".*?verb="(\w+)".*?\} (\S+)')
_serial = count(1)


class Cluster:
    """A kube-apiserver, and what it has been asked about Lease objects, its own included."""

    def __init__(self, stage: Stage, server: KubeApiserver) -> None:
        self._stage = stage
        self._server = server
        self._kubeconfig = server.kubeconfig(stage.directory / "kubeconfig")
        self._context = ssl.create_default_context(cadata=server.ca_pem)
        server.admin.configure_cert(self._context)

    def asked(self) -> dict[str, float]:
        """Requests by their verbs."""
        found: dict[str, float] = {}
        for verb, number in _SAMPLE.findall(self._get("/metrics")):
            found[verb] = found.get(verb, 0) + float(number)
        return found

    def counts(self) -> tuple[float, float]:
        """All requests, and those that write."""
        asked = self.asked()
        return sum(asked.values()), sum(asked.get(verb, 0) for verb in WRITES)

    def namespace(self) -> str:
        """A new one."""
        name = f"bench-{next(_serial)}"
        body = f'{{"metadata":{{"name":"{name}"}}}}'.encode()
        self._get("/api/v1/namespaces", body)
        return name

    def berth(self, namespace: str, *more: str) -> AbstractContextManager[Running]:
        return self._stage.berth_on_cluster(namespace, self._kubeconfig, *more)

    def _get(self, path: str, body: bytes | None = None) -> str:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._server.url + path, body, headers)
        with urllib.request.urlopen(request, timeout=30, context=self._context) as reply:
            return reply.read().decode()


def each(stage: Stage) -> Finding:
    """Calls to the kube-apiserver for held leases and for renewals, hand-over between two API servers."""
    with _serving(stage) as cluster:
        requests, writes = _kept(stage, cluster)
        puts, others = _per_renewal(stage, cluster)
        samples = _hand_overs(stage, cluster)
        limited, free = (_rate(stage, cluster, *flags) for flags in ((), UNLIMITED))
    p50, p99 = 1000 * percentile(samples, 0.5), 1000 * percentile(samples, 0.99)
    return Finding(
        [
            Row(
                f"kube-apiserver writes per second for {pairs.LEASES:,} leases, a holder and a standby each",
                "under 1",
                f"{writes:.2f}; all requests {requests:.2f}",
                "",
                writes < 1,
            ),
            Row(
                "kube-apiserver calls per renewal of a lease without a session",
                "1",
                f"{puts:.2f} writes, {others:.2f} others",
                "",
                puts + others < 1.05,
            ),
            Row(
                "from a release on one API server to a waiter's reply on another, on one cluster, p99",
                "100 ms",
                f"{p99:.1f} ms",
                "",
                p99 < 100,
            ),
            Row(
                f"renewals in batches of {BATCH} on a cluster, {HELD:,} leases",
                "",
                f"{thousands(free.per_second)}/s; {thousands(limited.per_second)}/s by default",
            ),
        ],
        "The kube-apiserver counts the requests for Lease objects (`apiserver_request_total`), its own "
        "included. Leases are held with a ttl of 30 s, a heartbeat of 10 s and sessions: nobody "
        f"polls. The hand-overs: p50 {p50:.1f} ms, max {1000 * max(samples):.1f} ms, of which one write each "
        "for the release and for the grant are the cluster's. By default an API server asks a cluster 100 "
        "times a second at most, 200 times in a burst (`--k8s-qps`, `--k8s-burst`); a renewal without a "
        f"session is one call. Without that limit the API server used {free.server_cpu:.0%} of its core.",
    )


def _kept(stage: Stage, cluster: Cluster) -> list[float]:
    with cluster.berth(cluster.namespace()) as server:
        return pairs.kept(stage, server, cluster.counts)


def _per_renewal(stage: Stage, cluster: Cluster) -> tuple[float, float]:
    """Writes and other requests."""
    with cluster.berth(cluster.namespace()) as server:
        connection = wire.Connection(stage, server)
        names = [f"lease-{number}" for number in range(RENEWALS)]
        tokens = _filled(connection, names)
        before = cluster.counts()
        for name, token in zip(names, tokens, strict=True):
            body = {"holder": wire.HOLDER, "fencingToken": token, "ttlSeconds": 86_400}
            wire.granted(_asked(connection, wire.post(f"{wire.LEASES_PATH}/{name}/renew", body)))
        requests, writes = (
            (after - was) / RENEWALS for after, was in zip(cluster.counts(), before, strict=True)
        )
        connection.close()
    return writes, requests - writes


def _filled(connection: wire.Connection, names: list[str]) -> list[int]:
    """In batches that a cluster takes in one go."""
    parts = (names[at : at + BATCH] for at in range(0, len(names), BATCH))
    return [token for part in parts for token in wire.fill(connection, part)]


def _asked(connection: wire.Connection, request: bytes) -> bytes:
    connection.send(request)
    return connection.receive()


def _hand_overs(stage: Stage, cluster: Cluster) -> list[float]:
    namespace = cluster.namespace()
    with cluster.berth(namespace) as one, cluster.berth(namespace) as other:
        return waiters.releases(stage, one, other)


def _rate(stage: Stage, cluster: Cluster, *flags: str) -> wire.Rate:
    with cluster.berth(cluster.namespace(), *flags) as server:
        names = [f"lease-{number}" for number in range(HELD)]
        filling = wire.Connection(stage, server)
        tokens = _filled(filling, names)
        filling.close()  # one that waited meanwhile would have been closed by the server
        connections = [wire.Connection(stage, server) for _ in range(BATCHES_AT_ONCE)]
        operations = [
            wire.operation("renew", name, fencingToken=token, ttlSeconds=86_400)
            for name, token in zip(names, tokens, strict=True)
        ]
        requests = [wire.batch(operations[at : at + BATCH]) for at in range(0, HELD, BATCH)]
        ask = partial(wire.keep_asking, connections, cycle(requests), granted=BATCH)
        found = wire.rate_of(server, ask, seconds=SECONDS, load_cpu=time.process_time)
        for connection in connections:
            connection.close()
    return found


@contextmanager
def _serving(stage: Stage) -> Iterator[Cluster]:
    """A cluster. Raises NotMeasured where there is none."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(kube_apiserver(durable=True))
        except pytest.skip.Exception as reason:
            raise NotMeasured(str(reason)) from None
        yield Cluster(stage, server)
