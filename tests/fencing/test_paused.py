"""A real holder is paused between its check and its write, and loses its lease: the late write is refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pytest

from tests.fencing.s3 import ObjectStore
from tests.fencing.sites import asgi_site, wsgi_site
from tests.fencing.targets import Effect, SqlTarget, open_target
from tests.support.apiserver import Apiserver, plain_environment, until

WAIT_SECONDS = 20.0


class Holder:
    """A process of `holder`, and what it says."""

    def __init__(self, server: Apiserver, name: str, address: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.fencing.holder"),
                *(server.url, str(server.ca_file), name, address),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=plain_environment(),
        )
        self.said: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.reader = Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def next(self) -> dict[str, Any]:
        return self.said.get(timeout=WAIT_SECONDS)

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    @property
    def paused(self) -> bool:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def ended_well(self) -> bool:
        return self.process.wait(WAIT_SECONDS) == 0


@contextmanager
def holding(server: Apiserver, name: str, address: str) -> Iterator[Holder]:
    holder = Holder(server, name, address)
    try:
        yield holder
    finally:
        holder.process.kill()
        holder.process.wait()
        holder.reader.join()
        for pipe in (holder.process.stdin, holder.process.stdout):
            assert pipe is not None
            pipe.close()


def late_write(server: Apiserver, address: str) -> tuple[dict[str, Any], int, int]:
    """What the paused holder was told about its late write, its token, and that of the next."""
    with ExitStack() as stack:
        paused, other = (stack.enter_context(holding(server, name, address)) for name in ("paused", "next"))
        assert paused.next() == other.next() == {"ready": True}
        paused.go()
        paused.next()
        old = paused.next()["mine"]
        until(lambda: paused.paused, within_seconds=WAIT_SECONDS)
        other.go()
        new = other.next()["written"]
        assert other.ended_well()
        paused.go_on()
        told = paused.next()
        assert paused.ended_well()
        return told, old, new


def effects(address: str) -> list[Effect]:
    target = open_target(address)
    done = target.effects()
    if isinstance(target, SqlTarget):
        target.clear()
    return done


def refused(server: Apiserver, address: str) -> None:
    told, old, new = late_write(server, address)
    assert new > old
    assert told == {"refused": old, "highest": new}
    done = effects(address)
    assert [text for _, text in done] == ["paused: early", "next: early", "next: late"]
    assert [token for token, _ in done] == sorted(token for token, _ in done)


@pytest.mark.parametrize("address", ["postgres", "mariadb", "sqlite"], indirect=True)
def test_by_a_database(lease_server: Apiserver, address: str) -> None:
    refused(lease_server, address)


def test_by_an_object_store(lease_server: Apiserver, store: ObjectStore) -> None:
    refused(lease_server, f"object {store.url}")


@pytest.mark.parametrize("site", [wsgi_site, asgi_site])
def test_by_the_middleware(lease_server: Apiserver, site: Any, tmp_path: Path) -> None:
    with site(tmp_path / "marks.db") as url:
        refused(lease_server, f"http {url}")


@pytest.mark.parametrize("address", ["unfenced"], indirect=True)
def test_by_nobody_where_there_is_no_fence(lease_server: Apiserver, address: str) -> None:
    told, old, new = late_write(lease_server, address)
    assert told == {"written": old}
    assert effects(address)[-1] == (old, "paused: late")
    assert old < new
