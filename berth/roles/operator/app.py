"""The operator as a role: opens the ways to its cluster and to the lease API, works, and ends in order.

Owns the order of starting and stopping. Promises that it works only while it leads, where replicas elect a
leader, and that a stop keeps the leases for the next process unless it is told to hand them over.
"""

import platform
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory

import trio

from berth.client import BerthClient
from berth.kube.access import Access, access_by_kubeconfig, access_in_cluster
from berth.kube.api import KubeClient, open_client
from berth.kube.election import LeadershipLost, leading
from berth.roles.operator.instruments import Instruments
from berth.roles.operator.metrics_access import guarded
from berth.roles.operator.options import OFF, OperatorOptions
from berth.roles.operator.working import Working, cluster_uid
from berth.runtime.asgi import AsgiApp, health_app, metrics_app
from berth.runtime.clock import Clock, SystemClock
from berth.runtime.devca import ensure_dev_files
from berth.runtime.health import Readiness, ReadyGate
from berth.runtime.http import HttpClient, trusting, trusting_anybody
from berth.runtime.log import Logger, Logs
from berth.runtime.metrics import Metrics
from berth.runtime.serve import Server, serve_app
from berth.runtime.supervise import Handle, open_service_nursery
from berth.runtime.tls import ServerTls, TlsFiles
from berth.version import COMMIT, VERSION

HANDOVER_SECONDS = 120.0


async def serve(
    options: OperatorOptions, *, logs: Logs, task_status: trio.TaskStatus[Handle] = trio.TASK_STATUS_IGNORED
) -> None:
    """Work until drained or cancelled. Raises what cannot be opened, as a fault for people."""
    clock, logger = SystemClock(), logs.logger("operator")
    metrics = Metrics(version=VERSION, commit=COMMIT, python=platform.python_version())
    instruments = Instruments(metrics, clock)
    access = await _access(options, logger)
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(open_client(access))
        leases = await stack.enter_async_context(_lease_client(options, logger))
        instance = await cluster_uid(kube, logger)
        working = Working(
            options, kube=kube, leases=leases, instance=instance, instruments=instruments, clock=clock,
            rng=SystemRandom(), logger=logger,
        )  # fmt: skip
        nursery = await stack.enter_async_context(open_service_nursery())
        gate = ReadyGate(working.ping, nursery)
        running = _Running(options, working, gate, logger)
        shown, tls = metrics_app(metrics), None
        if options.metrics_secure:
            shown, tls = guarded(shown, kube, logger), stack.enter_context(_own_certificate(clock, logger))
        await running.start(nursery, shown, tls)
        task_status.started(Handle(running.addresses, running.drain, running.reload, {"operator": gate}))
        await running.work(partial(_lead, options, access, kube, working, logger))
        nursery.cancel_scope.cancel()


async def _access(options: OperatorOptions, logger: Logger) -> Access:
    if options.kubeconfig is not None:
        return await access_by_kubeconfig(str(options.kubeconfig), logger=logger)
    return await access_in_cluster(logger=logger)


def _lease_client(options: OperatorOptions, logger: Logger) -> BerthClient:
    if options.berth_api_key is not None:
        logger.warning("--berth-api-key: every process of the machine can read it; use --berth-api-key-file")
    tls = trusting(options.berth_ca_bundle_file)
    if options.berth_insecure_skip_tls_verify:
        logger.warning("--berth-insecure-skip-tls-verify: whoever is on the way can be the lease API")
        tls = trusting_anybody()
    channel = HttpClient(
        user_agent=f"berth-operator/{VERSION}", tls=tls, server_name=options.berth_server_name or None
    )
    return BerthClient(
        options.berth_api_server,
        api_key=options.berth_api_key.reveal() if options.berth_api_key else None,
        api_key_file=options.berth_api_key_file,
        channel=channel,
    )


@contextmanager
def _own_certificate(clock: Clock, logger: Logger) -> Iterator[ServerTls]:
    """One that nobody knows: it lasts as long as the process."""
    with TemporaryDirectory(prefix="berth-") as folder:
        files = ensure_dev_files(Path(folder), clock=clock, host=socket.gethostname())
        yield ServerTls(TlsFiles(files.cert, files.key), clock=clock, logger=logger)


async def _lead(
    options: OperatorOptions, access: Access, kube: KubeClient, working: Working, logger: Logger
) -> None:
    """Work; where there are replicas, only while this one leads.

    Who has lost the lead decides nothing any more, but keeps alive what runs: perhaps nobody else can lead,
    for the cluster does not answer.
    """
    if not options.leader_elect:
        await working.run()
        return
    async with trio.open_nursery() as nursery:
        while True:
            following = trio.CancelScope()
            nursery.start_soon(working.keep_alive, following)
            try:
                async with leading(
                    kube,
                    namespace=access.namespace,
                    name=options.leader_election_id,
                    identity=f"{socket.gethostname()}_{secrets.token_hex(8)}",
                    timing=options.timing,
                    clock=SystemClock(),
                    rng=SystemRandom(),
                    logger=logger,
                ):
                    following.cancel()
                    await working.run()
            except LeadershipLost as lost:
                logger.warning(
                    "decides nothing before it leads again, and keeps alive what runs", why=str(lost)
                )


class _Running:
    """What of the operator others see, and how it ends."""

    def __init__(self, options: OperatorOptions, working: Working, gate: ReadyGate, logger: Logger) -> None:
        self._options = options
        self._working = working
        self._gate = gate
        self._logger = logger
        self._servers: list[Server] = []
        self._draining = False
        self._drained = trio.Event()

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(address for server in self._servers for address in server.addresses)

    async def start(self, nursery: trio.Nursery, metrics: AsgiApp, tls: ServerTls | None) -> None:
        """Serve metrics, over TLS if any is given, and health."""
        for address, app, how in (
            (self._options.metrics_bind_address, metrics, tls),
            (self._options.health_probe_bind_address, health_app(self.ready), None),
        ):
            if address not in (OFF, ""):
                serving = partial(serve_app, app, address=address, tls=how, logger=self._logger)
                self._servers.append(await nursery.start(serving))

    async def work(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Until it is drained, or cannot go on."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead)
            await self._drained.wait()
            nursery.cancel_scope.cancel()

    async def ready(self) -> Readiness:
        return Readiness(False, "draining") if self._draining else await self._gate()

    async def drain(self) -> None:
        self._draining = True
        if self._options.shutdown == "handover":
            with trio.move_on_after(HANDOVER_SECONDS) as patience:
                await self._working.hand_over()
            if patience.cancelled_caught:
                self._logger.error("not everything could be handed over in time, the rest stays held")
        for server in self._servers:
            await server.drain()
        self._drained.set()

    async def reload(self) -> None:
        """Keys, certificates and credentials are read again by themselves."""
