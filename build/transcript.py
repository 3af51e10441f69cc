#!/usr/bin/env python3
"""Plays the main job with the real server and command line, and writes down what a user sees.

Two tenants contend for one lease over TLS; the server keeps its leases in SQLite and is killed without mercy
in between. Every step states its exit code and what it must print: the script fails when anything is
otherwise. `.venv/bin/python build/transcript.py [FILE]` writes docs/transcript.md, or FILE.
"""

import hashlib
import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from berth.runtime.clock import SystemClock
from berth.runtime.devca import ensure_dev_files

ROOT = Path(__file__).resolve().parent.parent
BERTH = [sys.executable, "-m", "berth"]
STEP_SECONDS = 30

HEAD = """\
# The main job, as it runs

Written by `build/transcript.py`, which plays it with the real server and command line and fails when a step
goes otherwise. Times, ports and ids are replaced by words.

Two tenants, `east` and `west`, contend for the lease `payments`. The server keeps its leases in SQLite,
speaks TLS and knows the tenants by their keys. It is killed with SIGKILL in between: nothing that it has
said is lost. In the end each runs a command under the lease, and the one that works is killed too.
"""

SERVER_OPTIONS = """\
--store-backend sql --sql-driver sqlite --sql-dsn leases.db \\
    --auth-mode static-keys --api-keys-file api-keys \\
    --tls-cert-file server.pem --tls-key-file server-key.pem \\
    --listen-addr 127.0.0.1:8443 --metrics-addr="""

# What differs from run to run, and the word for it.
WORDS = [
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"(127\.0\.0\.1|localhost):\d+"), "HOST:PORT"),
    (re.compile(r"\('127\.0\.0\.1', \d+\)"), "ADDRESS"),
    (re.compile(r"request [0-9a-f]{32}"), "request ID"),
    (re.compile(r"\b(\d+m)?\d+s\b"), "Ns"),
    (re.compile(r":\d+-[0-9a-f]{8}\b"), ":INSTANCE"),
]


class Play:
    """The stage: a directory, a server in it that can be killed, and what was written down so far."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._blocks: list[list[str]] = []
        self.server: subprocess.Popen[str] | None = None
        self._jobs: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ""
        self.keys = {tenant: secrets.token_urlsafe(24) for tenant in ("east", "west")}
        ensure_dev_files(directory, clock=SystemClock(), host="localhost")
        entries = [
            f"{tenant}:{hashlib.sha256(key.encode()).hexdigest()}" for tenant, key in self.keys.items()
        ]
        (directory / "api-keys").write_text("\n".join(entries) + "\n")

    def say(self, text: str) -> None:
        self._blocks.append([f"\n{text}\n\n```console\n"])

    def written(self) -> str:
        return "".join("".join(block) + "```\n" for block in self._blocks)

    def start_server(self) -> None:
        arguments = SERVER_OPTIONS.replace("\\\n", "").replace(":8443", ":0").split()
        self.server = subprocess.Popen(
            [*BERTH, "apiserver", *arguments], cwd=self.directory, stderr=subprocess.PIPE, text=True
        )
        self.url = self._address()
        self._show("$", f"berth apiserver {SERVER_OPTIONS} &", "")

    def _address(self) -> str:
        """The bound address, from the line in which the server says that it serves."""
        assert self.server is not None
        assert self.server.stderr is not None
        for line in self.server.stderr:
            entry = json.loads(line)
            if entry["msg"] == "role started":
                return str(entry["addresses"])
        raise SystemExit("the server did not start")

    def kill_server(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGKILL)
        self.server.wait(STEP_SECONDS)
        self._show("$", "kill -9 %1", "")

    def stop_server(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGTERM)
        code = self.server.wait(STEP_SECONDS)
        self._show("$", "kill %1; wait %1; echo $?", f"{code}\n")
        if code:
            raise SystemExit(f"the server ended with {code}")

    def run(self, tenant: str, line: str, *, code: int = 0, shows: str = "") -> None:
        """One command of a tenant, written down. It must end with `code` and print what matches `shows`."""
        ended = self._berth(tenant, line)
        if ended.returncode != code or not re.search(shows, ended.stdout):
            raise SystemExit(
                f"{tenant}: berth {line}\nexit code {ended.returncode}, wanted {code}; "
                f"wanted {shows!r} in:\n{ended.stdout}"
            )
        told = ended.stdout + (f"(exit code {code})\n" if code else "")
        self._show(f"{tenant}$", f"berth {line}", told)

    def start(self, tenant: str, line: str, *, shows: str) -> None:
        """A tenant's command that goes on, written down with what it prints until that matches `shows`."""
        with self._told(tenant).open("wb") as told:
            self._jobs[tenant] = subprocess.Popen(
                [*BERTH, *shlex.split(line)], env=self._environment(tenant), stdout=told, stderr=told
            )
        for _ in range(10 * STEP_SECONDS):
            if re.search(shows, self._told(tenant).read_text()):
                self._show(f"{tenant}$", f"berth {line} &", self._told(tenant).read_text())
                return
            time.sleep(0.1)
        raise SystemExit(f"{tenant}: berth {line}\nwanted {shows!r} in:\n{self._told(tenant).read_text()}")

    def kill(self, tenant: str) -> None:
        self._jobs[tenant].kill()
        self._jobs[tenant].wait(STEP_SECONDS)
        self._show(f"{tenant}$", "kill -9 %1", "")

    def wait(self, tenant: str, *, shows: str) -> None:
        """A tenant's command that goes on, to its end, written down with what else it has printed."""
        code = self._jobs[tenant].wait(STEP_SECONDS)
        told = self._told(tenant).read_text()
        if code or not re.search(shows, told):
            raise SystemExit(f"{tenant}: exit code {code}; wanted {shows!r} in:\n{told}")
        _, _, rest = told.partition("\n")
        self._show(f"{tenant}$", "wait %1; echo $?", f"{rest}{code}\n")

    def close(self) -> None:
        """Leave nothing running."""
        for process in (self.server, *self._jobs.values()):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait(STEP_SECONDS)

    def wait_until_free(self, tenant: str, name: str) -> None:
        """Look again and again, without writing it down. Each look takes a process's time."""
        for _ in range(100):
            if json.loads(self._berth(tenant, f"lease get {name} -o json").stdout)["state"] == "free":
                return
        raise SystemExit(f"{name} did not expire")

    def _told(self, tenant: str) -> Path:
        return self.directory / f"{tenant}.out"

    def _environment(self, tenant: str) -> dict[str, str]:
        return {
            **os.environ,
            "BERTH_API_SERVER": self.url,
            "BERTH_API_KEY": self.keys[tenant],
            "BERTH_CA_FILE": str(self.directory / "ca.pem"),
            "BERTH_HOLDER": f"{tenant}/node-1",
        }

    def _berth(self, tenant: str, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*BERTH, *line.split()],
            env=self._environment(tenant),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )

    def _show(self, prompt: str, line: str, output: str) -> None:
        for pattern, word in WORDS:
            output = pattern.sub(word, output)
        self._blocks[-1].append(f"{prompt} {line}\n{output}")


