"""PostgreSQL and MariaDB: durable renewals, transactions, and two servers of which one is stopped.

The database is on the file system of the machine's temporary files, with its own defaults, which are durable,
and on whichever core is free.
"""

import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest

from tests.support.databases import DatabaseServer
from tests.support.mariadb import mariadb
from tests.support.postgres import Postgres, postgres

from . import pairs, renewals, single, wire
from .findings import Finding, NotMeasured, Row, thousands
from .stage import Running, Stage

ServerT = TypeVar("ServerT", bound=DatabaseServer)

LEASES = 2_000
CONNECTIONS = (1, 2, 4, 1, 2, 4)
PEER_CLIENTS = 8
PEER_SECONDS = 3
PEER_SCRIPT = """\
\\set number random(0, 1999)
UPDATE peer SET renewed = now() WHERE name = 'lease-' || :number AND token = 1 AND holder = 'bench';
"""
STATISTICS_SECONDS = 2.0
"""PostgreSQL's backends tell their numbers after a second at the latest."""

REQUESTS_PER_SECOND = 200
CALLERS = 20
STOP_AFTER_SECONDS, STOPPED_SECONDS = 4.0, 6.0


def durable(stage: Stage) -> Finding:
    """Durable renewals per second in batches of 1,000 on PostgreSQL and MariaDB, and pgbench, one each."""
    rates: list[wire.Rate] = []
    peers: list[float] = []
    with _serving(postgres) as database, _berth(stage, database) as server:
        requests = renewals.renewals(stage, server, LEASES)
        _prepare_peer(database)
        for connections in CONNECTIONS:
            rates.append(renewals.rate(stage, server, requests, connections))
            peers.append(_pgbench(stage, database))
    with _serving(mariadb) as database, _berth(stage, database) as server:
        requests = renewals.renewals(stage, server, LEASES)
        on_mariadb = max(renewals.rate(stage, server, requests, each) for each in CONNECTIONS[:3])
    ours, peer = max(rates), max(peers)
    ratio = ours.per_second / peer
    return Finding(
        [
            Row(
                f"durable renewals in batches of 1,000 on PostgreSQL, {LEASES:,} leases, against pgbench, "
                f"one `UPDATE` a renewal on {PEER_CLIENTS} connections",
                "4 x pgbench",
                f"{thousands(ours.per_second)}/s; pgbench {thousands(peer)}/s",
                f"{ratio:.2f}",
                ratio >= 4,
            ),
            Row("the same on MariaDB", "", f"{thousands(on_mariadb.per_second)}/s"),
        ],
        f"Both commit durably on the same PostgreSQL, one after the other. The API server used "
        f"{ours.server_cpu:.0%} of its core, the load {ours.load_cpu:.0%} of the other, where PostgreSQL's "
        "backends run too. A batch is one read and one write of 1,000 rows. "
        + (_held_back(ours, peer) if ratio < 4 else ""),
    )


def _held_back(ours: wire.Rate, peer: float) -> str:
    cost_us, goal_us = (1e6 * ours.server_cpu / ours.per_second, 1e6 / (4 * peer))
    return (
        f"What holds it back is the server's one core, and the wait for PostgreSQL on the other: 4 x pgbench "
        f"would be {goal_us:.1f} µs a renewal in all, and berth takes {cost_us:.1f} µs of CPU. By a profile "
        "a third of that is TLS, HTTP and JSON, a third the driver and the rows that go to and fro, a third "
        "checking and deciding. Two batches are all that 2,000 leases make: no third one fills the wait."
    )


def transactions(stage: Stage) -> Finding:
    """Transactions of PostgreSQL per 1,000 single renewals by 64 clients, and per second for 2,000 leases."""
    with _serving(postgres) as database:
        with _berth(stage, database) as server:
            per_thousand = _per_thousand(stage, database, server)
        database.empty()
        with _berth(stage, database) as server:
            (a_second,) = pairs.kept(stage, server, lambda: (float(_transactions(database)),))
    return Finding(
        [
            Row(
                "PostgreSQL's transactions per 1,000 single renewals, 64 clients at once",
                "at most 150",
                f"{per_thousand:.0f}",
                "",
                per_thousand <= 150,
            ),
            Row(
                f"PostgreSQL's transactions per second for {pairs.LEASES:,} leases, a holder and a standby "
                "each",
                "under 1",
                f"{a_second:.2f}",
                "",
                a_second < 1,
            ),
        ],
        "As `pg_stat_database` counts them, reads included. The 2,000 leases have a ttl of 30 s, a heartbeat "
        "of 10 s and sessions, as on the memory store.",
    )


