"""A real holder is paused between its check and its write, and loses its lease: the late write is refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

import pytest

from tests.fencing.s3 import object_store
from tests.fencing.sites import asgi_site, wsgi_site
from tests.fencing.targets import Effect, SqlTarget, open_target
from tests.support.apiserver import Apiserver, plain_environment, until

WAIT_SECONDS = 20.0


class Holder:
    """A process of `holder`, and what it says."""

    def __init__(self, server: Apiserver, name: str, addresses: Iterable[str]) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.fencing.holder"),
                *(server.url, str(server.ca_file), name, *addresses),
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
def holding(server: Apiserver, name: str, addresses: Iterable[str]) -> Iterator[Holder]:
    holder = Holder(server, name, addresses)
    try:
        yield holder
    finally:
        holder.process.kill()
        holder.process.wait()
        holder.reader.join()
        for pipe in (holder.process.stdin, holder.process.stdout):
            assert pipe is not None
            pipe.close()


class Late(NamedTuple):
    """What came of a late write to one target."""

    told: dict[str, Any]
    """To the paused holder."""
    old: int
    """The paused holder's token."""
    new: int
    """The token of the next."""
    effects: list[Effect]


def late_writes(server: Apiserver, addresses: Sequence[str]) -> list[Late]:
    """One holder is paused before its writes to these targets, and goes on when the next has made its own."""
    for address in addresses:
        open_target(address)  # makes the tables, which PostgreSQL does not bear from two at once
    with ExitStack() as stack:
        paused, other = (stack.enter_context(holding(server, name, addresses)) for name in ("paused", "next"))
        assert paused.next() == other.next() == {"ready": True}
        paused.go()
        early = [paused.next() for _ in addresses]
        assert all("written" in told for told in early)
        old = paused.next()["mine"]
        until(lambda: paused.paused, within_seconds=WAIT_SECONDS)
        other.go()
        assert other.ended_well()
        new = other.next()["written"]
        paused.go_on()
        assert paused.ended_well()
        return [Late(paused.next(), old, new, open_target(address).effects()) for address in addresses]


@pytest.fixture(scope="module")
def late(
    lease_server: Apiserver, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Late]]:
    """What came of it, by target; a database that is not installed is left out."""
    folder = tmp_path_factory.mktemp("paused")
    with ExitStack() as stack:
        addresses = {
            "sqlite": f"sqlite {folder / 'fenced.db'}",
            "unfenced": f"unfenced {folder / 'unfenced.db'}",
            "object": f"object {stack.enter_context(object_store()).url}",
            "wsgi": f"http {stack.enter_context(wsgi_site(folder / 'wsgi.db'))}",
            "asgi": f"http {stack.enter_context(asgi_site(folder / 'asgi.db'))}",
        }
        for kind in ("postgres", "mariadb"):
            with suppress(pytest.skip.Exception):
                addresses[kind] = f"{kind} {request.getfixturevalue(f'{kind}_server').dsn}"
        yield dict(zip(addresses, late_writes(lease_server, [*addresses.values()]), strict=True))
        for kind in {"postgres", "mariadb"} & addresses.keys():
            opened = open_target(addresses[kind])
            assert isinstance(opened, SqlTarget)
            opened.clear()


@pytest.mark.parametrize("kind", ["postgres", "mariadb", "sqlite", "object", "wsgi", "asgi"])
def test_the_target_refuses(late: dict[str, Late], kind: str) -> None:
    if kind not in late:
        pytest.skip(f"{kind} is not installed")
    told, old, new, effects = late[kind]
    assert new > old
    assert told == {"refused": old, "highest": new}
    assert [text for _, text in effects] == ["paused: early", "next: early", "next: late"]
    assert [token for token, _ in effects] == sorted(token for token, _ in effects)


def test_without_a_fence_the_late_write_takes_place(late: dict[str, Late]) -> None:
    told, old, new, effects = late["unfenced"]
    assert told == {"written": old}
    assert effects[-2:] == [(new, "next: late"), (old, "paused: late")]
    assert old < new
