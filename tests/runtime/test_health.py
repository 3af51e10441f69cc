import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from berth.runtime.health import PROBE_SECONDS, Readiness, ReadyGate


class Probe:
    """Counts, takes its time, and fails when told to."""

    def __init__(self, seconds: float = 0) -> None:
        self.calls = 0
        self.seconds = seconds
        self.fault: Exception | None = None

    async def __call__(self) -> None:
        self.calls += 1
        await trio.sleep(self.seconds)
        if self.fault:
            raise self.fault


async def test_a_burst_costs_one_probe(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    probe = Probe(seconds=1)
    gate = ReadyGate(probe, nursery)
    found: list[Readiness] = []

    async def ask() -> None:
        found.append(await gate())

    async with trio.open_nursery() as askers:
        for _ in range(50):
            askers.start_soon(ask)
    assert probe.calls == 1
    assert found == [Readiness(True)] * 50


@pytest.mark.parametrize("fault", [None, OSError("no")])
async def test_a_result_of_either_kind_is_kept_for_a_second(
    nursery: trio.Nursery, autojump_clock: MockClock, fault: Exception | None
) -> None:
    probe = Probe()
    probe.fault = fault
    gate = ReadyGate(probe, nursery)
    first = await gate()
    assert first.ok is (fault is None)
    await trio.sleep(0.9)
    assert await gate() is first
    assert probe.calls == 1
    await trio.sleep(0.2)
    await gate()
    assert probe.calls == 2


async def test_a_failure_tells_its_reason(nursery: trio.Nursery) -> None:
    probe = Probe()
    probe.fault = OSError("the disk is gone")
    assert await ReadyGate(probe, nursery)() == Readiness(False, "OSError: the disk is gone")


async def test_a_slow_probe_is_not_ready(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    gate = ReadyGate(Probe(seconds=60), nursery)
    start = trio.current_time()
    assert await gate() == Readiness(False, "no answer within 2 s")
    assert trio.current_time() - start == pytest.approx(PROBE_SECONDS)


async def test_an_asker_that_gives_up_harms_nobody(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    probe = Probe(seconds=1)
    gate = ReadyGate(probe, nursery)
    with trio.move_on_after(0.5) as gave_up:
        await gate()
    assert gave_up.cancelled_caught
    assert await gate() == Readiness(True)
    assert probe.calls == 1


async def test_askers_are_let_go_when_the_gates_nursery_ends(autojump_clock: MockClock) -> None:
    found: list[Readiness] = []

    async def ask(gate: ReadyGate) -> None:
        found.append(await gate())

    async with trio.open_nursery() as askers, trio.open_nursery() as host:
        askers.start_soon(ask, ReadyGate(Probe(seconds=60), host))
        await wait_all_tasks_blocked()
        host.cancel_scope.cancel()
    assert found == [Readiness(False, "stopping")]