def perform(play: Play) -> None:
    play.say("The server starts.")
    play.start_server()
    play.say("`east` takes the lease and gets fencing token 1. `west` is told who holds it.")
    play.run("east", "whoami", shows="east")
    play.run("east", "lease acquire payments --ttl 15s", shows=r"yes\s+east/node-1\s+1\b")
    play.run("west", "lease acquire payments --ttl 15s", code=3, shows=r"held by east/node-1 \(token 1\)")
    play.run("west", "lease release payments", code=3, shows="east/node-1")
    play.say("A tenant acts for its own holders only.")
    play.run("west", "lease acquire payments --holder east/node-1", code=5, shows="forbidden_holder")
    play.say("The server is killed and started again on the same file: the lease is still held.")
    play.kill_server()
    play.run("east", "lease get payments", code=6, shows="error")
    play.start_server()
    play.run("west", "lease acquire payments --ttl 15s", code=3, shows=r"held by east/node-1 \(token 1\)")
    play.run("east", "lease renew payments --ttl 15s", shows=r"yes\s+east/node-1\s+1\b")
    play.say("`east` falls silent. Once its lease has expired, `west` takes it, with a higher token.")
    play.wait_until_free("west", "payments")
    play.run("west", "lease acquire payments --ttl 60s", shows=r"yes\s+west/node-1\s+2\b")
    play.say("`east` comes back late. Its token is no longer current, and its renewal is refused.")
    play.run("east", "lease renew payments --token 1 --ttl 15s", code=3, shows="west/node-1")
    play.run("east", "lease verify payments --token 1", code=3, shows="false")
    play.run("west", "lease verify payments --token 2", shows="true")
    play.say("Killed once more; then a clean hand-over. Tokens only ever grow.")
    play.kill_server()
    play.start_server()
    play.run("west", "lease release payments", shows="token 2")
    play.run("east", "lease acquire payments --ttl 15s", shows=r"yes\s+east/node-1\s+3\b")
    play.run("east", "lease list", shows=r"payments\s+held\s+east/node-1\s+3\b")
    play.run("east", "lease release payments", shows="token 3")
    play.say(
        "Each runs a command under the lease: `berth lease hold` acquires, renews, stops the command in\n"
        "time and releases. `east` works, `west` waits. `east` is killed, and its command with it; when its\n"
        "lease has expired, `west` works with a higher token."
    )
    command = """sh -c 'echo "working with token $BERTH_FENCING_TOKEN"; sleep {}'"""
    hold = "lease hold payments --ttl 6s --grace 1s -- "
    play.start("east", hold + command.format(600), shows="with token 4\n")
    play.start("west", hold + command.format(1), shows=r"held by east/node-1:\S+ \(token 4\)\n")
    play.kill("east")
    play.wait("west", shows=r"(?s)holding default/payments with token 5\nworking with token 5\n")
    play.run("west", "lease list", shows=r"payments\s+free\s+-\s+5\b")
    play.stop_server()


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "transcript.md"
    with tempfile.TemporaryDirectory() as directory:
        play = Play(Path(directory))
        try:
            perform(play)
        finally:
            play.close()
    target.write_text(HEAD + play.written())
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
