import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from berth.cli.main import COMMANDS
from berth.cli.roles import ROLES
from tests.cli.conftest import Berth, python

# Does what the shell does at TAB: fills COMP_WORDS, calls the registered function, shows what it found.
ASK_BASH = """
source <(berth completion bash)
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
complete -p berth | grep -q _berth_completion || exit 9
_berth_completion berth
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path_with_berth(tmp_path: Path) -> str:
    program = tmp_path / "berth"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m berth "$@"\n')
    program.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["berth", "ver"], ["version"]),
        (
            ["berth", ""],
            [*(role.name for role in ROLES), *(entry.name for entry in COMMANDS if not entry.hidden)],
        ),
        (["berth", "completion", ""], ["bash", "zsh", "fish"]),
        (["berth", "version", "--"], ["--output", "--help"]),
        (["berth", "version", "--output", ""], ["table", "json", "yaml"]),
        (["berth", "version", "-o", "j"], ["json"]),
        (["berth", "version", "--output", "=", "y"], ["yaml"]),  # bash takes --output=y apart
        (["berth", "version", "--output", "="], ["table", "json", "yaml"]),
        (["berth", "-api-key", "k", "ver"], ["version"]),
        (["berth", "--api-ke"], ["--api-key", "--api-key-file"]),
        (["berth", "lease", "re"], ["renew", "release"]),
        (["berth", "lease", "acquire", "--semantics", ""], ["at-most-once", "at-least-once"]),
        (["berth", "lease", "list", "--wa"], ["--watch"]),
        (["berth", "lease", "acquire", "--wa"], ["--wait"]),
        (["berth", "session", ""], ["list", "get", "end"]),
        (["berth", "session", "list", "--i"], ["--instance"]),
    ],
)
def test_bash_completes(path_with_berth: str, words: list[str], found: list[str]):
    result = subprocess.run(
        ["bash", "--norc", "-c", ASK_BASH, "bash", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": path_with_berth, "PYTHONPATH": os.getcwd()},
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == found


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef berth"), ("fish", "complete --no-files")]
)
def test_prints_a_script(berth: Berth, shell: str, mark: str):
    result = berth("completion", shell)
    assert (result.code, result.err) == (0, "")
    assert mark in result.out


def test_an_unknown_shell(berth: Berth):
    result = berth("completion", "tcsh")
    assert result.code == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in result.err


def test_asking_for_a_completion_imports_nothing_slow():
    asked = {**os.environ, "_BERTH_COMPLETE": "bash_complete", "COMP_WORDS": "berth ", "COMP_CWORD": "1"}
    result = python("-X", "importtime", "-m", "berth", **asked)
    assert "plain,lease" in result.stdout
    assert "trio" not in result.stderr
