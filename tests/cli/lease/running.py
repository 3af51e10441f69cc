"""Client commands that go on for a while, as processes of their own.

Owns a process and what it has written. Promises that waiting is for a condition, with a deadline.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_SECONDS = 25.0


class Running:
    """A command that runs. What it writes goes to files."""

    def __init__(self, folder: Path, *line: str) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "berth", *line],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=os.environ,
                # Under nohup or in the background this process ignores it, and so would the command.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def until(self, condition: Callable[["Running"], bool]) -> None:
        end = time.monotonic() + DEADLINE_SECONDS
        while not condition(self):
            assert self._process.poll() is None, f"it has ended:\n{self.out}{self.err}"
            assert time.monotonic() < end, f"not so in time:\n{self.out}{self.err}"
            time.sleep(0.02)

    def ended_by(self, number: signal.Signals) -> int:
        """The exit code after a signal."""
        self._process.send_signal(number)
        return self.code()

    def code(self) -> int:
        return self._process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)


@contextmanager
def running(folder: Path, *line: str) -> Generator[Running]:
    """A command that is killed in the end if it still runs."""
    command = Running(folder, *line)
    try:
        yield command
    finally:
        command.close()
