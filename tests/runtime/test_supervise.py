"""Signals are sent to a process of its own; the nursery's order is shown in this one."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trio

from berth.runtime.supervise import Handle, alongside, open_service_nursery, run_roles
from tests.runtime.conftest import Journal

PROCESS = """
import sys, trio
from berth.runtime.log import Logs
from berth.runtime.supervise import Handle, run_roles

def say(text):
    print(text, flush=True)

async def role(*, task_status):
    over, drained = trio.Event(), trio.Event()
    async def drain():
        say("drain")
        await (trio.sleep_forever() if "stuck" in sys.argv else trio.lowlevel.checkpoint())
        over.set()
    async def reload():
        say("reload")
        if "broken" in sys.argv:
            raise ValueError("bad file")
    if "slow" in sys.argv:
        say("starting")
        await trio.sleep_forever()
    task_status.started(Handle(("http://x:1",), drain, reload))
    say("ready")
    await over.wait()
    say("over")

sys.exit(trio.run(lambda: run_roles({"a": role}, logger=Logs("error").logger("x"))))
"""


class Process:
    """A process that runs one role and tells what happens to it."""

    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-c", PROCESS, *flags]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def next_line(self) -> str:
        assert self.popen.stdout
        return self.popen.stdout.readline().strip()

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        out, err = self.popen.communicate(timeout=10)
        return self.popen.returncode, out, err


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.popen.kill()
        process.popen.communicate()


def start(processes: list[Process], *flags: str) -> Process:
    processes.append(Process(*flags))
    assert processes[-1].next_line() == ("starting" if "slow" in flags else "ready")
    return processes[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(processes: list[Process], number: signal.Signals) -> None:
    process = start(processes)
    process.send(number)
    assert process.end() == (0, "drain\nover\n", "")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_stops_at_once(processes: list[Process], second: signal.Signals) -> None:
    process = start(processes, "stuck")
    process.send(signal.SIGTERM)
    assert process.next_line() == "drain"
    process.send(second)
    assert process.end() == (128 + second, "", "")


def test_hup_reloads_and_never_kills(processes: list[Process]) -> None:
    process = start(processes)
    for _ in range(2):
        process.send(signal.SIGHUP)
        assert process.next_line() == "reload"
    process.send(signal.SIGTERM)
    assert process.end() == (0, "drain\nover\n", "")


def test_a_reload_that_fails_is_logged_and_the_role_goes_on(processes: list[Process]) -> None:
    process = start(processes, "broken")
    process.send(signal.SIGHUP)
    assert process.next_line() == "reload"
    process.send(signal.SIGTERM)
    code, out, err = process.end()
    assert (code, out) == (0, "drain\nover\n")
    assert "reload failed" in err
    assert "bad file" in err


def test_a_role_that_is_still_starting_is_stopped(processes: list[Process]) -> None:
    process = start(processes, "slow")
    process.send(signal.SIGTERM)
    assert process.end() == (0, "", "")


async def nothing() -> None:
    await trio.lowlevel.checkpoint()


async def ends(*, task_status: trio.TaskStatus[Handle]) -> None:
    task_status.started(Handle((), nothing, nothing))


async def test_roles_that_end_by_themselves_end_the_run(journal: Journal) -> None:
    assert await run_roles({"a": ends, "b": ends}, logger=journal.logger) == 0
    assert [line["role"] for line in journal.lines] == ["a", "b"]


async def test_a_roles_fault_ends_the_others_and_comes_out_bare(journal: Journal) -> None:
    stopped = trio.Event()

    async def serves(*, task_status: trio.TaskStatus[Handle]) -> None:
        task_status.started(Handle((), nothing, nothing))
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    async def breaks(*, task_status: trio.TaskStatus[Handle]) -> None:
        raise LookupError("no such port")

    with pytest.raises(LookupError, match="no such port"):
        await run_roles({"a": serves, "b": breaks}, logger=journal.logger)
    assert stopped.is_set()


async def note_end(order: list[str], name: str, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        order.append(name)


async def test_a_service_outlives_the_body_that_uses_it() -> None:
    order: list[str] = []
    with trio.CancelScope() as scope:
        async with open_service_nursery() as services:
            await services.start(note_end, order, "service")
            try:
                scope.cancel()
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                order.append("body")
    assert order == ["body", "service"]


async def test_a_fault_of_the_body_ends_the_service() -> None:
    order: list[str] = []
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        async with open_service_nursery() as services:
            await services.start(note_end, order, "service")
            raise ValueError
    assert order == ["service"]


async def test_a_fault_of_the_service_ends_the_body() -> None:
    async def breaks() -> None:
        raise ValueError

    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        async with open_service_nursery() as services:
            services.start_soon(breaks)
            await trio.sleep_forever()


async def test_the_nursery_waits_for_a_service_and_can_still_be_cancelled() -> None:
    order: list[str] = []
    with trio.move_on_after(0.05):
        async with open_service_nursery() as services:
            await services.start(note_end, order, "service")
        order.append("not here")
    assert order == ["service"]


@pytest.mark.parametrize("raised", [ValueError("mine"), SystemExit(3)])
async def test_what_the_body_raises_beside_its_tasks_comes_out_as_it_is(raised: BaseException) -> None:
    with pytest.raises(type(raised)) as caught:
        async with alongside(trio.sleep_forever):
            raise raised
    assert caught.value is raised


async def test_tasks_beside_a_body_that_is_cancelled_end_after_it() -> None:
    order: list[str] = []

    async def task() -> None:
        await note_end(order, "task", task_status=trio.TASK_STATUS_IGNORED)

    with trio.CancelScope() as scope:
        async with alongside(task):
            await trio.testing.wait_all_tasks_blocked()
            try:
                scope.cancel()
                await trio.sleep_forever()
            finally:
                order.append("body")
    assert order == ["body", "task"]
