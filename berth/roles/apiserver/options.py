"""What an operator can say to the API server, declared once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from berth.config.address import address_problems
from berth.config.common import LogOptions
from berth.config.kinds import Duration
from berth.config.option import Opt
from berth.config.secret import Secret
from berth.core.names import namespace_problem
from berth.service.limits import LimitSettings

Driver = Literal["postgres", "mysql", "sqlite"]

_POOL_MOST = 100
_TTL_LEAST_SECONDS = 1.0
_TTL_MOST_SECONDS = float(2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class ApiserverOptions(LogOptions):
    listen_addr: Annotated[str, Opt("Address to serve the lease API on, over TLS", metavar="ADDR")] = ":8443"
    metrics_addr: Annotated[
        str,
        Opt("Address to serve metrics on, over plain HTTP; empty: none", metavar="ADDR", empty_is_value=True),
    ] = ":8080"
    tls_cert_file: Annotated[
        Path | None, Opt("PEM certificate with its chain; read again when it changes", reloadable=True)
    ] = None
    tls_key_file: Annotated[
        Path | None, Opt("PEM private key of the certificate; read again when it changes", reloadable=True)
    ] = None
    store_backend: Annotated[
        Literal["mem", "sql", "k8s"] | None,
        Opt("Where leases are kept: mem (with a warning) unless given; it forgets them with the process"),
    ] = None
    sql_driver: Annotated[Driver | None, Opt("Kind of the sql store; mysql is MariaDB, too")] = None
    sql_dsn: Annotated[
        Secret | None,
        Opt(
            "Data source of the sql store: postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full, "
            "USER:PASSWORD@tcp(HOST:PORT)/DATABASE?tls=true, or for sqlite the path of its file",
            metavar="DSN",
        ),
    ] = None
    sql_dsn_file: Annotated[Path | None, Opt("File that holds the data source", instead_of="sql_dsn")] = None
    sql_migrate: Annotated[
        Literal["auto", "off"] | None,
        Opt("Bring the schema up to date at the start, or only verify it (auto unless given)"),
    ] = None
    sql_pool_size: Annotated[
        int | None, Opt("Connections to the database, for postgres and mysql (8 unless given)")
    ] = None
    store_durability: Annotated[
        Literal["async", "sync"] | None,
        Opt(
            "Whether a failover of the database may lose its last writes (async), or never does (sync): then "
            "nothing is quarantined after one (async unless given)"
        ),
    ] = None
    coordination_namespace: Annotated[
        str | None, Opt("Namespace of the Lease objects of the k8s store", metavar="NAMESPACE")
    ] = None
    coordination_kubeconfig: Annotated[
        Path | None, Opt("Kubeconfig of the cluster of the k8s store; without it, as a pod of the cluster")
    ] = None
    k8s_qps: Annotated[
        float | None, Opt("Requests a second to the cluster of the k8s store (100 unless given)")
    ] = None
    k8s_burst: Annotated[
        int | None, Opt("Requests to the cluster of the k8s store in a burst (200 unless given)")
    ] = None
    auth_mode: Annotated[
        Literal["none", "static-keys"] | None,
        Opt("Who may call: anybody, or holders of a key (none for mem, else static-keys, unless given)"),
    ] = None
    api_keys_file: Annotated[
        Path | None,
        Opt("Keys, one a line: ID:SHA256-HEX[:reader|holder|admin]; read again on SIGHUP", reloadable=True),
    ] = None
    min_ttl: Annotated[Duration, Opt("Shortest ttl that is granted")] = 1.0
    max_ttl: Annotated[Duration, Opt("Longest ttl that is granted")] = 86_400.0
    max_rate: Annotated[
        int, Opt("Operations a second of one tenant, other than those that keep leases; 0: no limit")
    ] = 0
    max_renew_rate: Annotated[int, Opt("Renewals and releases a second of one tenant; 0: no limit")] = 0
    max_waiting: Annotated[int, Opt("Acquires of one tenant that may wait at a time; 0: no limit")] = 0
    max_watching: Annotated[int, Opt("Watches of one tenant at a time; 0: no limit")] = 0
    max_leases: Annotated[
        int, Opt("Leases that one tenant may hold, and wait for, at a time on this server; 0: no limit")
    ] = 0
    mem_quarantine: Annotated[
        Duration, Opt("How long after its start the mem store grants nothing, for exclusion across a restart")
    ] = 0.0
    gc_interval: Annotated[Duration, Opt("How often expired tenures are written down as ended; 0: never")] = (
        30.0
    )
    gc_grace: Annotated[Duration, Opt("How long after its expiry a tenure is left as it is")] = 300.0
    drain_delay: Annotated[
        Duration, Opt("How long a stopping server still serves while it says that it is not ready")
    ] = 0.0

    @property
    def backend(self) -> Literal["mem", "sql", "k8s"]:
        return self.store_backend or "mem"

    @property
    def is_shared(self) -> bool:
        """Whether other servers may use the same store."""
        return self.backend == "k8s" or (self.backend == "sql" and self.sql_driver != "sqlite")

    @property
    def limits(self) -> LimitSettings:
        """Limits are of tenants: where everybody may do everything there are none."""
        if self.auth == "none":
            return LimitSettings()
        return LimitSettings(
            self.max_rate, self.max_renew_rate, self.max_waiting, self.max_watching, self.max_leases
        )

    @property
    def auth(self) -> Literal["none", "static-keys"]:
        return self.auth_mode or ("none" if self.backend == "mem" else "static-keys")

    def problems(self) -> list[str]:
        return [
            *address_problems(listen_addr=self.listen_addr, metrics_addr=self.metrics_addr),
            *self._tls_problems(),
            *self._store_problems(),
            *self._cluster_problems(),
            *self._auth_problems(),
            *self._ttl_problems(),
            *self._limit_problems(),
        ]

    def _tls_problems(self) -> Iterator[str]:
        missing = [
            flag
            for flag, given in (
                ("--tls-cert-file", self.tls_cert_file),
                ("--tls-key-file", self.tls_key_file),
            )
            if given is None
        ]
        if missing:
            yield (
                f"{' and '.join(missing)}: required, the API is served over TLS only "
                "(`berth dev` makes a certificate for trying things out)"
            )

    def _store_problems(self) -> Iterator[str]:
        sql = {
            "--sql-driver": self.sql_driver,
            "--sql-dsn": self.sql_dsn,
            "--sql-dsn-file": self.sql_dsn_file,
            "--sql-migrate": self.sql_migrate,
            "--sql-pool-size": self.sql_pool_size,
            "--store-durability": self.store_durability,
        }
        if self.backend != "sql":
            given = [flag for flag, value in sql.items() if value is not None]
            if given:
                yield f"{', '.join(given)}: only with --store-backend sql"
            return
        if self.sql_driver is None:
            yield "--sql-driver: required with --store-backend sql (postgres, mysql or sqlite)"
        if self.sql_driver == "sqlite" and (self.sql_pool_size or self.store_durability) is not None:
            yield "--sql-pool-size, --store-durability: only with --sql-driver postgres or mysql"
        if self.sql_pool_size is not None and not 1 <= self.sql_pool_size <= _POOL_MOST:
            yield f"--sql-pool-size: must be 1 to {_POOL_MOST}"
        if self.sql_dsn is None and self.sql_dsn_file is None:
            yield "--sql-dsn, --sql-dsn-file: one of them is required with --store-backend sql"

    def _cluster_problems(self) -> Iterator[str]:
        cluster = {
            "--coordination-namespace": self.coordination_namespace,
            "--coordination-kubeconfig": self.coordination_kubeconfig,
            "--k8s-qps": self.k8s_qps,
            "--k8s-burst": self.k8s_burst,
        }
        given = [flag for flag, value in cluster.items() if value is not None]
        if self.backend != "k8s":
            if given:
                yield f"{', '.join(given)}: only with --store-backend k8s"
        elif self.coordination_namespace is None:
            yield "--coordination-namespace: required with --store-backend k8s"
        elif problem := namespace_problem(self.coordination_namespace):
            yield f"--coordination-namespace: {problem}"
        if self.mem_quarantine and self.backend != "mem":
            yield "--mem-quarantine: only with --store-backend mem"

    def _auth_problems(self) -> Iterator[str]:
        if self.auth == "static-keys" and self.api_keys_file is None:
            yield "--api-keys-file: required with --auth-mode static-keys (or say --auth-mode none)"
        if self.auth != "static-keys" and self.api_keys_file is not None:
            yield "--api-keys-file: only with --auth-mode static-keys"

    def _limit_problems(self) -> Iterator[str]:
        limits = {
            "--max-rate": self.max_rate,
            "--max-renew-rate": self.max_renew_rate,
            "--max-waiting": self.max_waiting,
            "--max-watching": self.max_watching,
            "--max-leases": self.max_leases,
        }
        negative = [flag for flag, value in limits.items() if value < 0]
        if negative:
            yield f"{', '.join(negative)}: must be 0 (no limit) or more"
        given = [flag for flag, value in limits.items() if value]
        if given and self.auth == "none":
            yield f"{', '.join(given)}: limits are of tenants, and with --auth-mode none there are none"

    def _ttl_problems(self) -> Iterator[str]:
        if not _TTL_LEAST_SECONDS <= self.min_ttl <= self.max_ttl <= _TTL_MOST_SECONDS:
            yield "--min-ttl, --max-ttl: must satisfy 1s <= min-ttl <= max-ttl"
