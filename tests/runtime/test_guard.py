"""The guard as a program, with the test as its supervisor at the other end of the link."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from berth.runtime import guard as guard_module
from tests.runtime.child_processes import (
    DAEMON,
    DEADLINE_SECONDS,
    ENDS,
    LINGERS,
    gone,
    numbers,
    until_sync,
)


class Guard:
    """A running guard that has been told nothing yet."""

    def __init__(self) -> None:
        self.link, theirs = socket.socketpair()
        self.link.settimeout(DEADLINE_SECONDS)
        command = [sys.executable, "-I", "-S", guard_module.__file__, str(theirs.fileno())]
        with theirs:
            self.popen = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)

    def start(self, *argv: str, more: bytes = b"", **env: Any) -> None:
        start = {"argv": argv, "env": {"PATH": os.environ["PATH"], **env}, "until_us": None}
        self.link.sendall(json.dumps(start).encode() + b"\n" + more)

    def code(self) -> int:
        return self.popen.wait(timeout=DEADLINE_SECONDS)


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    guard.link.close()
    try:
        guard.code()
    finally:
        guard.popen.kill()
        guard.popen.wait()


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    return tmp_path / "pids"


def test_it_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(guard_module.__file__).read_text())
    assert not [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "typing"
    ]
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert plain <= sys.stdlib_module_names


def test_the_commands_process_id_is_told(guard: Guard, pids: Path) -> None:
    guard.start("sh", "-c", LINGERS, PIDS=str(pids))
    told = int(guard.link.recv(100))
    until_sync(lambda: numbers(pids) == [told])


def test_a_closed_link_kills_everything(guard: Guard, pids: Path) -> None:
    guard.start("sh", "-c", DAEMON, PIDS=str(pids))
    until_sync(lambda: len(numbers(pids)) == 2)
    guard.link.close()
    assert guard.code() == 137
    assert all(gone(pid) for pid in numbers(pids))


@pytest.mark.parametrize("say", [lambda guard: None, lambda guard: guard.link.sendall(b'{"argv": [')])
def test_a_supervisor_that_dies_before_it_has_spoken(guard: Guard, say: Callable[[Guard], None]) -> None:
    say(guard)
    guard.link.close()
    assert guard.code() == 137


def test_a_supervisor_that_has_died_already_starts_nothing(tmp_path: Path, guard: Guard) -> None:
    guard.popen.send_signal(signal.SIGSTOP)
    guard.start("touch", str(tmp_path / "started"))
    guard.link.close()
    guard.popen.send_signal(signal.SIGCONT)
    assert guard.code() == 137
    assert not (tmp_path / "started").exists()


def test_a_kill_that_comes_with_the_start_counts(tmp_path: Path, guard: Guard) -> None:
    guard.start("touch", str(tmp_path / "started"), more=b"signal 9\n")
    assert guard.code() == 137
    assert not (tmp_path / "started").exists()


def test_orders_may_come_in_pieces_and_together(guard: Guard, pids: Path) -> None:
    guard.start("sh", "-c", f"trap 'echo 1 >>$PIDS' USR1; {ENDS}", PIDS=str(pids))
    until_sync(lambda: len(numbers(pids)) == 1)
    for piece in (b"sig", b"nal", f" {signal.SIGUSR1:d}".encode(), b"\n"):
        guard.link.sendall(piece)
    until_sync(lambda: numbers(pids)[1:] == [1])
    guard.link.sendall(b"until 9000000000000000\nsignal %d\n" % signal.SIGTERM)
    assert guard.code() == 3


def test_a_killed_guard_takes_the_command_along(guard: Guard, pids: Path) -> None:
    guard.start("sh", "-c", LINGERS, PIDS=str(pids))
    until_sync(lambda: len(numbers(pids)) == 1)
    guard.popen.kill()
    until_sync(lambda: gone(numbers(pids)[0]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_does_not_end_by_a_request(guard: Guard, pids: Path, number: signal.Signals) -> None:
    guard.start("sh", "-c", ENDS, PIDS=str(pids))
    until_sync(lambda: len(numbers(pids)) == 1)
    guard.popen.send_signal(number)
    guard.link.sendall(b"signal %d\n" % signal.SIGTERM)
    assert guard.code() == 3


def test_the_command_has_default_signals_and_no_descriptor_but_the_standard_ones(
    guard: Guard, tmp_path: Path
) -> None:
    guard.start("sh", "-c", f"cp /proc/self/status {tmp_path}/status; ls /proc/self/fd >{tmp_path}/fds")
    assert guard.code() == 0
    assert (tmp_path / "fds").read_text().split() == ["0", "1", "2", "3"]  # 3 is what ls reads the folder by
    status = dict(line.split(":", 1) for line in (tmp_path / "status").read_text().splitlines())
    ignored = int(status["SigIgn"], 16)
    ours = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)
    assert not any(ignored & 1 << (number - 1) for number in ours)


def test_the_dead_among_what_the_command_left_are_reaped(guard: Guard, pids: Path) -> None:
    guard.start("sh", "-c", f"(setsid sh -c 'echo $$ >>$PIDS' &); {LINGERS}", PIDS=str(pids))
    until_sync(lambda: len(numbers(pids)) == 2)
    until_sync(lambda: sum(Path(f"/proc/{pid}").exists() for pid in numbers(pids)) == 1)
