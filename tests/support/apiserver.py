"""A real `berth apiserver` in a process of its own, for tests that look at it from outside.

Owns the process, its log, and the certificates it serves. Promises that a server which has started serves on
ports of its own, that waiting is for a condition and ends at a deadline, and that nothing outlives its test.
Does not speak HTTP.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme

START_SECONDS = 20.0
STOP_SECONDS = 15.0

Line = Mapping[str, Any]


class Apiserver:
    """A process that may serve, and everything that it has logged."""

    def __init__(self, *flags: str, ca_file: Path | None = None) -> None:
        self.ca_file = ca_file
        self.process = subprocess.Popen(
            [sys.executable, "-m", "berth", "apiserver", *flags],
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

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the API."""
        return self._bound(0)

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port of the metrics."""
        return self._bound(1)

    @property
    def url(self) -> str:
        return "https://{}:{}".format(*self.address)

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

    def _bound(self, index: int) -> tuple[str, int]:
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


class Certificates:
    """An authority and the files of one server's certificate by it."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.ca_file = directory / "ca.pem"
        self.cert_file = directory / "tls.crt"
        self.key_file = directory / "tls.key"
        self.authority.cert_pem.write_to_path(str(self.ca_file))
        self.issue()

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-cert-file", str(self.cert_file), "--tls-key-file", str(self.key_file))

    def issue(self) -> None:
        """Put a new certificate in the place of the old one, as a renewal does."""
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        self.cert_file.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key_file.write_bytes(issued.private_key_pem.bytes())


ANY_PORTS = ("--listen-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0")


@contextmanager
def apiserver(certificates: Certificates, *flags: str) -> Iterator[Apiserver]:
    """A server that serves; later flags win over the free ports. It is killed at the end if it still runs."""
    server = Apiserver(*certificates.flags, *ANY_PORTS, *flags, ca_file=certificates.ca_file)
    try:
        server.wait_for("role started")
        yield server
    finally:
        server.close()


def refused(*flags: str) -> tuple[int, str]:
    """Exit status of a server that does not start, and what it tells people beside its log."""
    server = Apiserver(*flags)
    try:
        status = server.wait(within_seconds=START_SECONDS)
    finally:
        server.close()
    assert "Traceback" not in server.text, server.text
    return status, "".join(line for line in server.text.splitlines(True) if not line.startswith("{"))


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
