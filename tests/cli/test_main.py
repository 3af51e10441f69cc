import json
import os
import platform
import re
import subprocess
import sys
import time

import pytest

from berth.cli.main import COMMANDS
from berth.cli.roles import ROLES
from berth.version import VERSION
from tests.cli.conftest import Berth, python

SLOW = ("trio", "httpx", "msgspec", "quart", "quart_trio", "hypercorn", "cryptography", "yaml", "structlog")


@pytest.mark.parametrize(
    "args", [["version"], ["--help"], ["completion", "bash"], ["lesae"], ["lease", "acquire", "--help"]]
)
def test_only_the_chosen_command_is_imported(args: list[str]):
    result = python("-X", "importtime", "-m", "berth", *args, **os.environ)
    imported = set(re.findall(r"\|\s+([\w.]+)$", result.stderr, re.MULTILINE))
    assert "berth.cli.main" in imported
    assert not imported & set(SLOW)


def test_version_is_quick():
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        python("-m", "berth", "version", **os.environ)
        spent.append(time.perf_counter() - start)
    assert min(spent) < 0.25


def test_version(berth: Berth):
    assert berth("version").out.splitlines()[0] == f"version: {VERSION}"
    flag = berth("--version")
    assert (flag.code, flag.out) == (0, berth("version").out)
    shown = json.loads(berth("version", "-o", "json").out)
    assert shown == {"version": VERSION, "commit": "unknown", "python": platform.python_version()}


@pytest.mark.parametrize("entry", [*COMMANDS, *ROLES], ids=lambda entry: entry.name)
def test_every_command_of_the_table_is_there(berth: Berth, entry):
    result = berth(entry.name, "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: berth {entry.name}")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["lesae"], "error: No such command 'lesae'.\nTry 'berth --help'.\n"),
        (["version", "--nope"], "error: No such option '--nope'.\nTry 'berth version --help'.\n"),
        (["version", "-o"], "error: Option '--output' requires an argument.\n"),
        (["version", "x"], "error: Got unexpected extra argument (x)\nTry 'berth version --help'.\n"),
        (
            ["version", "-o", "xml"],
            "error: --output: 'xml' is not one of table, json, yaml\nTry 'berth version --help'.\n",
        ),
    ],
)
def test_wrong_usage_says_what_to_do(berth: Berth, args: list[str], told: str):
    result = berth(*args)
    assert (result.code, result.out, result.err) == (2, "", told)


@pytest.mark.parametrize("role", ["apiserver", "dev"])
def test_an_address_of_no_form_is_told_before_anything_starts(berth: Berth, role: str):
    result = berth(role, "--listen-addr", "foo", "--metrics-addr", ":99999")
    assert (result.code, result.out) == (2, "")
    assert "  --listen-addr: 'foo' is not an address; write :PORT, HOST:PORT" in result.err
    assert "  --metrics-addr: ':99999' is not an address" in result.err


def test_no_command_shows_the_help_as_talk(berth: Berth):
    result = berth()
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Usage: berth")


@pytest.mark.parametrize("args", ["version", "--help", "lease acquire --help", "completion bash"])
def test_output_that_cannot_be_written_is_one_line(args: str):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "berth", *args.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.stderr == "error: the output cannot be written: No space left on device\n"
    assert result.returncode == 1


def test_a_closed_pipe_is_no_traceback():
    result = subprocess.run(
        f"{sys.executable} -m berth completion bash | true",
        shell=True,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stderr == ""
