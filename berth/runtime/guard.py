"""The direct parent of one command: a program of its own that leaves nothing of the command running.

It is started as `python -I -S guard.py FD` and needs the standard library only, so that it is up at once.
FD is a stream socket to its supervisor, who speaks in lines:

    {"argv": [...], "env": {...}, "until_us": N or null}    first: what to run, and until when
    signal N                                                signal N to the command's process group
    until N                                                 another end, in microseconds of the boot clock

and is told the command's process id in a line, once it runs. The exit status is the command's: its code,
128 + n when signal n ended it, 127 when it was not found, 126 when it could not be run.

Promises that everything the command has started, also what left its process group or became a daemon, is
killed when the command itself has ended, when the supervisor has (however that came), at `until` (also
while the supervisor is paused), and on `signal 9`; and that the guard ends only when all of it is gone. A
guard that is killed takes the command with it, but not what the command had started.

Does not reach what is no descendant: what another daemon starts on the command's behalf (`systemd-run`,
`docker run`, `at`). Cannot kill what it may not signal (`sudo`, set-user-ID programs), nor what the kernel
does not let die; it then stays until those end. Does nothing while it is itself stopped.
"""

import ctypes
import json
import math
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

KILLED = 128 + signal.SIGKILL
NOT_STARTED, NOT_FOUND = 126, 127
# At least this often the boot clock is read again: the one that select waits by stands still in suspend.
LOOK_SECONDS = 1.0

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

# Only the supervisor decides when to end; a Ctrl+C is its business.
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# What Python ignores on its own account; an ignored signal would stay ignored in the command.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Guard:
    """One command and everything below it. `link` leads to the supervisor, `woken` is readable on SIGCHLD."""

    def __init__(self, link: int, woken: int) -> None:
        self._link = link
        self._woken = woken
        # Opened before anything runs: a kernel that cannot list children is found out in time.
        self._children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        self._unread = b""
        self._until_us: int | None = None
        self._command: int | None = None  # from its start until it is reaped: so long its number is its own
        self._code = KILLED
        self._over = False  # nothing may be left running

    def run(self) -> int:
        """The exit status, when no descendant is left."""
        start = self._hear_start()
        self._wait(0)  # the supervisor may be gone already, or the time be up
        if start is not None and not self._over:
            self._start(start["argv"], start["env"])
        while self._reap():
            if self._over:
                self._kill_all()
            self._wait(LOOK_SECONDS)
        return self._code

    def _hear_start(self) -> dict[str, Any] | None:
        while b"\n" not in self._unread:
            self._receive()
            if self._over:
                return None
        line, _, self._unread = self._unread.partition(b"\n")
        start = json.loads(line)
        self._until_us = start["until_us"]
        return start

    def _start(self, argv: list[str], env: dict[str, str]) -> None:
        guard = os.getpid()
        running, held = os.pipe()
        try:
            self._command = os.fork()
        except OSError as error:
            self._code = NOT_STARTED
            _complain(argv[0], f"{error.strerror}; is there room for another process?")
            return
        if self._command == 0:
            _become(argv, env, guard)
        os.close(held)
        os.read(running, 1)  # ends with the exec: from here on the command's group is there to be signalled
        os.close(running)
        try:
            os.write(self._link, b"%d\n" % self._command)
        except OSError:
            pass  # the supervisor has gone; the next read says so too

    def _wait(self, longest_seconds: float) -> None:
        """Waits for a child's end, an order or the end of the time, and takes in what has come."""
        # Once it is over there is nothing left to be told, and a closed link would be readable forever.
        sources = [self._woken] if self._over else [self._woken, self._link]
        timeout_seconds = longest_seconds if self._over else min(longest_seconds, self._left_seconds())
        readable, _, _ = select.select(sources, [], [], timeout_seconds)
        if self._woken in readable:
            os.read(self._woken, 4096)
        if self._link in readable:
            self._receive()
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            self._obey(*line.split())
        self._over = self._over or self._left_seconds() == 0

    def _left_seconds(self) -> float:
        if self._until_us is None:
            return math.inf
        return max(0, self._until_us - time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000) / 1_000_000

    def _receive(self) -> None:
        """Reads what the supervisor has sent. Its end is the end of everything."""
        try:
            data = os.read(self._link, 65536)
        except ConnectionResetError:
            data = b""
        self._unread += data
        self._over = self._over or not data

    def _obey(self, order: bytes, value: bytes) -> None:
        number = int(value)
        if order == b"until":
            self._until_us = number
        elif number == signal.SIGKILL:
            self._over = True
        elif self._command is not None:
            _signal_group(self._command, number)

    def _reap(self) -> bool:
        """Takes in what has ended; whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._command:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else 128 - code
                self._command = None
                self._over = True

    def _kill_all(self) -> None:
        """Kills each child and its group; their children become ours, and are met on the next call.

        Only a process's parent can free its number, so that no stranger is hit.
        """
        for pid in os.pread(self._children, 65536, 0).split():
            _signal_group(os.getpgid(int(pid)), signal.SIGKILL)


def _become(argv: list[str], env: dict[str, str], guard: int) -> NoReturn:
    """Turns a fresh child of the guard into the command: its own session, default signals, exactly `env`."""
    code = NOT_STARTED
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(KILLED)  # it died before the line above could tell
        os.setsid()
        for number in (*_IGNORED, *_IGNORED_BY_PYTHON):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(argv[0], argv, env)
    except (FileNotFoundError, NotADirectoryError):
        code = NOT_FOUND
        _complain(argv[0], "no such command; give its path, or a PATH that leads to it")
    except OSError as error:
        _complain(argv[0], f"{error.strerror}; is it an executable file?")
    except ValueError as error:
        _complain(argv[0], str(error))  # a NUL, or a variable's name with a =
    finally:
        os._exit(code)


def _complain(command: str, reason: str) -> None:
    os.write(2, os.fsencode(f"berth: cannot run {command}: {reason}\n"))


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # gone, or another user's, which its end alone removes


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def main() -> int:
    """The guard's whole life; the process id's descendants end before it does."""
    link = int(sys.argv[1])
    os.set_inheritable(link, False)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # an ignored signal would wake nobody
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    return Guard(link, woken).run()


if __name__ == "__main__":
    sys.exit(main())
