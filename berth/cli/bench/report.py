"""Report: what a run has measured, as an object for programs and as a page for people.

Durations are milliseconds, as `…Ms`, rates per second of the elapsed time. Owns no judgement: `safety` made
it while the run went on.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from berth.cli.bench.command import BenchOptions, Scenario
from berth.cli.bench.latencies import Latencies
from berth.cli.bench.load import Load
from berth.cli.bench.safety import Safety
from berth.cli.bench.tally import Operations, Tally
from berth.cli.output import print_data, print_table, printable

PERCENTILES = {"p50Ms": 500, "p95Ms": 950, "p99Ms": 990, "p999Ms": 999}

Result = Mapping[str, Any]


def result_of(
    options: BenchOptions, scenario: Scenario, version: str, load: Load, tally: Tally, safety: Safety
) -> Result:
    """Everything that was asked for and measured, as built-in types."""
    elapsed_seconds = load.elapsed_seconds
    result: dict[str, Any] = {
        "scenario": scenario,
        "mode": options.mode,
        "server": {"url": options.api_server, "version": version},
        "namespace": options.namespace,
        "leases": options.leases,
        "ttlSeconds": options.ttl_seconds,
        "heartbeatSeconds": options.heartbeat,
        "durationSeconds": options.duration,
        "concurrency": options.concurrency,
        "setupSeconds": round(load.setup_seconds, 3),
        "elapsedSeconds": round(elapsed_seconds, 3),
        "requests": {"count": tally.requests, "perSecond": _rate(tally.requests, elapsed_seconds)},
        "operations": {
            name: _operation(kind, elapsed_seconds) for name, kind in sorted(tally.operations.items())
        },
        "driver": {"late": _durations(tally.late), "queued": _durations(tally.queued)},
    }
    if options.mode == "session":
        result["watchEvents"] = tally.events
    if scenario == "coldstart":
        held_seconds = load.all_held_seconds
        result["allHeldMs"] = None if held_seconds is None else round(held_seconds * 1000, 3)
    if scenario == "failover":
        result["takeOver"] = {"expected": load.silenced, **_durations(tally.take_overs)}
    if scenario == "churn":
        result["handOver"] = _durations(tally.hand_overs)
    result["safety"] = {
        "ok": not safety.violations,
        "grants": safety.grants,
        "tenures": safety.tenures,
        "violations": safety.violations,
        "told": safety.told,
    }
    return result


def show(result: Result, form: str) -> None:
    """On stdout: the object, or for people a table and a few lines."""
    if form == "json" or form == "yaml":
        print_data(result, form)
        return
    server = result["server"]
    print(
        f"{result['scenario']}, {result['mode']}: {result['leases']} leases, ttl {result['ttlSeconds']} s, "
        f"heartbeat {result['heartbeatSeconds']:g} s, at most {result['concurrency']} requests in flight\n"
        f"{server['url']} (berth {printable(server['version'])}), {result['elapsedSeconds']:.1f} s, "
        f"{result['requests']['count']} requests, {result['requests']['perSecond']:g} per second\n"
    )
    headings = ("OPERATION", "COUNT", "PER S", "DENIED", "ERRORS", "P50 MS", "P95", "P99", "P99.9", "MAX")
    print_table(headings, [_row(name, each) for name, each in result["operations"].items()])
    print()
    for line in _lines(result):
        print(line)


def _operation(kind: Operations, elapsed_seconds: float) -> Result:
    return {
        "count": kind.count,
        "perSecond": _rate(kind.count, elapsed_seconds),
        "granted": kind.granted,
        "denied": kind.denied,
        "errors": kind.errors.total(),
        "errorsByCode": dict(sorted(kind.errors.items())),
        **_percentiles(kind.latencies),
    }


def _durations(latencies: Latencies) -> Result:
    return {"count": latencies.count, **_percentiles(latencies)}


def _percentiles(latencies: Latencies) -> Result:
    """None where there is no sample."""
    if not latencies.count:
        return {**dict.fromkeys(PERCENTILES), "maxMs": None}
    found = {name: latencies.percentile_us(at) / 1000 for name, at in PERCENTILES.items()}
    return {**found, "maxMs": latencies.max_us / 1000}


def _rate(count: int, elapsed_seconds: float) -> float:
    return round(count / elapsed_seconds, 3) if elapsed_seconds else 0.0


def _row(name: str, operation: Result) -> list[str]:
    counted = [operation["count"], operation["perSecond"], operation["denied"], operation["errors"]]
    return [name, *(f"{value:g}" if value < 1e6 else str(value) for value in counted), *_cells(operation)]


def _cells(durations: Result) -> list[str]:
    values = (durations[name] for name in (*PERCENTILES, "maxMs"))
    return ["" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}" for value in values]


def _lines(result: Result) -> Iterator[str]:
    for name, operation in result["operations"].items():
        for code, count in operation["errorsByCode"].items():
            yield f"{name} failed with {printable(code)}: {count}"
    if "allHeldMs" in result:
        held_ms = result["allHeldMs"]
        yield (
            "not every lease was held" if held_ms is None else f"every lease was held after {held_ms:.0f} ms"
        )
    if "takeOver" in result:
        yield f"of {result['takeOver']['expected']} leases of the silent holder {_told(result['takeOver'])}"
    if "handOver" in result:
        yield f"after a release {_told(result['handOver'])}"
    late, queued = (result["driver"][name]["p99Ms"] for name in ("late", "queued"))
    yield f"this driver: beats late by {late or 0:g} ms, requests held back for {queued or 0:g} ms (p99)"
    safety = result["safety"]
    if safety["ok"]:
        counted = f"{safety['grants']} grants of {safety['tenures']} tenures"
        yield f"safe: one holder at a time and growing tokens, in {counted}"
        return
    yield f"NOT SAFE: {safety['violations']} violations"
    yield from (f"  {printable(text)}" for text in safety["told"])


def _told(durations: Result) -> str:
    if not durations["count"]:
        return "none was taken over"
    p50, _, p99, _, longest = _cells(durations)
    return f"{durations['count']} were taken over, after {p50} ms (p50), {p99} ms (p99), {longest} ms (max)"
