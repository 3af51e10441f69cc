import os
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import Berth

ECHO_MAIN = (
    "import sys; from berth.cli.main import *; from tests.cli.roles import ECHO; "
    "sys.exit(run_line(LazyGroup((), (ECHO,)), sys.argv[1:]))"
)


def test_a_secret_is_not_shown(berth: Berth):
    result = berth("echo", "--key", "hunter2", "--log-level", "debug")
    assert result.code == 0
    assert "Secret(***)" in result.out
    assert "hunter2" not in result.out + result.err


def test_the_log_goes_to_stderr(berth: Berth):
    result = berth("echo", "--log-format", "text")
    assert 'msg="role started" logger=berth role=echo' in result.err
    assert "role started" not in result.out


@pytest.mark.parametrize("level", ["warn", "WARNING"])
def test_both_names_of_a_warning(berth: Berth, level: str):
    assert berth("echo", "--log-level", level).err == ""


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        ("told", "error: echo: cannot listen on :1: the port is in use; choose another port\n"),
        ("os", "error: echo: [Errno 2] No such file or directory: '/no/such/key'\n"),
    ],
)
def test_a_fault_is_one_line(berth: Berth, fail: str, told: str):
    result = berth("echo", "--fail", fail)
    assert (result.code, result.err) == (1, told)


def test_a_bug_leaves_its_traceback_in_the_log(berth: Berth):
    result = berth("echo", "--fail", "bug")
    assert result.code == 1
    line, error = result.err.splitlines()
    assert '"traceback": "Traceback' in line
    assert error == "error: echo: KeyError: 'surprise'"


def test_signals_reload_and_drain():
    with subprocess.Popen(
        [sys.executable, "-c", ECHO_MAIN, "echo", "--fail=drain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "serving\n"
            process.send_signal(signal.SIGHUP)
            while "reloaded" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
