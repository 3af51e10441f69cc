"""Scale: one acquire among a million leases and among a thousand."""

import statistics
import time

from . import wire
from .findings import Finding, Row
from .stage import Stage

FEW, MANY = 1_000, 1_000_000
WARM, SAMPLES = 200, 2_000


def acquire(stage: Stage) -> Finding:
    """One acquire at 1,000,000 leases against one at 1,000, on both stores."""
    rows: list[Row] = []
    words: list[str] = []
    for store, word in (("mem", "memory"), ("sqlite", "SQLite")):
        # Two servers, asked in turn: whatever else the machine does, it does to both.
        with stage.berth(store) as few_server, stage.berth(store) as many_server:
            many = wire.Connection(stage, many_server)
            begun = time.monotonic()
            for at in range(0, MANY, 10 * wire.BATCH):
                wire.fill(many, [f"lease-{number}" for number in range(at, at + 10 * wire.BATCH)])
            filled = MANY / (time.monotonic() - begun)
            few = wire.Connection(stage, few_server)
            wire.fill(few, [f"lease-{number}" for number in range(FEW)])
            pairs = [(_seconds(few, number), _seconds(many, number)) for number in range(WARM + SAMPLES)]
            at_few, at_many = (statistics.median(side) for side in zip(*pairs[WARM:], strict=True))
            size = many_server.rss_bytes / 2**20
            few.close()
            many.close()
        rows.append(
            Row(
                f"one acquire at {MANY:,} leases against at {FEW:,}, {word}",
                "1.5 x",
                f"{1000 * at_many:.2f} ms; {1000 * at_few:.2f} ms",
                f"{at_many / at_few:.2f}",
                at_many <= 1.5 * at_few,
            )
        )
        words.append(
            f"On {word}, medians of {SAMPLES:,} acquires of new leases, one after the other. The leases were "
            f"filled in by batches of {wire.BATCH:,}, {filled:,.0f} a second; the server then had "
            f"{size:,.0f} MiB."
        )
    return Finding(rows, " ".join(words))


def _seconds(connection: wire.Connection, number: int) -> float:
    request = wire.post(
        f"{wire.LEASES_PATH}/another-{number}/acquire", {"holder": wire.HOLDER, "ttlSeconds": 86_400}
    )
    begun = time.monotonic()
    connection.send(request)
    reply = connection.receive()
    elapsed = time.monotonic() - begun
    wire.granted(reply)
    return elapsed
