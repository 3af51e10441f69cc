"""The API server as a role: opens what the options name, serves it, and ends it in order.

Owns the order of starting and stopping. Promises that it is started only once it serves, that a drain ends,
and that what is in flight when the drain begins is answered.
"""

import platform
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from random import SystemRandom
from typing import cast

import trio

from berth.config import ConfigErrors
from berth.roles.apiserver.auth import Authenticator, KeysInvalid, NoAuthentication, StaticKeys
from berth.roles.apiserver.handlers import Handlers
from berth.roles.apiserver.observe import Instruments, Observed
from berth.roles.apiserver.options import ApiserverOptions
from berth.roles.apiserver.routing import build_app, error_body
from berth.roles.apiserver.stores import DsnFileInvalid, dsn, open_store
from berth.runtime.asgi import AsgiApp, metrics_app
from berth.runtime.clock import Clock, SystemClock
from berth.runtime.health import Readiness, ReadyGate
from berth.runtime.log import Logger, Logs
from berth.runtime.metrics import Metrics
from berth.runtime.serve import ServeLimits, Server, connections_that_fit, serve_app
from berth.runtime.supervise import Handle, open_service_nursery
from berth.runtime.tls import ServerTls, TlsFiles, TlsInvalid
from berth.service.leases import open_leases
from berth.service.limits import Limits
from berth.service.measured import MeasuredStore
from berth.service.sweeper import Sweeping
from berth.store.api import RememberingStore, SharedStore
from berth.version import COMMIT, VERSION
from berth.wire.checks import TtlBounds
from berth.wire.replies import watch_line
from berth.wire.routes import BATCH_MAX_BYTES

CONNECTIONS_MAX = 10_000

STALE_SECONDS = 10.0
"""After so long it is told that others are not heard: less is no more than a blip."""

GATHER_SECONDS = 0.002
"""How long a round on a disk waits for the next caller; see `Rounds`."""


