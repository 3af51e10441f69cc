"""What becomes of a command when the process that runs it is killed, paused, or interrupted at a terminal."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.child_processes import (
    DAEMON,
    DEADLINE_SECONDS,
    GRANDCHILDREN,
    boot_us,
    gone,
    numbers,
    parent,
    state,
    until_sync,
)

SUPERVISOR = """
import os, signal, sys, trio
from berth.runtime.child import open_child
from berth.runtime.clock import SystemClock

async def main(mode, *command):
    async with open_child(command, env=os.environ) as child:
        if mode == "pause":
            await trio.to_thread.run_sync(input)
            child.run_until(SystemClock().boot_us() + 100_000)
            os.kill(os.getpid(), signal.SIGSTOP)
        return await child.wait()

sys.exit(trio.run(main, *sys.argv[1:]))
"""


class Supervisor:
    """A process of its own that runs a shell script as its child."""

    def __init__(self, mode: str, script: str, pids: Path) -> None:
        command = [sys.executable, "-c", SUPERVISOR, mode, "sh", "-c", script]
        self.pids = pids
        self.popen = subprocess.Popen(
            command, env={**os.environ, "PIDS": str(pids)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def await_processes(self, number: int) -> None:
        until_sync(lambda: len(numbers(self.pids)) == number)

    def all_gone(self) -> bool:
        return all(gone(pid) for pid in numbers(self.pids))


@pytest.fixture
def supervisors() -> Iterator[list[Supervisor]]:
    started: list[Supervisor] = []
    yield started
    for supervisor in started:
        supervisor.popen.kill()
        supervisor.popen.communicate()


def start(supervisors: list[Supervisor], mode: str, script: str, tmp_path: Path) -> Supervisor:
    supervisors.append(Supervisor(mode, script, tmp_path / f"pids-{len(supervisors)}"))
    return supervisors[-1]


def test_the_streams_are_the_callers(supervisors: list[Supervisor], tmp_path: Path) -> None:
    supervisor = start(supervisors, "run", "cat; exit 6", tmp_path)
    assert supervisor.popen.communicate(b"through", timeout=DEADLINE_SECONDS)[0] == b"through"
    assert supervisor.popen.returncode == 6


@pytest.mark.parametrize(("script", "processes"), [(GRANDCHILDREN, 3), (DAEMON, 2)])
def test_nothing_outlives_a_killed_supervisor(
    supervisors: list[Supervisor], script: str, processes: int, tmp_path: Path
) -> None:
    supervisor = start(supervisors, "run", script, tmp_path)
    supervisor.await_processes(processes)
    guard = parent(numbers(supervisor.pids)[0])
    killed_us = boot_us()
    supervisor.popen.kill()
    until_sync(supervisor.all_gone)
    assert boot_us() - killed_us < 1_000_000
    until_sync(lambda: gone(guard))


def test_one_supervisors_death_leaves_the_others_command(
    supervisors: list[Supervisor], tmp_path: Path
) -> None:
    first, second = (start(supervisors, "run", DAEMON, tmp_path) for _ in range(2))
    first.await_processes(2)
    second.await_processes(2)
    first.popen.kill()
    until_sync(first.all_gone)
    assert not any(gone(pid) for pid in numbers(second.pids))


def test_a_paused_supervisors_command_ends_at_its_limit(
    supervisors: list[Supervisor], tmp_path: Path
) -> None:
    supervisor = start(supervisors, "pause", DAEMON, tmp_path)
    supervisor.await_processes(2)
    assert supervisor.popen.stdin
    supervisor.popen.stdin.write(b"\n")
    supervisor.popen.stdin.flush()
    until_sync(supervisor.all_gone)
    assert state(supervisor.popen.pid) == "T"
    supervisor.popen.send_signal(signal.SIGCONT)
    assert supervisor.popen.wait(timeout=DEADLINE_SECONDS) == 137


def test_an_interrupt_at_the_terminal_reaches_the_supervisor_alone(
    supervisors: list[Supervisor], tmp_path: Path
) -> None:
    supervisor = start(supervisors, "run", DAEMON, tmp_path)
    supervisor.await_processes(2)
    pids = numbers(supervisor.pids)
    processes = [*pids, *(parent(pid) for pid in pids)]
    assert all(os.getpgid(pid) != os.getpgid(supervisor.popen.pid) for pid in processes)
    assert all(os.getsid(pid) != os.getsid(supervisor.popen.pid) for pid in processes)
