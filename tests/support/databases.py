"""What the database servers of the tests have in common: a folder, a user, a process, a port.

Owns finding the programs, becoming another user where they refuse to run as root, and the life of the
process. Promises that a server that has started answers on a port of its own, that only processes which were
started here are ended, and that nothing is left behind. Knows no SQL.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from tests.support.process import until

START_SECONDS = 30.0
STOP_SECONDS = 15.0


class DatabaseServer(ABC):
    """A server with a data folder that outlives its process: it may end and be started again."""

    user: str
    """Who runs it, where root may not."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Returns when the server answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.as_user(self.command()),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._settled, within_seconds=START_SECONDS)
        assert self._process.poll() is None, self.log

    def stop(self) -> None:
        """Ends it in order: connections are closed, everything is flushed."""
        self._end(self.stop_signal)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """Ends it as a crash does, with all of its processes."""
        children = self._children()
        self._end(signal.SIGKILL)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        until(lambda: not any(map(runs, children)), within_seconds=STOP_SECONDS)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stands still, with all of its processes, and goes on afterwards."""
        processes = [self.pid, *self._children()]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def _children(self) -> list[int]:
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(child) for child in listed.split()]

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def back_up(self) -> None:
        """Keeps a copy of all it has stored, in place of an earlier one."""
        self.stop()
        shutil.rmtree(self.folder / "backup", ignore_errors=True)
        self.run("cp", "-a", "data", "backup")
        self.start()

    def restore(self) -> None:
        """Starts it again with what `back_up` has kept, and with nothing since."""
        self.stop()
        shutil.rmtree(self.folder / "data")
        self.run("cp", "-a", "backup", "data")
        self.start()

    def run(self, *command: str | Path) -> None:
        """Runs a program of the server's to its end, as the server's user."""
        ran = subprocess.run(
            self.as_user(command),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def own(self, path: Path) -> None:
        """Gives it to the server's user."""
        user = runs_as(self.user)
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)

    def as_user(self, command: Sequence[str | Path]) -> list[str | Path]:
        user = runs_as(self.user)
        if user is None:
            return [*command]
        switch = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
        return [*switch, *command]

    def _settled(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None or self.answers()

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)
        self._process.wait(STOP_SECONDS)
        self._process = None

    stop_signal = signal.SIGTERM

    @property
    @abstractmethod
    def source(self) -> str:
        """The data source, as `--sql-dsn` takes it."""

    @abstractmethod
    def prepare(self) -> None:
        """Fills the empty folder."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The program that serves until it is ended, in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it takes connections now."""

    @classmethod
    @contextmanager
    def serving(cls, programs: Path) -> Iterator[Self]:
        """A new server with an empty database, gone at the end with all it stored."""
        # Other users cannot enter pytest's own folders.
        folder = Path(tempfile.mkdtemp(prefix="berth-database-"))
        server = cls(folder, programs)
        try:
            server.own(folder)
            server.prepare()
            server.start()
            yield server
        finally:
            server.close()
            shutil.rmtree(folder)


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    """A small file system in memory, at `directory`."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def runs(pid: int) -> bool:
    """Whether this process exists and is more than an entry that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def runs_as(name: str) -> pwd.struct_passwd | None:
    """The user that takes the place of root: of this name, or nobody. None where this is not root."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam("nobody")


def programs_or_skip(program: str, package: str, *folders: Path) -> Path:
    """The folder with `program`: on PATH, else the last of `folders` that has it; else skips the test."""
    found = shutil.which(program)
    if found is not None:
        return Path(found).resolve().parent  # where its companions are, too
    for folder in reversed(folders):
        if (folder / program).exists():
            return folder
    pytest.skip(f"{program} is not installed (`apt install {package}`)")


def given_or_skip(variable: str) -> str:
    """The data source of a server that runs already, as `--sql-dsn` takes it; else skips the test.

    Its user may create databases. Only one that the test makes is touched.
    """
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"{variable} names no server")
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
