"""Stores: opens the store that the options name."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from berth.config.secret import Secret
from berth.roles.apiserver.options import ApiserverOptions, Driver
from berth.runtime.clock import Clock, boot_id
from berth.runtime.log import Logger
from berth.store.api import Store
from berth.store.memory import MemoryStore
from berth.store.schema import Migrate
from berth.store.sql_store import POOL_SIZE, Settings

DSN_MAX_BYTES = 65_536
CLUSTER_QPS, CLUSTER_BURST = 100.0, 200


class DsnFileInvalid(Exception):
    """The file cannot be used; the text says why, and holds nothing of it."""


@asynccontextmanager
async def open_store(
    options: ApiserverOptions, source: str, *, clock: Clock, logger: Logger
) -> AsyncGenerator[Store]:
    """The store, closed after the body; `source` is what `dsn` gave. Raises `StoreRefused`."""
    if options.backend == "mem":
        if options.store_backend is None:
            logger.warning(
                "no --store-backend given: leases are kept in memory; say --store-backend mem, sql or k8s"
            )
        logger.warning(
            "the memory store forgets all leases and tokens with the process: "
            "exclusion is not promised across its restarts"
        )
        yield MemoryStore(clock, quarantine_seconds=options.mem_quarantine)
        return
    if options.backend == "k8s":
        async with _open_cluster(options, clock, logger) as store:
            yield store
        return
    assert options.sql_driver is not None
    if options.sql_driver == "sqlite":
        logger.info("the sqlite store serves one process on one machine")
    elif options.sql_dsn is not None:
        logger.warning("a data source given by --sql-dsn shows in the list of processes: use --sql-dsn-file")
    settings = Settings(
        clock, logger, options.sql_pool_size or POOL_SIZE, options.store_durability or "async"
    )
    async with open_sql(options.sql_driver, source, settings, options.sql_migrate or "auto") as store:
        yield store


def _open_cluster(
    options: ApiserverOptions, clock: Clock, logger: Logger
) -> AbstractAsyncContextManager[Store]:
    """A rate of nothing means the usual one, as the reference server has it."""
    from berth.store.kubernetes_opening import KubernetesSettings, open_kubernetes

    assert options.coordination_namespace is not None
    qps, burst = options.k8s_qps or 0, options.k8s_burst or 0
    return open_kubernetes(
        KubernetesSettings(
            options.coordination_namespace,
            options.coordination_kubeconfig,
            qps if qps > 0 else CLUSTER_QPS,
            burst if burst > 0 else CLUSTER_BURST,
            clock,
            logger,
        )
    )


def open_sql(
    driver: Driver, source: str, settings: Settings, migrate: Migrate
) -> AbstractAsyncContextManager[Store]:
    """The sql store. Its driver is loaded only if it is the one that is asked for. Raises `StoreRefused`."""
    if driver == "sqlite":
        from berth.store.sqlite import open_sqlite

        return open_sqlite(source, clock=settings.clock, boot_id=boot_id(), migrate=migrate)
    if driver == "postgres":
        from berth.store.postgres import open_postgres

        return open_postgres(source, settings, migrate=migrate)
    from berth.store.mariadb import open_mariadb

    return open_mariadb(source, settings, migrate=migrate)


def dsn(given: Secret | None, file: Path | None) -> str:
    """The data source of the sql store, empty where none is given. Raises `DsnFileInvalid`."""
    if given is not None:
        return given.reveal()
    return _read_dsn(file) if file is not None else ""


def _read_dsn(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            text = opened.read(DSN_MAX_BYTES).decode().strip()
    except OSError as error:
        raise DsnFileInvalid(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DsnFileInvalid(f"{file} is not UTF-8 text") from error
    if not text:
        raise DsnFileInvalid(f"{file} is empty; write the data source into it")
    return text
