"""A role of berth in a process of its own, for tests that look at it from outside.

Owns the process and its log. Promises that waiting is for a condition and ends at a deadline, and that
nothing outlives its test.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

START_SECONDS = 20.0
STOP_SECONDS = 15.0

Line = Mapping[str, Any]


class RoleProcess:
    """A process that may serve, and everything that it has logged."""

    def __init__(self, role: str, *flags: str, program: Sequence[str] = ("berth",)) -> None:
        """`program` is a module with the arguments that come before berth's own."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", *program, role, *flags],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=plain_environment(),
        )
        self._lines: list[str] = []
        self._ended = False
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that it has written to stderr by now."""
        return "".join(self._lines)

    @property
    def log(self) -> list[Line]:
        return [json.loads(line) for line in self._lines if line.startswith("{")]

    def wait_for(self, message: str, *, within_seconds: float = START_SECONDS, **fields: Any) -> Line:
        """The first log line with this message and these fields, once it is there."""

        def found() -> Line | None:
            return next((line for line in self.logged(message) if fields.items() <= line.items()), None)

        with self._more:
            self._more.wait_for(lambda: found() or self._ended, within_seconds)
            line = found()
        assert line is not None, f"no line {message!r} {fields} in:\n{self.text}"
        return line

    def logged(self, message: str) -> list[Line]:
        return [line for line in self.log if line["msg"] == message]

    def errors(self) -> list[Line]:
        return [line for line in self.log if line["level"] == "ERROR"]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, *, within_seconds: float = STOP_SECONDS) -> int:
        """The exit status, after the last of the log has been read."""
        status = self.process.wait(within_seconds)
        self._reader.join(within_seconds)
        return status

    def stop(self) -> None:
        """Ask for a drain; a server that does not end cleanly, or has logged an error, is a failed test."""
        self.signal(signal.SIGTERM)
        assert self.wait() == 0, self.text
        assert self.errors() == []

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def close(self) -> None:
        """Leave nothing behind, whatever has happened."""
        if self.process.poll() is None:
            self.kill()
        self._reader.join(STOP_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def bound(self, index: int) -> tuple[str, int]:
        """Host and port of the role's addresses, in the order in which it tells them."""
        (started,) = self.logged("role started")
        url = started["addresses"].split(", ")[index]
        host, _, port = url.partition("//")[2].rpartition(":")
        return host, int(port)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()


def plain_environment() -> dict[str, str]:
    """This process's environment without options of berth."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BERTH_")}


def until(condition: Callable[[], bool], *, within_seconds: float = 10.0) -> None:
    """Ask again and again until the condition holds."""
    pause = threading.Event()
    for _ in range(int(within_seconds / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError(f"not so within {within_seconds:g} s")
