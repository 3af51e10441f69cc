"""A command that does not outlive who started it.

Owns the supervisor's side of `guard.py`, which is the command's parent and does the killing. The command
runs in a session of its own without a controlling terminal (a Ctrl+C reaches the supervisor only), with the
caller's standard streams, and with exactly the environment that it is given.

Promises that no process that the command started is left, however it detached itself, once `wait` or `stop`
has returned or the block is left; that so it is soon after the supervisor's death, also by SIGKILL; and
that a limit set by `run_until` is kept also while the supervisor is paused. Where it cannot be known,
ChildRemains is raised.

Does not reach what others start on the command's behalf (`systemd-run`, `docker run`), and cannot kill what
runs with other credentials (`sudo`). While somebody holds the guard itself stopped, neither the
supervisor's death nor the limit is noticed; `stop` wakes it. When the guard is killed, the command dies and
its process group is killed, but what had left the group may run on.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

START_SECONDS = 10.0
KILL_SECONDS = 5.0

_GUARD = Path(__file__).with_name("guard.py")


class ChildRemains(Exception):
    """Something that the command started may still run."""


class Child:
    """A command under its guard. `pid` is the command's, and its process group's; None when it never ran."""

    def __init__(self, guard: trio.Process, link: socket.socket) -> None:
        self.pid: int | None = None
        self._guard = guard
        self._link = link
        self._known = False  # whether the end has been told to somebody

    async def _start(self, command: Sequence[str], env: Mapping[str, str], until_us: int | None) -> None:
        link = trio.SocketStream(trio.socket.from_stdlib_socket(self._link))
        start = {"argv": list(command), "env": _command_env(env), "until_us": until_us}
        try:
            await link.send_all(json.dumps(start).encode() + b"\n")
            self.pid = int(await link.receive_some() or 0) or None
        except trio.BrokenResourceError:
            pass  # the guard has ended, and its exit code says how

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the command's process group; SIGKILL to everything that the command started.

        Does not wait. Nothing happens once the command has ended.
        """
        self._tell(f"signal {number:d}")

    def run_until(self, until_us: int) -> None:
        """Moves the moment at which everything is killed, in microseconds of the boot clock. Does not wait.

        It is kept by the guard, on its own; a guard that does not listen keeps the moment it knew.
        """
        self._tell(f"until {until_us}")

    async def wait(self) -> int:
        """The command's exit code, or 128 + n for signal n; everything that it started has ended too.

        127 when the command was not found, 126 when it could not be started. Raises ChildRemains when the
        guard was killed.
        """
        code = await self._guard.wait()
        if code < 0:
            self._end_without_guard()
            raise ChildRemains(
                f"the guard of process {self.pid} was killed: what had left its group may still run"
            )
        self._known = True
        return code

    async def stop(self, *, grace_seconds: float) -> int:
        """Asks the command to end (SIGTERM), kills everything after the grace, and gives the exit code.

        A stopped command is continued, so that it can hear. Raises ChildRemains when something is left
        KILL_SECONDS after the grace, or the guard was killed.
        """
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        with trio.move_on_after(grace_seconds):
            return await self.wait()
        return await self._kill()

    async def _kill(self) -> int:
        self.signal(signal.SIGKILL)
        with trio.move_on_after(KILL_SECONDS):
            return await self.wait()
        self._guard.kill()
        with trio.move_on_after(KILL_SECONDS):
            return await self.wait()
        raise ChildRemains(f"the guard of process {self.pid} does not end, nor perhaps what it guards")

    async def _close(self) -> None:
        if not self._known:
            await self._kill()

    def _tell(self, order: str) -> None:
        if self._guard.returncode is not None:
            return
        self._guard.send_signal(signal.SIGCONT)  # a guard that somebody stopped would not hear
        try:
            self._link.send(order.encode() + b"\n")
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass  # it has not listened for long, or has just ended: waiting for it tells

    def _end_without_guard(self) -> None:
        """Kills the group, once: only now is its number certain to be no other's."""
        if self._known:
            return
        self._known = True
        try:
            if self.pid is not None:
                os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


@asynccontextmanager
async def open_child(
    command: Sequence[str], *, env: Mapping[str, str], until_us: int | None = None
) -> AsyncIterator[Child]:
    """Runs the command while the block runs; leaving it, in whatever way, kills what is left of the command.

    `until_us`: the first `run_until`; a command that would start later does not start. A command that
    cannot be run is no error: `wait` gives 127 or 126, and standard error says why. Raises OSError when the
    guard cannot be started, trio.TooSlowError when it does not answer, and on leaving ChildRemains.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            # Trio starts it in a thread; a parent-death signal would come when that thread ends.
            guard = await trio.lowlevel.open_process(
                [*_guard_command(), str(theirs.fileno())], pass_fds=[theirs.fileno()], start_new_session=True
            )
        child = Child(guard, ours)
        try:
            with trio.fail_after(START_SECONDS):
                await child._start(command, env, until_us)
            yield child
        finally:
            with trio.CancelScope(shield=True):
                await child._close()


def _guard_command() -> list[str]:
    """The command line of the guard, but for its file descriptor; it is to read text as this process does."""
    return [sys.executable, "-I", "-S", f"-Xutf8={sys.flags.utf8_mode}", str(_GUARD)]


def _command_env(env: Mapping[str, str]) -> dict[str, str]:
    """The environment, without the library path that a frozen executable has set for itself."""
    cleaned = dict(env)
    if getattr(sys, "frozen", False):
        cleaned.pop("LD_LIBRARY_PATH", None)
        if "LD_LIBRARY_PATH_ORIG" in env:
            cleaned["LD_LIBRARY_PATH"] = env["LD_LIBRARY_PATH_ORIG"]
    return cleaned
