"""Holding from a program without Trio, against a real server."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from berth.client import BerthClient, Held, LeaseLost, LeaseNotAcquired, hold_blocking
from tests.support.apiserver import Apiserver, Certificates, apiserver, until

TTL = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    with apiserver(Certificates(tmp_path_factory.mktemp("tls")), "--store-backend", "mem") as running:
        yield running
        running.stop()


def client(server: Apiserver) -> BerthClient:
    return BerthClient(server.url, ca_file=server.ca_file)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "berth-hold"]


def test_the_lease_is_held_while_the_block_runs_and_given_back(server: Apiserver) -> None:
    with hold_blocking(client(server), "n", "a", holder="x", ttl_seconds=TTL) as held:
        assert held.token == 1
        began = time.monotonic()
        with (
            pytest.raises(LeaseNotAcquired),
            hold_blocking(client(server), "n", "a", holder="y", wait_seconds=0),
        ):
            raise AssertionError
        while time.monotonic() - began < 1.5 * TTL:
            held.check()
            time.sleep(0.05)
    with hold_blocking(client(server), "n", "a", holder="y", wait_seconds=0) as held:
        assert held.token == 2
    assert threads() == []


def test_a_loss_is_told_and_the_lease_is_kept_from_others_until_the_block_ends(
    tmp_path: Path, server: Apiserver
) -> None:
    told: list[str] = []
    with apiserver(Certificates(tmp_path), "--store-backend", "mem") as own:
        with (
            pytest.raises(LeaseLost) as lost,
            hold_blocking(
                client(own),
                "n",
                "a",
                holder="x",
                ttl_seconds=TTL,
                on_lost=lambda held: told.append(held.name),
            ) as held,
        ):
            own.kill()
            until(lambda: bool(told))
            assert held.lost == "deadline"
            with pytest.raises(LeaseLost):
                held.check()
        assert lost.value.loss == "deadline"
    assert told == ["a"]
    assert threads() == []


def test_what_the_block_raises_comes_out_as_it_is(server: Apiserver) -> None:
    with pytest.raises(ValueError, match="mine"), hold_blocking(client(server), "n", "b", holder="x"):
        raise ValueError("mine")
    with hold_blocking(client(server), "n", "b", holder="y", wait_seconds=0) as held:
        assert held.token == 2


def test_what_cannot_be_held_is_told_before_the_block(server: Apiserver) -> None:
    with pytest.raises(Exception, match="holder"), hold_blocking(client(server), "n", "c", holder="\n"):
        raise AssertionError
    assert threads() == []


def test_a_callback_that_fails_does_not_open_the_lease_before_the_block_has_ended(tmp_path: Path) -> None:
    called: list[str] = []

    def on_lost(held: Held) -> None:
        called.append(held.name)
        raise RuntimeError("mine")

    with apiserver(Certificates(tmp_path), "--store-backend", "mem") as own:
        with (
            pytest.raises(RuntimeError, match="mine"),
            hold_blocking(client(own), "n", "a", holder="x", ttl_seconds=TTL, on_lost=on_lost),
        ):
            own.signal(signal.SIGSTOP)
            until(lambda: bool(called))
            own.signal(signal.SIGCONT)
            # Its tenure is not over yet by the server's clock, or it has expired; it was not given back.
            assert "released" not in [line.get("outcome") for line in own.logged("api request")]
        own.stop()
    assert threads() == []
