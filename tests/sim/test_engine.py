"""The engine is deterministic, and what it stops stands still."""

import os
import subprocess
import sys
from pathlib import Path

import trio

from tests.sim import engine
from tests.sim.engine import Gate, Process
from tests.sim.plan import plan_of
from tests.sim.seeds import run
from tests.sim.world import simulate

ROOT = Path(__file__).resolve().parents[2]


def test_two_runs_of_a_seed_are_the_same_also_in_another_process():
    script = "from tests.sim.seeds import run; print(*[run(seed).ledger.digest() for seed in (3, 4, 5)])"
    here = [run(seed).ledger.digest() for seed in (3, 4, 5)]
    for hash_seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert ran.stdout.split() == here
    assert len(set(here)) == 3


def test_another_seed_is_another_run():
    assert simulate(plan_of(6)).ledger.digest() != simulate(plan_of(7)).ledger.digest()


def test_a_paused_process_finds_its_timers_run_out_and_a_suspended_one_finds_them_as_they_were():
    woken: list[tuple[str, float]] = []

    async def sleep(name: str) -> None:
        await trio.sleep(2)
        woken.append((name, trio.current_time() - start))

    async def main(gate: Gate) -> None:
        nonlocal start
        start = trio.current_time()
        processes = {name: Process(name, gate) for name in ("paused", "suspended", "killed", "left alone")}
        async with trio.open_nursery() as nursery:
            for name, process in processes.items():
                process.spawn(nursery, sleep, name)
            await trio.sleep(1)
            processes["paused"].pause()
            processes["suspended"].suspend()
            processes["killed"].kill()
            await trio.sleep(4)
            processes["paused"].resume()
            processes["suspended"].resume()
            processes["killed"].resume()
            await trio.sleep(2)
            seen = list(woken)
            processes["killed"].unwind()
        assert seen == [("left alone", 2.0), ("paused", 5.0), ("suspended", 6.0)]

    start = 0.0
    engine.run("clocks", main)


def test_a_process_that_starts_tasks_owns_them_too():
    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    async def child() -> None:
        while True:
            await trio.sleep(0.1)
            steps.append(trio.current_time())

    async def main(gate: Gate) -> None:
        process = Process("parent", gate)
        async with trio.open_nursery() as nursery:
            process.spawn(nursery, parent)
            await trio.sleep(1.05)
            process.pause()
            before = len(steps)
            await trio.sleep(5)
            assert len(steps) == before == 10
            process.resume()
            await trio.sleep(0.5)
            assert len(steps) > before
            nursery.cancel_scope.cancel()

    steps: list[float] = []
    engine.run("tasks", main)
