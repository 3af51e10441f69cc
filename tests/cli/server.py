"""Servers for the client commands: the real one, and one that says whatever a test wants."""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

KEYS = {"a": "", "b": "", "root": ":admin", "watcher": ":reader"}
START_LINES = 20


def api_key(tenant: str) -> str:
    return f"key-of-{tenant}"


@contextmanager
def apiserver(folder: Path) -> Iterator[str]:
    """The URL of a server over TLS with static keys, in a process of its own; `folder` gets its `ca.pem`."""
    ca = trustme.CA()
    leaf = ca.issue_cert("localhost", "127.0.0.1")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    lines = [
        f"{name}:{hashlib.sha256(api_key(name).encode()).hexdigest()}{role}" for name, role in KEYS.items()
    ]
    (folder / "keys").write_text("\n".join(lines) + "\n")
    command = [
        *(sys.executable, "-m", "berth", "apiserver", "--listen-addr=127.0.0.1:0", "--metrics-addr="),
        *(f"--tls-cert-file={folder}/cert.pem", f"--tls-key-file={folder}/key.pem"),
        *("--store-backend=mem", "--auth-mode=static-keys", f"--api-keys-file={folder}/keys"),
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        drainer = threading.Thread(target=lambda lines=process.stderr: [None for _ in lines])
        try:
            address = _address(process.stderr)
            drainer.start()  # a pipe that nobody reads fills up, and the server stops at its next line
            yield address
        finally:
            process.terminate()
            process.wait(timeout=20)
            if drainer.ident is not None:
                drainer.join()


def _address(lines: Iterator[str]) -> str:
    seen = []
    for line, _ in zip(lines, range(START_LINES), strict=False):
        seen.append(line)
        if "role started" in line:
            return json.loads(line)["addresses"]
    raise AssertionError("the server did not start:\n" + "".join(seen))


@contextmanager
def saying(status: int, body: object) -> Iterator[str]:
    """The URL of a server that answers every request alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_request(self, code: object = "-", size: object = "-") -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
