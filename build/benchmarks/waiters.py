"""Waiters: from a release, and from an expiry, to the reply of who waits next in line."""

import time
from collections.abc import Sequence
from threading import Thread

from . import wire
from .findings import Finding, Row, percentile
from .stage import Running, Stage

ROUNDS = 300
EXPIRIES = 60
AT_ONCE = 20
TTL_SECONDS = 1


def release(stage: Stage) -> Finding:
    """From the sending of a release to the next waiter's reply."""
    with stage.berth("mem") as server:
        samples = releases(stage, server, server)
    p50, p99 = 1000 * percentile(samples, 0.5), 1000 * percentile(samples, 0.99)
    return Finding(
        [Row("from a release to the next waiter's reply, p99", "20 ms", f"{p99:.1f} ms", "", p99 < 20)],
        f"{ROUNDS} hand-overs of one lease between two connections, memory store: p50 {p50:.1f} ms, max "
        f"{1000 * max(samples):.1f} ms. It is the time of two requests; nothing is waited for.",
    )


def expiry(stage: Stage) -> Finding:
    """From the end of a ttl to the next waiter's reply."""
    with stage.berth("mem") as server:
        samples = [
            sample
            for at in range(0, EXPIRIES, AT_ONCE)
            for sample in _expiries(stage, server, range(at, at + AT_ONCE))
        ]
    p50, p99 = 1000 * percentile(samples, 0.5), 1000 * percentile(samples, 0.99)
    return Finding(
        [
            Row(
                "from an expiry to the next waiter's reply, p99",
                "50 ms",
                f"{p99:.1f} ms",
                "",
                p99 < 50 and min(samples) >= 0,
            )
        ],
        f"{EXPIRIES} leases of {TTL_SECONDS} s, memory store, counted from the sending of the acquire that "
        f"held, plus the ttl: p50 {p50:.1f} ms, max {1000 * max(samples):.1f} ms. The least, "
        f"{1000 * min(samples):.1f} ms, must not be below 0: nobody is early.",
    )


def _acquire(name: str, holder: str, **fields: object) -> bytes:
    return wire.post(f"{wire.LEASES_PATH}/{name}/acquire", {"holder": holder, **fields})


def releases(stage: Stage, *servers: Running) -> list[float]:
    """Between two parties, of whom each asks its own server."""
    connections = [wire.Connection(stage, server) for server in servers]
    token = connections[0].ask(_acquire("turns", "party-0", ttlSeconds=3600))["fencingToken"]
    samples: list[float] = []
    for turn in range(ROUNDS):
        holder, waiter = turn % 2, (turn + 1) % 2
        connections[waiter].send(_acquire("turns", f"party-{waiter}", ttlSeconds=3600, waitSeconds=30))
        time.sleep(0.02)  # until it stands in line
        gone = wire.post(
            f"{wire.LEASES_PATH}/turns/release", {"holder": f"party-{holder}", "fencingToken": token}
        )
        sent = time.monotonic()
        connections[holder].send(gone)
        reply = wire.granted(connections[waiter].receive())
        samples.append(time.monotonic() - sent)
        connections[holder].receive()
        token = reply["fencingToken"]
    for connection in connections:
        connection.close()
    return samples


def _expiries(stage: Stage, server: Running, numbers: Sequence[int]) -> list[float]:
    """All of the leases at once, spread over their ttl so that no two end in one moment."""
    samples: list[float] = []
    holding = wire.Connection(stage, server)
    waiting = [wire.Connection(stage, server) for _ in numbers]

    def wait(connection: wire.Connection, number: int, until: float) -> None:
        connection.send(_acquire(f"short-{number}", "next", ttlSeconds=60, waitSeconds=30))
        wire.granted(connection.receive())
        samples.append(time.monotonic() - until)

    threads: list[Thread] = []
    for connection, number in zip(waiting, numbers, strict=True):
        sent = time.monotonic()
        holding.send(_acquire(f"short-{number}", "first", ttlSeconds=TTL_SECONDS))
        wire.granted(holding.receive())
        threads.append(Thread(target=wait, args=(connection, number, sent + TTL_SECONDS)))
        threads[-1].start()
        time.sleep(TTL_SECONDS / len(numbers))
    for thread in threads:
        thread.join(wire.WAIT_SECONDS)
    for connection in (holding, *waiting):
        connection.close()
    return samples
