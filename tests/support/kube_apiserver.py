"""A real kube-apiserver over its own etcd, for tests: `with kube_apiserver() as server`.

Promises an empty cluster on loopback ports of its own, and that only processes which were started here are
ended. No controller runs unless asked for, and never a scheduler or a kubelet: pods stay as they are, and no
service account is needed. Skips the test where the programs are not found.
"""

import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.databases import free_port
from tests.support.process import until

START_SECONDS = 60.0
STOP_SECONDS = 15.0
USUAL_FOLDER = "/usr/local/kubebuilder/bin"
PROGRAMS = ("etcd", "kube-apiserver")
MANAGER = "kube-controller-manager"
CONTROLLERS = (
    "cronjob-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "replicaset-controller",
    "statefulset-controller",
)
ADMIN = ("admin", "system:masters")


class KubeApiserver:
    """A running cluster's API: where it is, and with what its administrator comes."""

    def __init__(self, folder: Path, programs: Path, *, durable: bool = False) -> None:
        self.folder = folder
        self._durable = durable
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self._programs = programs
        self._etcd_port, self._peer_port = free_port(), free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._authority = trustme.CA()
        self.ca_pem = self._authority.cert_pem.bytes().decode()
        name, group = ADMIN
        self.admin = self._authority.issue_cert("admin.test", common_name=name, organization_name=group)
        self._write()

    def start(self) -> None:
        """Returns when it is ready."""
        self._start_etcd()
        self._start_api()

    def restart(self) -> None:
        """Ends the API server in order, and starts it again on the same etcd."""
        self._end(self._processes.pop("kube-apiserver"))
        self._start_api()

    def start_controllers(self) -> None:
        """Those that turn workloads into pods, and the garbage collector."""
        self._spawn(
            MANAGER,
            f"--kubeconfig={self.kubeconfig(self._file('manager.kubeconfig'))}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--cert-dir={self.folder / 'manager'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            "--leader-elect=false",
            # By default it would take its time over hundreds of workloads.
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
        )

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The API server stands still, and goes on afterwards."""
        process = self._processes["kube-apiserver"]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def compact(self) -> None:
        """Forgets every version but the newest, of which the API server has a memory of its own."""
        newest = self._etcd("kv/range", {"key": "AA=="})["header"]["revision"]
        self._etcd("kv/compaction", {"revision": newest, "physical": True})
        self.restart()

    def back_up(self) -> None:
        """Keeps all there is for `put_back`. Ends both programs in order, and starts them again."""
        self._copy("data", "backup")

    def put_back(self) -> None:
        """All is as it was at the backup, its versions too. Ends and starts both programs likewise."""
        self._copy("backup", "data")

    def _copy(self, source: str, target: str) -> None:
        for program in reversed(PROGRAMS):
            self._end(self._processes.pop(program))
        shutil.rmtree(self.folder / target, ignore_errors=True)
        shutil.copytree(self.folder / source, self.folder / target)
        self.start()

    def _etcd(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._etcd_port}/v3/{call}"
        request = urllib.request.Request(url, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=START_SECONDS) as reply:
            return json.load(reply)

    def _start_etcd(self) -> None:
        etcd = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._peer_port}"
        listen = ("client", etcd), ("peer", peer)
        self._spawn(
            "etcd",
            "--name=test",
            f"--data-dir={self.folder / 'data'}",
            *(() if self._durable else ("--unsafe-no-fsync",)),
            *(f"--listen-{who}-urls={url}" for who, url in listen),
            f"--advertise-client-urls={etcd}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
        )

    def _start_api(self) -> None:
        etcd = f"http://127.0.0.1:{self._etcd_port}"
        self._spawn("kube-apiserver", f"--etcd-servers={etcd}", *self._flags())
        until(lambda: self._ended() or self._ready(), within_seconds=START_SECONDS)
        assert not self._ended(), self.log

    def kubeconfig(self, path: Path, *, url: str = "", namespace: str = "default") -> Path:
        """The administrator's, written to `path`; it may lead to the server by another URL."""
        path.write_text(
            f"""\
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{url or self.url}",
  certificate-authority: {self._file("ca.crt")}}}}}]
users: [{{name: admin, user: {{client-certificate: {self._file("admin.crt")},
  client-key: {self._file("admin.key")}}}}}]
contexts: [{{name: test, context: {{cluster: test, user: admin, namespace: {namespace}}}}}]
"""
        )
        return path

    @property
    def log(self) -> str:
        logs = (self.folder / f"{program}.log" for program in (*PROGRAMS, MANAGER))
        return "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.exists())

    def close(self) -> None:
        for process in reversed(self._processes.values()):
            self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _flags(self) -> Sequence[str]:
        return (
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self.folder}",
            f"--tls-cert-file={self._file('server.crt')}",
            f"--tls-private-key-file={self._file('server.key')}",
            f"--client-ca-file={self._file('ca.crt')}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._file('accounts.key')}",
            f"--service-account-signing-key-file={self._file('accounts.key')}",
            # No controller makes the service account that a pod would need.
            "--disable-admission-plugins=ServiceAccount",
        )

    def _spawn(self, program: str, *flags: str) -> None:
        with self._file(f"{program}.log").open("wb") as log:
            self._processes[program] = subprocess.Popen(
                [self._programs / program, *flags],
                cwd=self.folder,
                env={"HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _ended(self) -> bool:
        return any(process.poll() is not None for process in self._processes.values())

    def read(self, path: str) -> str:
        """What it answers to its administrator. Raises OSError for what is no success."""
        context = ssl.create_default_context(cadata=self.ca_pem)
        context.load_cert_chain(self._file("admin.crt"), self._file("admin.key"))
        with urllib.request.urlopen(self.url + path, context=context, timeout=5) as reply:
            return reply.read().decode()

    def _ready(self) -> bool:
        try:
            return self.read("/readyz") == "ok"
        except OSError:
            return False

    def _write(self) -> None:
        self._authority.cert_pem.write_to_path(str(self._file("ca.crt")))
        accounts = self._authority.issue_cert("accounts.test")
        accounts.private_key_pem.write_to_path(str(self._file("accounts.key")))
        for name, issued in (("server", self._authority.issue_cert("127.0.0.1")), ("admin", self.admin)):
            issued.cert_chain_pems[0].write_to_path(str(self._file(f"{name}.crt")))
            issued.private_key_pem.write_to_path(str(self._file(f"{name}.key")))

    def _file(self, name: str) -> Path:
        return self.folder / name


@contextmanager
def kube_apiserver(*, controllers: bool = False, durable: bool = False) -> Iterator[KubeApiserver]:
    """A cluster that serves; for a fixture of a session's scope. Only a `durable` one outlives a crash."""
    programs = Path(os.environ.get("KUBEBUILDER_ASSETS") or USUAL_FOLDER)
    wanted = (*PROGRAMS, MANAGER) if controllers else PROGRAMS
    missing = [program for program in wanted if not (programs / program).exists()]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} in {programs}; KUBEBUILDER_ASSETS says where they are")
    folder = Path(tempfile.mkdtemp(prefix="berth-kube-"))
    server = KubeApiserver(folder, programs, durable=durable)
    try:
        server.start()
        if controllers:
            server.start_controllers()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder)