def stopped(stage: Stage) -> Finding:
    """Requests lost when one of two API servers on one PostgreSQL is stopped under 200 requests a second."""
    with (
        _serving(postgres) as database,
        _berth(stage, database) as leaving,
        _berth(stage, database) as staying,
    ):
        connection = wire.Connection(stage, staying)
        tokens = wire.fill(connection, [f"lease-{number}" for number in range(CALLERS)])
        connection.close()
        until = time.monotonic() + STOP_AFTER_SECONDS + STOPPED_SECONDS
        with ThreadPoolExecutor(CALLERS + 1) as pool:
            callers = [
                pool.submit(_Caller(stage, (leaving, staying), number, token).run, until)
                for number, token in enumerate(tokens)
            ]
            time.sleep(STOP_AFTER_SECONDS)
            leaving.process.send_signal(signal.SIGTERM)
            told = [each.result() for each in callers]
        sent, retried, lost = (sum(column) for column in zip(*told, strict=True))
        if leaving.process.poll() is None:
            raise NotMeasured("the server did not stop")
    return Finding(
        [
            Row(
                "requests lost when one of two API servers is stopped (SIGTERM) under 200 requests a second",
                "none after one retry",
                f"{lost} of {sent:,}",
                "",
                lost == 0,
            )
        ],
        f"{CALLERS} callers renew a lease each, every second one's first choice is the server that stops; "
        f"{retried} requests had to be made again at the other server.",
    )


class _Caller:
    """Renews one lease at its pace, at its server; a request that fails is made once more at the other."""

    def __init__(self, stage: Stage, servers: tuple[Running, Running], number: int, token: int) -> None:
        self._stage = stage
        self._servers = servers if number % 2 else servers[::-1]
        body = {"holder": wire.HOLDER, "fencingToken": token, "ttlSeconds": 86_400}
        self._request = wire.post(f"{wire.LEASES_PATH}/lease-{number}/renew", body)
        self._connections: dict[int, wire.Connection] = {}

    def run(self, until: float) -> tuple[int, int, int]:
        """How many were sent, made again, and lost."""
        pause = CALLERS / REQUESTS_PER_SECOND
        sent = retried = lost = first = 0
        begun = time.monotonic()
        while time.monotonic() < until:
            sent += 1
            if not self._renewed(first):
                retried += 1
                first = 1 - first
                lost += not self._renewed(first)
            time.sleep(max(0.0, begun + sent * pause - time.monotonic()))
        return sent, retried, lost

    def _renewed(self, at: int) -> bool:
        try:
            if at not in self._connections:
                self._connections[at] = wire.Connection(self._stage, self._servers[at])
            self._connections[at].send(self._request)
            wire.granted(self._connections[at].receive())
        except (OSError, NotMeasured):
            self._connections.pop(at, None)
            return False
        return True


@contextmanager
def _serving(start: Callable[[], AbstractContextManager[ServerT]]) -> Iterator[ServerT]:
    """A database server. Raises NotMeasured where it is not installed."""
    with ExitStack() as stack:
        try:
            database = stack.enter_context(start())
        except pytest.skip.Exception as reason:
            raise NotMeasured(str(reason)) from None
        yield database


def _berth(stage: Stage, database: DatabaseServer) -> AbstractContextManager[Running]:
    driver = "postgres" if isinstance(database, Postgres) else "mysql"
    return stage.berth(driver, database.source)


def _prepare_peer(database: Postgres) -> None:
    """A table of leases as plain as can be, with the rows that berth has."""
    database.on(
        "CREATE TABLE peer (name text PRIMARY KEY, holder text, token integer, renewed timestamptz); "
        f"INSERT INTO peer SELECT 'lease-' || n, 'bench', 1, now() FROM generate_series(0, {LEASES - 1}) n"
    )


def _pgbench(stage: Stage, database: Postgres) -> float:
    """Updates per second, each with a commit of its own."""
    script = stage.directory / "peer.sql"
    script.write_text(PEER_SCRIPT)
    command = [
        *(str(database.programs / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--file={script}"),
        *(f"--client={PEER_CLIENTS}", "--jobs=1", f"--time={PEER_SECONDS}", database.dsn),
    ]
    told = stage.load(command, within_seconds=PEER_SECONDS + 60)
    found = re.search(r"tps = ([0-9.]+) \(without initial", told)
    if found is None:
        raise NotMeasured(f"pgbench told {told[-300:]}")
    return float(found[1])


def _per_thousand(stage: Stage, database: Postgres, server: Running) -> float:
    """With what acquires the leases beforehand, which is one batch."""
    before, renewed_before = _transactions(database), single.renewed(server)
    single.renewals_per_second(stage, server)
    return 1000 * (_transactions(database) - before) / (single.renewed(server) - renewed_before)


def _transactions(database: Postgres) -> int:
    time.sleep(STATISTICS_SECONDS)
    ((number,),) = database.on(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'berth'"
    )
    return number
