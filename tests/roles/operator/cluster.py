"""One cluster of a scenario, of either kind: what the test does in it, and what goes wrong around it.

Owns the cluster's kubelet, the links by which its operator reaches both servers, and the operator's process.
The test itself comes by a way of its own, beside every fault. Promises that no process of it outlives the
test. What is a cluster's own, and not the operator's, goes on whatever happens to the links.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from signal import SIGKILL, SIGTERM
from typing import Any

import trio

from berth.kube.access import access_by_kubeconfig
from berth.kube.api import KubeClient, open_client
from berth.kube.faults import Conflict, NotFound
from berth.kube.informer import Informer
from berth.kube.objects import Name, Object, Resource, mapping
from tests.kube.conftest import BERTH_LEASES
from tests.kube.controllers.manager import run_controllers
from tests.kube.kubelet import Kubelet
from tests.kube.server.kinds import NAMESPACES
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import Known, Network
from tests.runtime.conftest import Journal
from tests.support.kube_apiserver import KubeApiserver
from tests.support.operator import Operator
from tests.support.proxy import Proxy

START_SECONDS = 20.0
STOP_SECONDS = 15.0
WRITES = ("create", "update", "patch", "delete")

_REQUESTS = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_WRITE = re.compile(r'verb="(?:POST|PUT|PATCH|APPLY|DELETE)"')
_OPERATORS = re.compile(r'resource="(?:berthleases|events)"|subresource="scale"')


@dataclass
class Cluster:
    """`kube_link` and `lease_link` are the operator's ways; `flags` start it. `place` is the API server."""

    name: str
    namespace: str
    client: KubeClient
    place: KubeServer | KubeApiserver
    kubelet: Kubelet
    berth_leases: Informer
    kube_link: Proxy
    lease_link: Proxy
    flags: tuple[str, ...]
    operators: list[Operator] = field(default_factory=list[Operator])
    excused: list[str] = field(default_factory=list[str])
    """Lines at ERROR with these texts are due to what the test does."""

    @property
    def operator(self) -> Operator:
        """The newest."""
        return self.operators[-1]

    async def start(self, *flags: str, program: Sequence[str] = ("berth",)) -> Operator:
        """Returns once it reconciles. `program` is the module that is run."""
        operator = self.launch(*flags, program=program)
        started = partial(operator.wait_for, "role started", within_seconds=START_SECONDS)
        await trio.to_thread.run_sync(started)
        return operator

    def launch(self, *flags: str, program: Sequence[str] = ("berth",)) -> Operator:
        operator = Operator(*self.flags, *flags, program=program)
        self.operators.append(operator)
        return operator

    def forget_flag(self, name: str) -> None:
        """Operators from now on are not given it."""
        self.flags = tuple(flag for flag in self.flags if flag.partition("=")[0] != name)

    async def kill(self) -> None:
        """At once, with nothing put in order."""
        self.operator.signal(SIGKILL)
        await self.ended()

    async def stop(self) -> None:
        """As a rollout does; an operator that does not end cleanly is a failed test."""
        self.operator.signal(SIGTERM)
        assert await self.ended() == 0, self.operator.text

    async def ended(self, operator: Operator | None = None) -> int:
        """The status with which it has ended."""
        operator = operator or self.operator
        return await trio.to_thread.run_sync(partial(operator.wait, within_seconds=STOP_SECONDS))

    async def end(self) -> list[str]:
        """Those that still run end in order, and none has logged an error; else that is told."""
        told: list[str] = []
        running = [operator for operator in self.operators if operator.process.poll() is None]
        for operator in running:
            operator.signal(SIGTERM)
        for operator in running:
            status = await self.ended(operator)
            told += [f"{self.name} ended with status {status}:\n{operator.text}"] if status else []
        for operator in self.operators:
            errors = [line for line in operator.errors() if not self._is_excused(line["msg"])]
            told += [f"{self.name} logged an error: {line}" for line in errors]
        return told

    def _is_excused(self, message: str) -> bool:
        return any(text in message for text in self.excused)

    @asynccontextmanager
    async def kube_frozen(self) -> AsyncGenerator[None]:
        """The API server answers nobody, and later goes on with what it was sent."""
        if isinstance(self.place, KubeApiserver):
            with self.place.frozen():
                yield
            return
        for way in (self.kube_link.to_server, self.kube_link.to_client):
            way.freeze()
        try:
            yield
        finally:
            await self.kube_link.mend()

    async def operators_writes(self) -> int:
        """How many it has made by now: on a real server those to what operators alone write."""
        if isinstance(self.place, KubeServer):
            return sum(verb in WRITES for verb, _ in self.place.calls)
        told = await trio.to_thread.run_sync(self.place.read, "/metrics")
        return round(sum(float(count) for labels, count in _REQUESTS.findall(told) if _is_operators(labels)))

    async def make(self, resource: Resource, obj: Object, *, namespace: str = "") -> Object:
        """In the scenario's namespace, unless another is given."""
        metadata = {**obj["metadata"], "namespace": namespace or self.namespace}
        named = {"apiVersion": resource.api_version, "kind": resource.kind}
        return await self.client.create(resource, {**named, **obj, "metadata": metadata})

    async def get(self, resource: Resource, name: str) -> Object:
        return await self.client.get(resource, name, self.namespace)

    async def patch(self, resource: Resource, name: str, patch: Object, *, subresource: str = "") -> Object:
        return await self.client.merge_patch(
            resource, name, self.namespace, patch=patch, subresource=subresource
        )

    async def scale(self, resource: Resource, name: str, replicas: int) -> None:
        """By hand, as somebody does who knows of no lease."""
        await self.patch(resource, name, {"spec": {"replicas": replicas}}, subresource="scale")

    async def delete(self, resource: Resource, name: str, *, propagation: str = "Background") -> None:
        await self.client.delete(resource, name, self.namespace, propagation=propagation)

    async def replicas(self, resource: Resource, name: str) -> int:
        return (await self.get(resource, name))["spec"].get("replicas", 0)

    async def exists(self, resource: Resource, name: str) -> bool:
        try:
            await self.get(resource, name)
        except NotFound:
            return False
        return True

    def lease(self, name: str) -> Object | None:
        """The BerthLease as last told."""
        return self.berth_leases.get(Name(self.namespace, name))

    def status(self, name: str) -> Mapping[str, Any]:
        return mapping((self.lease(name) or {}).get("status"))

    def condition(self, name: str, kind: str) -> tuple[str, str]:
        """Its status and its reason; empty where there is none."""
        for condition in self.status(name).get("conditions") or ():
            if condition["type"] == kind:
                return condition["status"], condition.get("reason", "")
        return "", ""


