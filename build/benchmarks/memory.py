"""Memory: what a lease, a waiter and a watcher cost the server, with their connections."""

import resource
import time

from . import wire
from .findings import Finding, Row
from .stage import Running, Stage

LEASES = 100_000
CLIENTS = 400


def each(stage: Stage) -> Finding:
    """Resident memory per lease, per waiter and per watcher."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with stage.berth("mem") as server:
        connection = wire.Connection(stage, server)
        wire.fill(connection, [f"warm-{number}" for number in range(5_000)])
        before = _settled(server)
        wire.fill(connection, [f"lease-{number}" for number in range(LEASES)])
        lease = (_settled(server) - before) / LEASES
        connection.close()
    with stage.berth("mem") as server:
        connection = wire.Connection(stage, server)
        wire.fill(connection, ["wanted"])
        waiter = _per_client(
            stage,
            server,
            [
                wire.post(
                    f"{wire.LEASES_PATH}/wanted/acquire",
                    {"holder": f"waiter-{number}", "ttlSeconds": 60, "waitSeconds": 60},
                )
                for number in range(CLIENTS)
            ],
        )
        connection.close()
    with stage.berth("mem") as server:
        watch = f"GET {wire.LEASES_PATH}?watch=true HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        watcher = _per_client(stage, server, [watch] * CLIENTS)
    kib = 1024
    return Finding(
        [
            Row("memory per lease", "under 1 KiB", f"{lease / kib:.2f} KiB", "", lease < kib),
            Row(
                "memory per waiter, with its TLS connection",
                "under 100 KiB",
                f"{waiter / kib:.0f} KiB",
                "",
                waiter < 100 * kib,
            ),
            Row(
                "memory per watcher, with its TLS connection",
                "under 100 KiB",
                f"{watcher / kib:.0f} KiB",
                "",
                watcher < 100 * kib,
            ),
        ],
        f"Growth of the server's resident memory over {LEASES:,} leases with short names on the memory "
        f"store, and over {CLIENTS} clients that each wait, or watch, on a connection of their own.",
    )


def _per_client(stage: Stage, server: Running, requests: list[bytes]) -> float:
    """The first tenth warms the server up and is not counted."""
    warm = len(requests) // 10
    connections: list[wire.Connection] = []
    before = 0
    for number, request in enumerate(requests):
        if number == warm:
            before = _settled(server)
        connections.append(wire.Connection(stage, server))
        connections[-1].send(request)
    grown = _settled(server) - before
    for connection in connections:
        connection.close()
    return grown / (len(requests) - warm)


def _settled(server: Running) -> int:
    time.sleep(1.5)
    return server.rss_bytes
