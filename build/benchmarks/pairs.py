"""Two clusters with 2,000 leases, one holding and one standing by, as `berth bench` plays them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable

from .findings import Finding, NotMeasured, Row
from .stage import LOAD_CORE, ROOT, Running, Stage, pinned

LEASES = 2_000
SETTLE_SECONDS = 5
WINDOW_SECONDS = 40


def steady(stage: Stage) -> Finding:
    """Requests and store writes per second that keep 2,000 leases with a standby each."""

    def counts() -> tuple[float, float, float]:
        return (
            server.metric("berth_apiserver_requests_total"),
            server.metric("berth_lease_store_call_duration_seconds_count", op="put"),
            server.cpu_seconds,
        )

    with stage.berth("mem") as server:
        requests, writes, cpu = kept(stage, server, counts)
    could = LEASES / max(cpu, 1 / WINDOW_SECONDS / 100)
    return Finding(
        [
            Row(
                f"requests per second for {LEASES:,} leases, a holder and a standby each",
                "2",
                f"{requests:.2f}",
                "",
                requests <= 2,
            ),
            Row("store writes per second for the same", "1", f"{writes:.2f}", "", writes <= 1),
        ],
        "Ttl 30 s, heartbeat 10 s, measured by `berth bench steady --mode session`. Each cluster keeps two "
        "sessions, whatever the number of its leases, and has one watch that tells it what comes "
        "free. With a renewal for each lease and a question by each standby it would be "
        f"{2 * LEASES / 10:.0f} requests a second. The server used {cpu:.2%} of its core, so that "
        f"one core would keep {could:,.0f} leases alive.",
    )


def kept(stage: Stage, server: Running, counts: Callable[[], tuple[float, ...]]) -> list[float]:
    """By how much each of the `counts` grows in a second while the leases are held. Raises NotMeasured."""
    command = [
        *(*pinned(LOAD_CORE), sys.executable, "-m", "berth", "bench", "steady", "--mode=session"),
        *(f"--leases={LEASES}", "--ttl=30s", "--heartbeat=10s", f"--duration={WINDOW_SECONDS + 30}s"),
        *(f"--api-server={server.url}", f"--ca-file={stage.files.ca}", "--output=json"),
    ]
    bench = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while server.metric("berth_apiserver_lease_outcomes_total", outcome="acquired") <= LEASES:
            if bench.poll() is not None or time.monotonic() > deadline:
                raise NotMeasured("the leases were not held in time")
            time.sleep(0.5)
        time.sleep(SETTLE_SECONDS)
        before, begun = counts(), time.monotonic()
        time.sleep(WINDOW_SECONDS)
        grown = [after - was for after, was in zip(counts(), before, strict=True)]
        elapsed = time.monotonic() - begun
        out, _ = bench.communicate(timeout=120)
    finally:
        bench.kill()
    result = json.loads(out)
    if not result["safety"]["ok"] or bench.returncode:
        raise NotMeasured(f"berth bench ended with {bench.returncode}")
    return [each / elapsed for each in grown]
