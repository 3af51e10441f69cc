"""Runs command lines in this process, as `main` would."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from berth.cli.main import COMMANDS, LazyGroup, run_line
from berth.cli.roles import ROLES
from tests.cli.roles import ECHO


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Berth = Callable[..., Ran]


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch):
    """No option from outside, and help of a known width."""
    import os

    for name in os.environ:
        if name.startswith("BERTH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def berth(capsys: pytest.CaptureFixture[str]) -> Berth:
    """Runs `berth ARGS…`, with the role `echo` among its roles."""

    def run(*args: str) -> Ran:
        code = run_line(LazyGroup(COMMANDS, (*ROLES, ECHO)), args)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


def python(*args: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """A Python of its own, with its own surroundings."""
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=60, check=False, env=env or None
    )
