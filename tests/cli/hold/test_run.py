"""One run of a command, by clocks that a test sets: its limits, and what it is told."""

import os
from pathlib import Path

import pytest
import trio

from berth.cli.hold_run import Run, grace_that_fits, stop_budget_seconds
from berth.client import LeaseLost
from berth.client.held import Held, reader_of
from berth.core.holding import Holding, Loss, Reading
from berth.runtime.clock import MICROSECONDS, SystemClock
from tests.cli.hold.holders import until

TTL_SECONDS = 16
clock = reader_of(SystemClock())


def held(*, asked_seconds_ago: float = 0, loss: Loss | None = None, deadline: bool = True) -> Held:
    sent = Reading(*(now_us - round(asked_seconds_ago * MICROSECONDS) for now_us in clock()))
    holding = Holding(3, TTL_SECONDS * MICROSECONDS, 4 * MICROSECONDS, sent, deadline, loss)
    return Held("default", "x", "me", holding, clock)


def run(*leases: Held, script: str = "exit 7", grace: float = 1.0) -> Run:
    return Run(["sh", "-c", script], leases, ttl=TTL_SECONDS, grace=grace)


async def test_a_command_that_would_start_too_late_does_not_start(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(LeaseLost):
        await run(held(), held(asked_seconds_ago=15.6), script=f"touch {trace}").to_the_end()
    assert not trace.exists()


@pytest.mark.parametrize("loss", ["refused", "deadline"])
async def test_a_command_that_ends_after_a_loss_was_lost(loss: Loss) -> None:
    with pytest.raises(LeaseLost):
        await run(held(), held(loss=loss)).to_the_end()


async def test_a_shared_lease_sets_no_limit() -> None:
    assert await run(held(asked_seconds_ago=60, deadline=False)).to_the_end() == 7


async def test_a_clock_that_jumps_shortens_the_grace(tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    jumped = held()
    began = trio.current_time()
    with trio.CancelScope() as work:
        async with trio.open_nursery() as nursery:
            script = f"trap '' TERM; touch {deaf}; sleep 5"
            nursery.start_soon(run(jumped, script=script, grace=60).to_the_end)
            await until(deaf.exists)
            jumped.holding = held(asked_seconds_ago=3600).holding
            work.cancel()
    assert trio.current_time() - began < 4


async def test_the_file_tells_a_loss_and_leaves_an_end_open_that_nobody_knows(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    script = f'cp "$BERTH_STATE_FILE" {copy}'
    assert await run(held(deadline=False), script=script).to_the_end() == 0
    assert '"mayActUntilBootUs": null' in copy.read_text()
    with pytest.raises(LeaseLost):
        await run(held(loss="refused"), script=script).to_the_end()
    assert '"mayActUntilBootUs": 0' in copy.read_text()


async def test_the_command_has_the_environment_of_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_LEASE", "of an outer hold")
    script = f'test "$BERTH_LEASE:$PATH" = "default/x:{os.environ["PATH"]}"'
    assert await run(held(), script=script).to_the_end() == 0


@pytest.mark.parametrize(
    ("ttl", "grace", "budget", "fits"),
    [
        (30, 5, 5.5, 5),
        (22, 5, 5.5, 5),
        (21, 5, 5.25, 4.75),
        (8, 1.5, 2, 1.5),
        (4, 5, 1, 0.75),
        (2, 0, 0.125, 0),
    ],
)
def test_the_grace_and_the_killing_fit_into_a_quarter_of_the_ttl(
    ttl: float, grace: float, budget: float, fits: float
) -> None:
    assert stop_budget_seconds(ttl, grace) == budget
    assert grace_that_fits(ttl, grace) == fits
