"""Commands that end, are signalled, stopped or left, as the process that started them sees it."""

import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from berth.runtime import child as child_module
from berth.runtime.child import ChildRemains, open_child
from tests.runtime.child_processes import (
    DAEMON,
    ENDS,
    GRANDCHILDREN,
    LINGERS,
    STAYS,
    boot_us,
    children,
    descriptors,
    gone,
    numbers,
    parent,
    state,
    until,
)

ENDLESS_SECONDS = 1000.0


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    return tmp_path / "pids"


@pytest.fixture(autouse=True)
async def nothing_is_left():
    """No descriptor and no process, not even a dead one, outlives a test's block."""
    before = descriptors()
    yield
    assert children() == []
    assert descriptors() == before


@asynccontextmanager
async def opened(script: str, pids: Path, *, processes: int = 1):
    """A shell script, once as many processes as named have written their id."""
    async with open_child(["sh", "-c", script], env={**os.environ, "PIDS": str(pids)}) as child:
        await until(lambda: len(numbers(pids)) == processes)
        yield child


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
async def test_the_commands_code_is_told(script: str, code: int) -> None:
    async with open_child(["sh", "-c", script], env=os.environ) as child:
        assert await child.wait() == code
        assert await child.wait() == code
        assert await child.stop(grace_seconds=0) == code


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("no-such-command", 127, "cannot run no-such-command: no such command"),
        ("/nowhere/at-all", 127, "cannot run /nowhere/at-all: no such command"),
        (__file__, 126, f"cannot run {__file__}: Permission denied"),
        ("nul\0", 126, "embedded null"),
    ],
)
async def test_a_command_that_cannot_run_says_so(
    command: str, code: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_child([command], env=os.environ) as child:
        assert await child.wait() == code
    said = capfd.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


async def test_the_environment_is_exactly_what_was_given(tmp_path: Path) -> None:
    env = {"ONE": "1", "EMPTY": "", "BYTES": os.fsdecode(b"\xff\xc3\xa9"), "LINES": "a\nb", "LC_ALL": "C"}
    async with open_child(["cp", "/proc/self/environ", str(tmp_path / "env")], env=env) as child:
        assert await child.wait() == 0
    entries = (tmp_path / "env").read_bytes().rstrip(b"\0").split(b"\0")
    assert entries == [os.fsencode(f"{name}={value}") for name, value in env.items()]


async def test_a_large_environment_passes(tmp_path: Path) -> None:
    env = {f"V{number}": "x" * 100_000 for number in range(10)}
    async with open_child(["cp", "/proc/self/environ", str(tmp_path / "env")], env=env) as child:
        assert await child.wait() == 0
    assert (tmp_path / "env").stat().st_size > 1_000_000


@pytest.mark.parametrize(("original", "left"), [({}, None), ({"LD_LIBRARY_PATH_ORIG": "/mine"}, "/mine")])
async def test_a_frozen_executable_keeps_its_library_path_to_itself(
    original: dict[str, str], left: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    env = {"LD_LIBRARY_PATH": "/unpacked", "OUT": str(tmp_path / "out"), **original}
    script = 'echo "${LD_LIBRARY_PATH-none} ${LD_LIBRARY_PATH_ORIG-none}" >$OUT'
    async with open_child(["sh", "-c", script], env=env) as child:
        assert await child.wait() == 0
    assert (tmp_path / "out").read_text().split() == [left or "none", left or "none"]


async def test_without_freezing_the_library_path_is_the_callers(tmp_path: Path) -> None:
    env = {"LD_LIBRARY_PATH": "/mine", "OUT": str(tmp_path / "out")}
    async with open_child(["sh", "-c", "echo $LD_LIBRARY_PATH >$OUT"], env=env) as child:
        assert await child.wait() == 0
    assert (tmp_path / "out").read_text() == "/mine\n"


async def test_a_signal_reaches_the_whole_group(tmp_path: Path, pids: Path) -> None:
    def noting(name: str, then: str) -> str:
        return f"trap 'echo {name} >>{tmp_path}/heard; {then}' USR1; "

    (tmp_path / "inner").write_text(noting("inner", "exit") + STAYS)
    script = (
        noting("outer", "wait $inner; exit 5")
        + f"sh {tmp_path}/inner & inner=$!; echo $$ >>$PIDS; wait $inner"
    )
    async with opened(script, pids, processes=2) as child:
        child.signal(signal.SIGUSR1)
        assert await child.wait() == 5
    assert sorted((tmp_path / "heard").read_text().split()) == ["inner", "outer"]


async def test_a_signal_sent_at_once_is_not_lost() -> None:
    async with open_child(["sleep", "1000"], env=os.environ) as child:
        child.signal(signal.SIGINT)
        assert await child.wait() == 128 + signal.SIGINT


async def test_stop_lets_the_command_end_by_itself(pids: Path) -> None:
    async with opened(ENDS, pids) as child:
        assert await child.stop(grace_seconds=ENDLESS_SECONDS) == 3


async def test_a_command_that_ignores_the_request_is_killed_after_the_grace(pids: Path) -> None:
    async with opened(f"trap '' TERM; {LINGERS}", pids) as child:
        started = trio.current_time()
        assert await child.stop(grace_seconds=0.1) == 137
        assert trio.current_time() >= started + 0.1


async def test_a_stopped_command_hears_the_request(pids: Path) -> None:
    async with opened(ENDS, pids) as child:
        child.signal(signal.SIGSTOP)
        await until(lambda: state(numbers(pids)[0]) == "T")
        assert await child.stop(grace_seconds=ENDLESS_SECONDS) == 3


@pytest.mark.parametrize(("script", "processes"), [(GRANDCHILDREN, 3), (DAEMON, 2)])
async def test_stop_leaves_nothing_that_the_command_started(script: str, processes: int, pids: Path) -> None:
    async with opened(script, pids, processes=processes) as child:
        assert await child.stop(grace_seconds=ENDLESS_SECONDS) == 143
        assert all(gone(pid) for pid in numbers(pids))


@pytest.mark.parametrize(("script", "processes"), [(GRANDCHILDREN, 3), (DAEMON, 2)])
async def test_sigkill_goes_to_everything(script: str, processes: int, pids: Path) -> None:
    async with opened(script, pids, processes=processes) as child:
        child.signal(signal.SIGKILL)
        assert await child.wait() == 137
        assert all(gone(pid) for pid in numbers(pids))


async def test_what_the_command_started_ends_with_it(pids: Path) -> None:
    script = f"(setsid sh -c '{LINGERS}' &); while [ ! -s $PIDS ]; do sleep 0.01; done; exit 4"
    async with opened(script, pids) as child:
        assert await child.wait() == 4
        assert all(gone(pid) for pid in numbers(pids))


async def test_many_sessions_are_found(pids: Path) -> None:
    script = f"for i in $(seq 40); do setsid sh -c '{LINGERS}' & done; wait"
    async with opened(script, pids, processes=40) as child:
        assert await child.stop(grace_seconds=ENDLESS_SECONDS) == 143
        assert all(gone(pid) for pid in numbers(pids))


RABBIT = """
import os, sys
for _ in range(20_000):
    if os.fork():
        os._exit(4)
open(sys.argv[1], "w")
"""


async def test_a_process_that_forks_all_the_time_is_caught(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", RABBIT, str(tmp_path / "escaped")]
    async with open_child(command, env=os.environ) as child:
        assert await child.wait() == 4
    assert not (tmp_path / "escaped").exists()


async def test_leaving_the_block_kills(pids: Path) -> None:
    async with opened(DAEMON, pids, processes=2):
        pass
    assert all(gone(pid) for pid in numbers(pids))


async def test_an_exception_kills_and_passes(pids: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with opened(DAEMON, pids, processes=2):
            _ = 1 / 0
    assert all(gone(pid) for pid in numbers(pids))


async def test_a_cancellation_kills_and_passes(pids: Path) -> None:
    guards: list[int] = []
    with trio.CancelScope() as scope:
        async with opened(DAEMON, pids, processes=2) as child:
            assert child.pid
            guards.append(parent(child.pid))
            scope.cancel()
            await child.stop(grace_seconds=ENDLESS_SECONDS)
    assert scope.cancelled_caught
    assert [state(guard) for guard in guards] == ["X"]
    assert all(gone(pid) for pid in numbers(pids))


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 5, 10, 20, 30])
async def test_a_cancellation_while_it_starts_leaves_nothing(milliseconds: int) -> None:
    with trio.move_on_after(milliseconds / 1000):
        async with open_child(["sleep", "1000"], env=os.environ) as child:
            await child.wait()


async def test_two_children_do_not_hold_each_other(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    async with opened(DAEMON, one, processes=2) as first, opened(DAEMON, two, processes=2):
        assert await first.stop(grace_seconds=ENDLESS_SECONDS) == 143
        assert all(gone(pid) for pid in numbers(one))
        assert not any(gone(pid) for pid in numbers(two))
    assert all(gone(pid) for pid in numbers(two))


async def test_everything_is_killed_at_the_limit(pids: Path) -> None:
    async with opened(DAEMON, pids, processes=2) as child:
        limit_us = boot_us() + 100_000
        child.run_until(limit_us)
        assert await child.wait() == 137
        assert 0 <= boot_us() - limit_us < 500_000
        assert all(gone(pid) for pid in numbers(pids))


async def test_the_limit_can_be_moved(pids: Path) -> None:
    async with opened(f"trap 'echo $$ >>$PIDS' USR1; {ENDS}", pids) as child:
        first_us = boot_us() + 100_000
        child.run_until(first_us)
        child.run_until(first_us + 1_000_000_000)
        await until(lambda: boot_us() > first_us)
        child.signal(signal.SIGUSR1)
        await until(lambda: len(numbers(pids)) == 2)
        assert await child.stop(grace_seconds=ENDLESS_SECONDS) == 3


async def test_a_command_is_not_started_after_its_limit(tmp_path: Path) -> None:
    command = ["touch", str(tmp_path / "started")]
    async with open_child(command, env=os.environ, until_us=boot_us() - 1) as child:
        assert child.pid is None
        assert await child.wait() == 137
    assert not (tmp_path / "started").exists()


async def test_a_guard_that_was_stopped_still_stops(pids: Path) -> None:
    async with opened(DAEMON, pids, processes=2) as child:
        assert child.pid
        guard = parent(child.pid)
        os.kill(guard, signal.SIGSTOP)
        await until(lambda: state(guard) == "T")
        assert await child.stop(grace_seconds=ENDLESS_SECONDS) == 143
        assert all(gone(pid) for pid in numbers(pids))


async def test_a_guard_that_was_killed_takes_the_group_along_and_is_told(pids: Path) -> None:
    with pytest.raises(ChildRemains, match="may still run"):
        async with opened(GRANDCHILDREN, pids, processes=3) as child:
            assert child.pid
            os.kill(parent(child.pid), signal.SIGKILL)
            await child.stop(grace_seconds=ENDLESS_SECONDS)
    await until(lambda: all(gone(pid) for pid in numbers(pids)))


async def test_a_lost_guard_is_told_once(pids: Path) -> None:
    async with opened(LINGERS, pids) as child:
        assert child.pid
        os.kill(parent(child.pid), signal.SIGKILL)
        with pytest.raises(ChildRemains):
            await child.wait()


DEAF_GUARD = """
import os, signal, subprocess, sys
os.read(int(sys.argv[1]), 1 << 20)
command = ["sh", "-c", os.environ["SCRIPT"]]
os.write(int(sys.argv[1]), b"%d" % subprocess.Popen(command, start_new_session=True).pid)
os.close(int(sys.argv[1]))
while True:
    signal.pause()
"""


async def test_a_guard_that_does_not_listen_is_killed_with_the_group(
    pids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deaf.py").write_text(DEAF_GUARD)
    monkeypatch.setattr(child_module, "_GUARD", tmp_path / "deaf.py")
    monkeypatch.setattr(child_module, "KILL_SECONDS", 0.1)
    monkeypatch.setenv("SCRIPT", GRANDCHILDREN)
    monkeypatch.setenv("PIDS", str(pids))
    async with opened(GRANDCHILDREN, pids, processes=3) as child:
        with pytest.raises(ChildRemains):
            await child.stop(grace_seconds=0)
    await until(lambda: all(gone(pid) for pid in numbers(pids)))


async def test_a_guard_that_fails_at_once_gives_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text("raise SystemExit(9)")
    monkeypatch.setattr(child_module, "_GUARD", tmp_path / "failing.py")
    async with open_child(["true"], env=os.environ) as child:
        assert child.pid is None
        assert await child.wait() == 9


async def test_a_guard_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        async with open_child(["true"], env=os.environ):
            pass
