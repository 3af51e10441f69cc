"""`python -m tests.histories.broken RULE apiserver …`: a real server in which one rule is broken.

Owns the rules, and how each is broken; a history that such servers make must be found to be wrong. The
breach is in the server's own process, and in every replica of a run.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from berth.core import decide, standing
from berth.core.names import Key
from berth.core.records import Observed, Record
from berth.service import rounds
from berth.service.leases import LeaseService
from berth.store import mariadb_statements, postgres_statements
from berth.store.api import Store, StoreFault, Write
from tests.sim.mutants import broken

STALE_READS = 5

Breach = Callable[[pytest.MonkeyPatch], None]


def _not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (postgres_statements, mariadb_statements):
        real = module.statements

        def statements(*given: Any, real: Callable[..., Any] = real) -> Any:
            found = real(*given)
            return found._replace(
                **{
                    name: text.replace("l.version = w.version - 1", "true")
                    for name, text in found._asdict().items()
                }
            )

        monkeypatch.setattr(module, "statements", statements)


def _lost_told_as_won(monkeypatch: pytest.MonkeyPatch) -> None:
    real = rounds.written

    async def written(store: Store, writes: Sequence[Write]) -> Any:
        _, failed = await real(store, writes)
        targets = {write.key if isinstance(write, Record) else write.id for write in writes}
        return targets - failed.keys(), failed

    monkeypatch.setattr(rounds, "written", written)


def _stale_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    real = LeaseService.get
    seen: dict[Key, list[Observed]] = {}

    async def get(self: LeaseService, key: Key) -> Observed:
        known = seen.setdefault(key, [])
        if not known or len(known) > STALE_READS:
            known[:] = [await real(self, key)]
        else:
            known.append(known[0])
        return known[0]

    monkeypatch.setattr(LeaseService, "get", get)


def _unknown_told_as_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    real = StoreFault.__init__

    def init(self: StoreFault, text: str, *, outcome_known: bool, retry_after_seconds: float = 1.0) -> None:
        real(self, text, outcome_known=True, retry_after_seconds=retry_after_seconds)

    monkeypatch.setattr(StoreFault, "__init__", init)


BREACHES: dict[str, Breach] = {
    "writes are not compared": _not_compared,
    "a lost write is told as won": _lost_told_as_won,
    "reads are stale": _stale_reads,
    "an unknown outcome is told as not done": _unknown_told_as_not_done,
    "an expiry comes early": broken(
        standing, "_life", "left_us = tenure.ttl_us - idle_us", "left_us = tenure.ttl_us - 2 * idle_us"
    ),
    "a renewal needs no token": broken(
        decide, "decide_renewal", "if token != request.token or holder", "if holder"
    ),
    "a release needs no token": broken(
        decide,
        "_release",
        "(life.tenure.holder, life.tenure.token) == (request.holder, request.token)",
        "life.tenure.holder == request.holder",
    ),
}


def main() -> None:
    rule, *arguments = sys.argv[1:]
    from berth.cli.main import main as berth

    with pytest.MonkeyPatch.context() as monkeypatch:
        BREACHES[rule](monkeypatch)
        sys.argv[1:] = arguments
        berth()


if __name__ == "__main__":
    main()
