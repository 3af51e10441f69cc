"""A run: servers, clients and faults for some seconds, and the verdict on what was recorded.

Owns the order of things: an empty store, the load, the end of all faults, a last look at every lease through
every replica and past them, the judgement. Promises that the history is written down before it is judged.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import trio

from berth.runtime.http import HttpClient
from tests.histories import leases
from tests.histories.backends import Backend, Name, backend
from tests.histories.direct import Stored, tenures, violations
from tests.histories.load import Client, read_all
from tests.histories.nemesis import Nemesis
from tests.histories.operations import Operation, by_key, must_be_whole, write_lines
from tests.histories.recorder import Recorder
from tests.histories.replicas import Replicas, replicas
from tests.support.apiserver import Certificates

HISTORY = "history.jsonl"
HEAL_SECONDS = 60.0
PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Plan:
    """`fault_seconds`: the pause between two faults; 0: none happen. `breach`: the rule that is broken."""

    store: Name
    seed: int
    seconds: float
    fault_seconds: float = 0.0
    replicas: int = 2
    clients: int = 8
    keys: int = 4
    pause_seconds: float = 0.03
    breach: str = ""

    @property
    def program(self) -> tuple[str, ...]:
        return ("tests.histories.broken", self.breach) if self.breach else ("berth",)


@dataclass
class Report:
    """What a run was, and what was wrong with it."""

    history: list[Operation] = field(default_factory=list[Operation])
    faults: Counter[str] = field(default_factory=Counter[str])
    left_out: Counter[str] = field(default_factory=Counter[str])
    steps: int = 0
    violations: list[str] = field(default_factory=list[str])
    reached: Counter[str] = field(default_factory=Counter[str])
    """Situations that a run is meant to reach."""


async def run(plan: Plan, folder: Path, told: Callable[[str], None]) -> Report:
    """Record and judge. The history is in `folder` in the end."""
    certificates = Certificates(folder)
    async with backend(plan.store, folder) as store:
        async with replicas(plan.replicas, certificates, store.flags, plan.program) as servers:
            recorder, faults = await _record(plan, servers, store, certificates, told)
        report = Report(recorder.history, faults, recorder.left_out)
        write_lines(folder / HISTORY, report.history)
        told(f"{len(report.history)} operations are recorded, and now judged")
        report.violations += [f"no server answers so: {each}" for each in recorder.strange]
        judge(report, store.stored(), observes=store.observes)
    return report


async def _record(
    plan: Plan, servers: Replicas, store: Backend, certificates: Certificates, told: Callable[[str], None]
) -> tuple[Recorder, Counter[str]]:
    keys = [f"n/l{number}" for number in range(plan.keys)]
    rng = Random(plan.seed)
    nemesis = Nemesis(servers, store, Random(rng.random()), told)
    async with HttpClient(user_agent="berth-histories", ca_file=certificates.ca_file) as client:
        recorder = Recorder(client)
        until = trio.current_time() + plan.seconds
        async with trio.open_nursery() as nursery:
            for number in range(plan.clients):
                each = Client(number, keys, recorder, Random(rng.random()))
                url = partial(servers.url, Random(rng.random()))
                nursery.start_soon(each.run, url, until, plan.pause_seconds)
            if plan.fault_seconds:
                nursery.start_soon(nemesis.run, until, plan.fault_seconds)
            nursery.start_soon(_progress, recorder, until, told)
        with trio.fail_after(HEAL_SECONDS):
            for number, server in enumerate(servers.all):
                assert server.url is not None
                await read_all(keys, server.url, f"reader {number}", recorder)
    return recorder, nemesis.seen


async def _progress(recorder: Recorder, until: float, told: Callable[[str], None]) -> None:
    while (left := until - trio.current_time()) > PROGRESS_SECONDS:
        await trio.sleep(PROGRESS_SECONDS)
        told(f"{len(recorder.history)} operations, {left - PROGRESS_SECONDS:.0f} s to go")


def judge(report: Report, stored: Mapping[str, Stored], *, observes: bool) -> None:
    """Everything that can be said against the history."""
    must_be_whole(report.history)
    for key, operations in by_key(report.history).items():
        verdict = leases.judge(operations, observes=observes)
        report.steps += verdict.steps
        if verdict.answer != "right":
            report.violations.append(f"{key} is {verdict.answer}: {verdict.text}")
        report.reached.update(situations(operations))
    report.violations += violations(report.history, stored)


def situations(operations: Sequence[Operation]) -> Counter[str]:
    """How often the lease changed hands in which way, and what else there was."""
    seen: Counter[str] = Counter()
    seen["tenures"] = len(tenures(operations))
    first: dict[int, Operation] = {}
    for each in operations:
        if each.told is None:
            seen["outcomes that nobody knows"] += 1
        elif each.told.word == "granted":
            first.setdefault(each.told.token, each)
        elif each.told.word == "lost":
            seen["renewals refused"] += 1
    for each in first.values():
        assert each.told is not None
        seen["clean hand-overs" if each.told.clean else "takeovers after an expiry"] += 1
        seen["tenures under a session"] += bool(each.session)
    return seen
