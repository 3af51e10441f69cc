"""The stage: certificates, and every server that is measured, started and stopped on loopback ports.

Owns a temporary directory on the file system that is measured, and every process. Promises that nothing is
left running or lying around. Servers are pinned to one core and load to another, so that neither takes the
other's time; on a machine with one core they share it.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from berth.runtime.clock import SystemClock
from berth.runtime.devca import DevFiles, ensure_dev_files

from .findings import NotMeasured

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 20.0

CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE, SERVER_CORE = CORES[0], CORES[-1]


class Running:
    """A server process. Its ports answer."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, metrics_port: int = 0) -> None:
        self.process = process
        self.port = port
        self._metrics_port = metrics_port

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a berth server's samples with this name and these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.partition("{")[0].partition(" ")[0] == name and all(each in line for each in wanted)
        )


class Stage:
    """What the measures are played on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: DevFiles = ensure_dev_files(directory, clock=SystemClock(), host="localhost")
        self.trust = ssl.create_default_context(cafile=str(self.files.ca))
        self.commands: dict[str, str] = {}
        """One command line for each way in which a program was run, by a name of its own."""
        self._ports: list[int] = []

    @contextmanager
    def berth(self, store: str, dsn: str = "") -> Iterator[Running]:
        """An API server on `mem`, on a new file of `sqlite`, or by the driver `store` on a database."""
        port, metrics_port = self._free_ports(2)
        flags = ["--store-backend=mem"]
        if store == "sqlite":
            data = self.directory / f"data-{port}"
            data.mkdir()
            dsn = f"{data}/leases.db"
        if store != "mem":
            flags = ["--store-backend=sql", f"--sql-driver={store}", f"--sql-dsn={dsn}"]
        with self._berth(port, metrics_port, flags) as server:
            yield server

    @contextmanager
    def berth_on_cluster(self, namespace: str, kubeconfig: Path, *more: str) -> Iterator[Running]:
        """An API server on the Lease objects of a namespace."""
        flags = [
            "--store-backend=k8s",
            f"--coordination-namespace={namespace}",
            f"--coordination-kubeconfig={kubeconfig}",
            *more,
        ]
        port, metrics_port = self._free_ports(2)
        with self._berth(port, metrics_port, flags) as server:
            yield server

    @contextmanager
    def _berth(self, port: int, metrics_port: int, flags: Sequence[str]) -> Iterator[Running]:
        command = [
            *(sys.executable, "-m", "berth", "apiserver", *flags, "--auth-mode=none", "--log-level=warn"),
            *(f"--listen-addr=127.0.0.1:{port}", f"--metrics-addr=127.0.0.1:{metrics_port}"),
            *(f"--tls-cert-file={self.files.cert}", f"--tls-key-file={self.files.key}"),
        ]
        with self._running(command, port) as process:
            yield Running(process, port, metrics_port)

    @contextmanager
    def operator(self, kubeconfig: Path, url: str) -> Iterator[Running]:
        """An operator in the cluster of the kubeconfig, on the load's core."""
        port, health_port = self._free_ports(2)
        command = [
            *(sys.executable, "-m", "berth", "operator", f"--kubeconfig={kubeconfig}", "--log-level=warn"),
            *(f"--berth-api-server={url}", f"--berth-ca-bundle-file={self.files.ca}", "--cluster-id=east"),
            f"--metrics-bind-address=127.0.0.1:{port}",
            f"--health-probe-bind-address=127.0.0.1:{health_port}",
        ]
        with self._running(command, port, core=LOAD_CORE) as process:
            yield Running(process, port, port)

    @contextmanager
    def empty(self) -> Iterator[Running]:
        """berth's serving code around a handler that does nothing."""
        (port,) = self._free_ports(1)
        command = [sys.executable, "-m", "benchmarks.empty", str(port), self.files.cert, self.files.key]
        with self._running(list(map(str, command)), port) as process:
            yield Running(process, port)

    @contextmanager
    def redis(self) -> Iterator[Running]:
        """Redis over TLS, in memory only."""
        program = needed("redis-server")
        (port,) = self._free_ports(1)
        command = [
            *(program, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1"),
            *("--tls-cert-file", str(self.files.cert), "--tls-key-file", str(self.files.key)),
            *("--tls-ca-cert-file", str(self.files.ca), "--tls-auth-clients", "no"),
            *("--save", "", "--appendonly", "no", "--dir", str(self.directory)),
        ]
        with self._running(command, port) as process:
            yield Running(process, port)

    @contextmanager
    def etcd(self) -> Iterator[Running]:
        """One etcd over TLS, on the same file system."""
        program = needed("etcd")
        port, peer_port = self._free_ports(2)
        client, peer = f"https://localhost:{port}", f"http://localhost:{peer_port}"
        command = [
            *(program, "--data-dir", str(self.directory / f"data-{port}"), "--log-level", "error"),
            *("--listen-client-urls", client.replace("localhost", "127.0.0.1")),
            *("--advertise-client-urls", client, "--listen-peer-urls", f"http://127.0.0.1:{peer_port}"),
            *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
            *("--cert-file", str(self.files.cert), "--key-file", str(self.files.key)),
        ]
        with self._running(command, port) as process:
            yield Running(process, port)

    @contextmanager
    def _running(
        self, command: Sequence[str], port: int, core: int = SERVER_CORE
    ) -> Iterator[subprocess.Popen[bytes]]:
        self._note(command)
        log = self.directory / f"log-{port}"
        with log.open("wb") as told:
            process = subprocess.Popen(
                [*pinned(core), *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=told, stderr=told
            )
        try:
            _until_it_listens(process, port, log)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)

    def load(self, command: Sequence[str], *, within_seconds: float) -> str:
        """What a program that makes load prints. Raises NotMeasured when it fails."""
        needed(command[0])
        self._note(command)
        line = [*pinned(LOAD_CORE), *command]
        ended = subprocess.run(
            line, cwd=ROOT, capture_output=True, text=True, timeout=within_seconds, check=False
        )
        if ended.returncode:
            raise NotMeasured(f"{command[0]} failed: {(ended.stderr or ended.stdout).strip()[-300:]}")
        return ended.stdout

    def _free_ports(self, count: int) -> list[int]:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        try:
            ports = [each.getsockname()[1] for each in sockets]
        finally:
            for each in sockets:
                each.close()
        self._ports += ports
        return ports

    def _note(self, command: Sequence[str]) -> None:
        """The line as anybody could write it: without paths and ports of this run."""
        line = " ".join(word if shlex.quote(word) == word else f'"{word}"' for word in command)
        line = line.replace(f"{sys.executable} -m berth", "berth").replace(sys.executable, "python")
        line = line.replace(f"{self.directory}/", "").replace(str(self.directory), ".")
        for port in self._ports:
            line = re.sub(rf"\b{port}\b", "PORT", line)
        program, *rest = line.split(" ")
        program = program.rpartition("/")[2]
        scripts = [word for word in rest if word.endswith(".lua") or word.startswith("--store-backend")]
        name = " ".join([program, *rest[:1], *scripts])
        self.commands.setdefault(name, " ".join([program, *rest]))


@contextmanager
def open_stage() -> Iterator[Stage]:
    """A stage whose load, this process's own included, stays on its core."""
    os.sched_setaffinity(0, {LOAD_CORE})
    base = ROOT / ".work"  # on the file system that is measured, and no part of the sources
    base.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=base) as directory:
        yield Stage(Path(directory))


def pinned(core: int) -> list[str]:
    return ["taskset", "--cpu-list", str(core)]


def needed(program: str) -> str:
    """Where a program is. Raises NotMeasured."""
    found = shutil.which(program)
    if found is None:
        raise NotMeasured(f"{program} is not installed")
    return found


def _until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise NotMeasured(f"{process.args[3]} did not start: {log.read_text()[-300:]}")  # type: ignore[index]