def _is_operators(labels: str) -> bool:
    return bool(_WRITE.search(labels) and _OPERATORS.search(labels))


@asynccontextmanager
async def open_cluster(
    name: str,
    place: KubeServer | KubeApiserver,
    *,
    namespace: str,
    folder: Path,
    flags: tuple[str, ...],
    links: tuple[Proxy, Proxy],
    journal: Journal,
) -> AsyncGenerator[Cluster]:
    """`flags` are its operator's; `links` are its ways to the API server and to the leases."""
    logger = journal.logger
    async with AsyncExitStack() as stack:
        if isinstance(place, KubeServer):
            client = KubeClient(Known(), Network(place, scripted=False))
        else:
            access = await access_by_kubeconfig(
                str(place.kubeconfig(folder / f"{name}-admin.kubeconfig")), logger=logger
            )
            client = await stack.enter_async_context(open_client(access))
        try:
            await client.create(NAMESPACES, {"metadata": {"name": namespace}})
        except Conflict:
            pass
        nursery = await stack.enter_async_context(trio.open_nursery())
        kubelet = Kubelet(client, namespace=namespace, logger=logger)
        berth_leases = Informer(client, BERTH_LEASES, namespace=namespace, rng=Random(1), logger=logger)
        nursery.start_soon(kubelet.run)
        nursery.start_soon(berth_leases.run)
        if isinstance(place, KubeServer):
            nursery.start_soon(partial(run_controllers, client, logger=logger))
        await kubelet.pods.synced.wait()
        await berth_leases.synced.wait()
        cluster = Cluster(name, namespace, client, place, kubelet, berth_leases, *links, flags)
        try:
            yield cluster
        finally:
            for operator in cluster.operators:
                operator.close()
            nursery.cancel_scope.cancel()
