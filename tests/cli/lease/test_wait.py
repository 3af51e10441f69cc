"""`berth lease acquire --wait`."""

import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Berth
from tests.cli.lease.conftest import ME, rows
from tests.cli.lease.running import Running, running


def waiting(command: Running) -> bool:
    return "waiting: " in command.err


def test_it_is_had_the_moment_it_is_free(berth: Berth, as_b: Berth, tmp_path: Path) -> None:
    as_b("lease", "acquire", "awaited", "--ttl", "10m")
    with running(tmp_path, "lease", "acquire", "awaited", "--wait", "1h", "--ttl", "1m") as command:
        command.until(waiting)
        as_b("lease", "release", "awaited")
        assert command.code() == 0
        assert command.err.startswith(f"waiting: held by b/{ME} (token 1) for another ")
        assert rows(command.out)[1][:4] == ["awaited", "yes", f"a/{ME}", "2"]


def test_a_wait_that_ends_empty_says_the_place_in_line(berth: Berth, as_b: Berth) -> None:
    as_b("lease", "acquire", "kept", "--ttl", "10m")
    result = berth("lease", "acquire", "kept", "--wait", "1500ms")
    assert result.code == 3
    assert rows(result.out)[1][:3] == ["kept", "no", f"b/{ME}"]
    waiting, error = result.err.splitlines()
    assert waiting.startswith("waiting: held by ")
    assert error.startswith(f"error: not acquired: held by b/{ME} (token 1) for another ")
    assert error.endswith("; place 1 in line")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)], ids=("int", "term")
)
def test_who_is_interrupted_leaves_the_line(
    berth: Berth, as_b: Berth, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    name = f"left-{number}"
    as_b("lease", "acquire", name, "--ttl", "10m")
    with running(tmp_path, "lease", "acquire", name, "--wait", "1h", "--holder", "a/gone") as command:
        command.until(waiting)
        assert command.ended_by(number) == code
        assert command.out == ""
        assert "Traceback" not in command.err
    as_b("lease", "release", name)
    assert berth("lease", "acquire", name, "--wait", "10s").code == 0


def test_nobody_to_ask_within_the_wait(berth: Berth) -> None:
    result = berth(
        "lease", "acquire", "x", "--holder", "a/x", "--wait", "10ms", "--api-server", "https://127.0.0.1:1"
    )
    assert (result.code, result.out) == (6, "")
    assert "error: not acquired: default/x: cannot connect to https://127.0.0.1:1: " in result.err
