"""Two clusters and the lease server between them, all of it real but what `place` stands in for.

Owns the lease server's process, its keys, and who watches for overlap. Promises that nothing of it outlives
the test, and that overlap which a test has not said to tolerate is complained of.
"""

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

import trio

from berth.client import BerthClient
from berth.kube.objects import Object, Resource
from berth.roles.operator.rbac import ACCOUNT, CLUSTER_RULES, ELECTION_RULES, METRICS_RULES, NAMESPACE
from berth.runtime.tls import TlsFiles
from tests.kube.conftest import BERTH_LEASES, serving
from tests.kube.server.kinds import DEPLOYMENTS
from tests.kube.server.rest import KubeServer
from tests.kube.server.serving import as_app, write_kubeconfig
from tests.roles.operator.cluster import Cluster, open_cluster
from tests.roles.operator.objects import berth_lease, workload
from tests.roles.operator.overlap import Overlap
from tests.runtime.conftest import Journal
from tests.support.apiserver import ANY_PORTS, Apiserver, Certificates
from tests.support.kube_apiserver import KubeApiserver
from tests.support.operator import operator_flags
from tests.support.proxy import Proxy

CLUSTERS = ("east", "west")
ELECTED = (
    "--leader-elect",
    "--leader-election-lease-duration=3s",
    "--leader-election-renew-deadline=2s",
    "--leader-election-retry-period=500ms",
)
OPERATOR_TOKEN = "the-operators-token"
POLL_SECONDS = 0.02
CONVERGENCE_SECONDS = 10.0

Place = KubeServer | KubeApiserver
Kubeconfig = Callable[..., Path]


@dataclass
class Stage:
    """`caller` may do everything on the lease server."""

    namespace: str
    east: Cluster
    west: Cluster
    caller: BerthClient
    overlap: Overlap
    leases: Apiserver
    lease_flags: tuple[str, ...]
    lease_links: Sequence[Proxy]
    folder: Path
    tolerates_overlap: str = ""
    """Why; a scenario in which nobody can prevent it says so."""

    async def complaints(self) -> list[str]:
        """What is wrong at the end of a scenario that went as it should."""
        found = [complaint for cluster in self.clusters for complaint in await cluster.end()]
        if not self.tolerates_overlap:
            found += [f"{name} ran in both for {s:.2f} s" for (_, name), s in self.overlap.seconds().items()]
        return found

    @property
    def clusters(self) -> tuple[Cluster, Cluster]:
        return self.east, self.west

    def other(self, cluster: Cluster) -> Cluster:
        return self.west if cluster is self.east else self.east

    async def start(self, *flags: str) -> None:
        """Both operators."""
        for cluster in self.clusters:
            cluster.launch(*flags)
        for cluster in self.clusters:
            await trio.to_thread.run_sync(partial(cluster.operator.wait_for, "role started"))

    async def deploy(
        self, name: str = "web", kind: Resource = DEPLOYMENTS, *, pods: Object | None = None, **lease: Any
    ) -> None:
        """The workload and its BerthLease, in both clusters."""
        for cluster in self.clusters:
            await cluster.make(kind, workload(kind, name, **(pods or {})))
        for cluster in self.clusters:
            await cluster.make(BERTH_LEASES, berth_lease(name, kind, **lease))

    def key_file(self, tenant: str) -> Path:
        return self.folder / f"{tenant}.key"

    def running(self, name: str = "web") -> set[str]:
        """The names of the clusters in which it has pods."""
        return self.overlap.clusters((self.namespace, name))

    def pods(self, cluster: Cluster, name: str = "web") -> frozenset[str]:
        return self.overlap.pods((self.namespace, name), cluster.name)

    def runs(self, cluster: Cluster, name: str = "web", *, pods: int = 2) -> bool:
        """In this cluster alone, with this many pods."""
        return self.running(name) == {cluster.name} and len(self.pods(cluster, name)) == pods

    async def settled(self, name: str = "web", *, pods: int = 2) -> Cluster:
        """Where it runs, once it runs in one of them and its status says so."""

        def holder() -> Cluster | None:
            return next(
                (
                    cluster
                    for cluster in self.clusters
                    if self.runs(cluster, name, pods=pods)
                    and cluster.status(name).get("leaseState") == "held"
                ),
                None,
            )

        return await self.until(holder)

    async def until(
        self, condition: Callable[[], Any], *, within_seconds: float = CONVERGENCE_SECONDS
    ) -> Any:
        """What it answers, once that is true."""
        with trio.fail_after(within_seconds):
            while not (found := condition()):  # noqa: ASYNC110 - it looks at two clusters and a clock
                await trio.sleep(POLL_SECONDS)
            return found

    async def until_asked(
        self, condition: Callable[[], Awaitable[Any]], *, within_seconds: float = CONVERGENCE_SECONDS
    ) -> Any:
        with trio.fail_after(within_seconds):
            while not (found := await condition()):  # noqa: ASYNC110 - it asks a server
                await trio.sleep(POLL_SECONDS)
            return found

    async def stays(self, condition: Callable[[], Any], *, seconds: float) -> None:
        """It holds all the time."""
        end_at = trio.current_time() + seconds
        while trio.current_time() < end_at:
            assert condition()
            await trio.sleep(POLL_SECONDS)

    async def token(self, name: str = "web") -> int:
        """The highest that was issued."""
        return (await self.caller.get_lease(self.namespace, name)).fencing_token

    async def holder(self, name: str = "web") -> str | None:
        """Whose it is, as the lease server has it."""
        return (await self.caller.get_lease(self.namespace, name)).holder

    @asynccontextmanager
    async def leases_frozen(self) -> AsyncGenerator[None]:
        """The lease server stands still, and goes on afterwards."""
        self.leases.signal(SIGSTOP)
        try:
            yield
        finally:
            self.leases.signal(SIGCONT)

    async def restart_leases(self) -> None:
        """Killed, and started anew on the same store and another port."""
        await trio.to_thread.run_sync(self.leases.kill)
        self.leases.close()
        self.leases = await _served(self.lease_flags, self.leases.ca_file)
        for link in self.lease_links:
            link.target = self.leases.address


