"""Runs the measures that are named, or all of them and then writes the page."""

import signal
import sys
import time
import traceback
from collections.abc import Callable

from . import (
    databases,
    etcd,
    kubernetes,
    machine,
    memory,
    operators,
    page,
    pairs,
    renewals,
    scale,
    single,
    startup,
    takeover,
    waiters,
)
from .findings import Finding, NotMeasured
from .stage import Stage, open_stage

Measure = Callable[[Stage], Finding]

MEASURES: dict[str, Measure] = {
    "renewals": renewals.memory,
    "single": single.serving,
    "commits": single.shared_commits,
    "durable": renewals.sqlite,
    "steady": pairs.steady,
    "release": waiters.release,
    "expiry": waiters.expiry,
    "scale": scale.acquire,
    "memory": memory.each,
    "etcd": etcd.renewals,
    "databases": databases.durable,
    "transactions": databases.transactions,
    "stopped": databases.stopped,
    "kubernetes": kubernetes.each,
    "operator": operators.kept_and_lost,
    "takeover": takeover.between_clusters,
    "startup": startup.times,
}


def main() -> int:
    names = sys.argv[1:] or list(MEASURES)
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        print(f"no measure {', '.join(unknown)}; there are: {', '.join(MEASURES)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left
    facts, quiet, begun = machine.facts(), machine.is_quiet(), time.monotonic()
    with open_stage() as stage:
        found = {name: measured(name, stage) for name in names}
    if not sys.argv[1:]:
        titles = {name: measure.__doc__ or name for name, measure in MEASURES.items()}
        minutes = max(1, round((time.monotonic() - begun) / 60))
        print(
            f"wrote {page.write(found, titles, facts, stage.commands.values(), minutes=minutes, quiet=quiet)}"
        )
    return 0


def measured(name: str, stage: Stage) -> Finding | NotMeasured:
    """One measure, told as it is there. A measure that fails does not keep the others from the page."""
    print(f"{name}: {MEASURES[name].__doc__}", flush=True)
    begun = time.monotonic()
    try:
        found = MEASURES[name](stage)
    except NotMeasured as reason:
        found = reason
    except Exception as fault:  # noqa: BLE001 - it is told on the page
        traceback.print_exc()
        found = NotMeasured(f"{type(fault).__name__}: {fault}")
    print(page.told(found), f"  ({time.monotonic() - begun:.0f} s)\n", sep="\n", flush=True)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
