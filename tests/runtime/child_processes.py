"""What the tests of commands see of processes, and small commands that try to escape."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import trio

from berth.runtime.clock import SystemClock

DEADLINE_SECONDS = 10.0

# Each writes the ids of its processes to $PIDS, then lingers. A daemon is neither its command's
# child nor in its group or session.
LINGERS = "echo $$ >>$PIDS; exec sleep 1000"
GRANDCHILDREN = f"(sh -c '{LINGERS}' & sh -c '{LINGERS}' & wait) & {LINGERS}"
DAEMON = f"(setsid sh -c '{LINGERS}' &); {LINGERS}"
# Ends itself with 3 when it is asked to. It forks nothing while it waits: a shell whose new child was stopped
# before its exec is not seen as stopped itself.
STAYS = "setsid sleep 1000 & echo $$ >>$PIDS; while :; do wait; done"
ENDS = f"trap 'exit 3' TERM; {STAYS}"


def boot_us() -> int:
    return SystemClock().boot_us()


def state(pid: int) -> str:
    """The letter that /proc tells; X when there is no such process."""
    return _stat(pid)[0]


def parent(pid: int) -> int:
    return int(_stat(pid)[1])


def gone(pid: int) -> bool:
    """Whether it has ended; what nobody has reaped yet counts."""
    return state(pid) in "XZ"


def children() -> list[int]:
    """The test process's own, with those that have ended and are not reaped."""
    tasks = Path("/proc/self/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def numbers(file: Path) -> list[int]:
    """The whole lines of a file that commands write their process ids to."""
    text = file.read_text() if file.exists() else ""
    return [int(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        while True:
            if condition():
                return
            await trio.sleep(0.005)


def until_sync(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", "0"]
