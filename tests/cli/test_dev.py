"""`berth dev`: where its files go, who else may use them, and what its user is told to paste."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Berth

LINES = 20


@contextmanager
def dev(*args: str) -> Iterator[list[str]]:
    """The lines that `berth dev` greets its user with, while it runs on a free port."""
    command = [sys.executable, "-m", "berth", "dev", "--listen-addr=127.0.0.1:0", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line, _ in zip(process.stdout, range(LINES), strict=False):
            lines.append(line)
            if line.startswith("Ctrl+C"):
                break
        try:
            yield lines
        finally:
            process.terminate()
            process.wait(timeout=20)


def test_what_is_to_be_pasted_is_quoted(tmp_path: Path):
    directory = tmp_path / "it's a $HOME"
    with dev("--data-dir", str(directory)) as lines:
        exports = dict(shlex.split(line)[1].split("=", 1) for line in lines if "export " in line)
    assert exports["BERTH_CA_FILE"] == str(directory / "ca.pem")
    assert exports["BERTH_API_KEY_FILE"] == str(directory / "admin.key")


def test_a_directory_in_use_names_the_other_and_the_way_out(berth: Berth, tmp_path: Path):
    with dev("--data-dir", str(tmp_path)) as lines:
        assert lines[-1].startswith("Ctrl+C")
        result = berth("dev", "--data-dir", str(tmp_path))
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"error: dev: another berth dev uses {tmp_path}; use that one, or start this one with its own"
        " --data-dir and --listen-addr\n"
    )


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"\n"])
def test_a_file_that_holds_no_key_is_named(berth: Berth, tmp_path: Path, content: bytes):
    (tmp_path / "admin.key").write_bytes(content)
    result = berth("dev", "--data-dir", str(tmp_path))
    assert result.code == 1
    assert result.err == (
        f"error: dev: {tmp_path}/admin.key holds no key: remove it, and a new one is made\n"
    )


@pytest.mark.parametrize("home", ["", None, "relative"])
def test_without_a_home_the_directory_must_be_given(
    berth: Berth, monkeypatch: pytest.MonkeyPatch, home: str | None
):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "share")
    if home is not None:
        monkeypatch.setenv("HOME", home)
    result = berth("dev")
    assert (result.code, result.err) == (
        2,
        "error: HOME says no directory to keep files in; say one with --data-dir\n",
    )


@pytest.mark.parametrize(
    ("data_home", "below"), [("", "home/.local/share"), ("share", "home/.local/share"), ("/", "")]
)
def test_where_the_files_go(
    berth: Berth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_home: str, below: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", data_home and data_home.replace("/", str(tmp_path)))
    directory = tmp_path / below / "berth" / "dev"
    directory.mkdir(parents=True)
    (directory / "admin.key").write_text("")
    assert str(directory / "admin.key") in berth("dev").err


def test_a_working_directory_that_is_gone(berth: Berth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = berth("dev", "--data-dir", "here")
    os.chdir("/")
    assert (result.code, result.err) == (
        2,
        "error: the working directory is gone; say an absolute --data-dir\n",
    )