@asynccontextmanager
async def open_stage(
    places: tuple[Place, Place],
    *,
    namespace: str,
    store: tuple[str, ...],
    folder: Path,
    certificates: Certificates,
    journal: Journal,
) -> AsyncGenerator[Stage]:
    """`store` are the lease server's flags for its store. Operators are the test's to start."""
    flags = (*certificates.flags, *ANY_PORTS, *store, *_keys(folder))
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        leases = await _served(flags, certificates.ca_file)
        stack.callback(lambda: stage.leases.close() if stage else leases.close())
        stage: Stage | None = None
        overlap = Overlap()
        lease_links = [await _link(nursery, leases.address) for _ in range(3)]
        opened: list[Cluster] = []
        for name, place, lease_link in zip(CLUSTERS, places, lease_links, strict=False):
            kube_link, kubeconfig = await _way_to(stack, nursery, place, certificates, journal)
            written = kubeconfig(folder / f"{name}.kubeconfig", url=kube_link.url, namespace=namespace)
            key_file = folder / f"{name}.key"
            operator = operator_flags(
                kubeconfig=written,
                lease_server=lease_link.url,
                ca_file=certificates.ca_file,
                key_file=key_file,
                cluster_id=name,
            )
            cluster = await stack.enter_async_context(
                open_cluster(
                    name,
                    place,
                    namespace=namespace,
                    folder=folder,
                    flags=(*operator, f"--watch-namespaces={namespace}"),
                    links=(kube_link, lease_link),
                    journal=journal,
                )
            )
            cluster.kubelet.pods.listen(partial(overlap.hear, name))
            opened.append(cluster)
        caller = await stack.enter_async_context(
            BerthClient(lease_links[2].url, api_key=_key("ops"), ca_file=certificates.ca_file)
        )
        stage = Stage(namespace, opened[0], opened[1], caller, overlap, leases, flags, lease_links, folder)
        try:
            yield stage
        finally:
            # Shown when the test fails.
            for cluster in stage.clusters:
                for number, operator in enumerate(cluster.operators):
                    sys.stdout.write(f"-- {cluster.name} {number}\n{operator.text}")


def _keys(folder: Path) -> tuple[str, ...]:
    """One key for each operator, and an admin's."""
    lines: list[str] = []
    for tenant, role in (*((name, "") for name in CLUSTERS), ("ops", ":admin")):
        (folder / f"{tenant}.key").write_text(_key(tenant))
        lines.append(f"{tenant}:{sha256(_key(tenant).encode()).hexdigest()}{role}\n")
    (folder / "keys").write_text("".join(lines))
    return ("--auth-mode", "static-keys", "--api-keys-file", str(folder / "keys"))


def _key(tenant: str) -> str:
    return f"key-of-{tenant}"


def permits(verb: str, group: str, resource: str, name: str) -> bool:
    """What the operator's roles permit."""
    rules = (*CLUSTER_RULES, *ELECTION_RULES, *METRICS_RULES)
    return any(
        verb in rule.verbs
        and group in rule.groups
        and resource in rule.resources
        and (not rule.names or name in rule.names)
        for rule in rules
    )


async def _served(flags: tuple[str, ...], ca_file: Path | None) -> Apiserver:
    server = Apiserver(*flags, ca_file=ca_file)
    try:
        await trio.to_thread.run_sync(partial(server.wait_for, "role started"))
    except BaseException:
        server.close()
        raise
    return server


async def _link(nursery: trio.Nursery, target: tuple[str, int]) -> Proxy:
    link = Proxy(target, nursery)
    await link.listen()
    return link


async def _way_to(
    stack: AsyncExitStack, nursery: trio.Nursery, place: Place, certificates: Certificates, journal: Journal
) -> tuple[Proxy, Kubeconfig]:
    """A link to the API server, and who writes a kubeconfig that leads along it."""
    if isinstance(place, KubeApiserver):
        return await _link(nursery, ("127.0.0.1", place.port)), place.kubeconfig
    files = TlsFiles(certificates.cert_file, certificates.key_file)
    url = await stack.enter_async_context(serving(as_app(place), files, journal))
    place.permits = permits
    place.tokens[OPERATOR_TOKEN] = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
    return (
        await _link(nursery, ("127.0.0.1", int(url.rpartition(":")[2]))),
        partial(write_kubeconfig, token=OPERATOR_TOKEN, ca_file=certificates.ca_file),
    )