async def serve(
    options: ApiserverOptions, *, logs: Logs, task_status: trio.TaskStatus[Handle] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until drained or cancelled. Raises what cannot be opened, as a fault for people."""
    clock = SystemClock()
    logger = logs.logger("apiserver")
    metrics = Metrics(version=VERSION, commit=COMMIT, python=platform.python_version())
    instruments = Instruments(metrics, options.backend)
    authenticator, tls, source = _from_files(options, clock, logger)
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_store(options, source, clock=clock, logger=logger))
        store = MeasuredStore(opened, clock=clock, observe=instruments.observe_store)
        limits = Limits(
            options.limits, now_us=clock.boot_us, refused=lambda kind: instruments.limited.labels(kind).inc()
        )
        leases = await stack.enter_async_context(
            open_leases(
                store,
                clock=clock,
                rng=SystemRandom(),
                logger=logger,
                audit=logs.logger("audit"),
                sweeping=Sweeping(options.gc_interval, options.gc_grace),
                limits=limits,
                encode=watch_line,
                gather_seconds=GATHER_SECONDS if options.backend == "sql" else 0,
                shared=cast("SharedStore", opened) if options.is_shared else None,
                recall=cast("RememberingStore", opened).recall if options.backend == "k8s" else None,
            )
        )
        nursery = await stack.enter_async_context(open_service_nursery())
        gate = ReadyGate(leases.ping, nursery)
        remembering = cast("RememberingStore", opened) if options.backend == "k8s" else None
        stale_seconds = (lambda: remembering.stale_seconds) if remembering is not None else (lambda: 0.0)
        instruments.stale.set_function(stale_seconds)
        running = _Running(options, tls, authenticator, gate, logger, leases.end_waiting, stale_seconds)
        handlers = Handlers(
            leases,
            bounds=TtlBounds(options.min_ttl, options.max_ttl),
            auth_mode=authenticator.mode,
            logger=logger,
            waiting=instruments.waiting.inc,
            watching=instruments.watching.inc,
        )
        app = build_app(
            handlers.by_operation,
            authenticator=authenticator,
            limits=limits,
            ready=running.ready,
            logger=logger,
        )
        observed = Observed(app, instruments=instruments, logger=logger, clock=clock)
        instruments.certificate.set_function(lambda: tls.not_after_seconds)
        nursery.start_soon(tls.watch)
        await running.start(nursery, observed, metrics_app(metrics))
        task_status.started(Handle(running.addresses, running.drain, running.reload, {"store": gate}))
        await running.drained.wait()
        nursery.cancel_scope.cancel()


def _from_files(
    options: ApiserverOptions, clock: Clock, logger: Logger
) -> tuple[Authenticator, ServerTls, str]:
    """Keys, certificate and data source, from the files that the options name.

    Every fault in them is told at once: ConfigErrors.
    """
    problems: list[str] = []
    authenticator: Authenticator | None = None
    tls: ServerTls | None = None
    source = ""
    try:
        authenticator = _authenticator(options, logger)
    except KeysInvalid as fault:
        problems.append(f"--api-keys-file: {fault}")
    try:
        tls = _tls(options, clock, logger)
    except TlsInvalid as fault:
        problems.append(f"--tls-cert-file, --tls-key-file: {fault}")
    try:
        source = dsn(options.sql_dsn, options.sql_dsn_file)
    except DsnFileInvalid as fault:
        problems.append(f"--sql-dsn-file: {fault}")
    if authenticator is None or tls is None or problems:
        raise ConfigErrors(problems)
    return authenticator, tls, source


class _Running:
    """The servers of one API server, and what drain and reload do to them."""

    def __init__(
        self,
        options: ApiserverOptions,
        tls: ServerTls,
        authenticator: Authenticator,
        gate: ReadyGate,
        logger: Logger,
        end_waiting: Callable[[], None],
        stale_seconds: Callable[[], float],
    ) -> None:
        self._options = options
        self._tls = tls
        self._authenticator = authenticator
        self._gate = gate
        self._logger = logger
        self._end_waiting = end_waiting
        self._stale_seconds = stale_seconds
        self._servers: list[Server] = []
        self._draining = False
        self.drained = trio.Event()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The API's first, then the metrics'."""
        return tuple(address for server in self._servers for address in server.addresses)

    async def start(self, nursery: trio.Nursery, app: AsgiApp, metrics: AsgiApp) -> None:
        await self._serve(nursery, app, self._options.listen_addr, self._tls)
        if self._options.metrics_addr:
            await self._serve(nursery, metrics, self._options.metrics_addr, None)

    async def _serve(self, nursery: trio.Nursery, app: AsgiApp, address: str, tls: ServerTls | None) -> None:
        serving = partial(
            serve_app,
            app,
            address=address,
            tls=tls,
            logger=self._logger,
            limits=ServeLimits(connections=connections_that_fit(CONNECTIONS_MAX), body_bytes=BATCH_MAX_BYTES),
            error_body=error_body,
        )
        self._servers.append(await nursery.start(serving))

    async def ready(self) -> Readiness:
        if self._draining:
            return Readiness(False, "draining")
        readiness = await self._gate()
        if not readiness.ok or self._stale_seconds() < STALE_SECONDS:
            return readiness
        return Readiness(True, degraded="what other servers write is not heard, lists and watches are old")

    async def drain(self) -> None:
        """Say that it is not ready, serve on for the delay, end what waits, let what is in flight end."""
        self._draining = True
        await trio.sleep(self._options.drain_delay)
        self._end_waiting()
        for server in self._servers:
            await server.drain()
        self.drained.set()

    async def reload(self) -> None:
        """Keys and certificate, each by itself: one that cannot be used does not keep the other back."""
        try:
            keys = self._authenticator.reload()
        except KeysInvalid as fault:
            self._logger.error("API keys cannot be used, the old ones stay", error=str(fault))
        else:
            self._logger.info("API keys reloaded", keys=keys)
        self._tls.reload()


def _authenticator(options: ApiserverOptions, logger: Logger) -> Authenticator:
    if options.auth == "none":
        logger.warning("--auth-mode none: whoever reaches the server may do everything")
        return NoAuthentication()
    assert options.api_keys_file is not None
    keys = StaticKeys(options.api_keys_file)
    if not len(keys):
        logger.warning("the api keys file holds no key: every request will be refused")
    return keys


def _tls(options: ApiserverOptions, clock: Clock, logger: Logger) -> ServerTls:
    assert options.tls_cert_file is not None
    assert options.tls_key_file is not None
    return ServerTls(TlsFiles(options.tls_cert_file, options.tls_key_file), clock=clock, logger=logger)
