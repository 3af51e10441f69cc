"""`berth lease list --watch`."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Berth
from tests.cli.lease.conftest import ME, rows
from tests.cli.lease.running import Running, running
from tests.support.apiserver import Certificates, apiserver

WATCH = ("lease", "list", "--watch")


def told(command: Running, *last: str) -> None:
    """Wait until the last column of the table has these changes."""
    command.until(lambda command: [row[-1] for row in rows(command.out)[1:]] == [*last])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_list_then_a_line_for_each_change(berth: Berth, tmp_path: Path, number: signal.Signals) -> None:
    namespace = f"watch-{number}"
    berth("lease", "acquire", "first", "-n", namespace)
    with running(tmp_path, *WATCH, "-n", namespace) as command:
        told(command, "-")
        berth("lease", "acquire", "other", "-n", f"{namespace}-other")
        berth("lease", "acquire", "second", "-n", namespace)
        berth("lease", "release", "first", "-n", namespace)
        told(command, "-", "acquired", "released")
        assert command.ended_by(number) == 0
        assert command.err == ""
        assert [row[:3] + row[-1:] for row in rows(command.out)] == [
            ["NAME", "STATE", "HOLDER", "CHANGE"],
            ["first", "held", f"a/{ME}", "-"],
            ["second", "held", f"a/{ME}", "acquired"],
            ["first", "free", "-", "released"],
        ]


def test_for_programs_it_is_what_is_on_the_wire(berth: Berth, tmp_path: Path) -> None:
    berth("lease", "acquire", "first", "-n", "watch-json")
    with running(tmp_path, *WATCH, "-n", "watch-json", "-o", "json") as command:
        command.until(lambda command: command.out.count("\n") == 1)
        berth("lease", "release", "first", "-n", "watch-json")
        command.until(lambda command: command.out.count("\n") == 2)
        listed, event = map(json.loads, command.out.splitlines())
    assert [lease["name"] for lease in listed["items"]] == ["first"]
    assert (event["type"], event["object"]["state"]) == ("released", "free")
    assert listed["revision"] < event["revision"]


def test_all_namespaces_by_name_and_as_yaml(berth: Berth, tmp_path: Path) -> None:
    for form in ("name", "yaml"):
        (tmp_path / form).mkdir()
    with (
        running(tmp_path / "name", *WATCH, "-A", "-o", "name") as names,
        running(tmp_path / "yaml", *WATCH, "-n", "watch-yaml", "-o", "yaml") as documents,
    ):
        documents.until(lambda command: "revision: " in command.out)
        berth("lease", "acquire", "db", "-n", "watch-yaml")
        names.until(lambda command: "watch-yaml/db" in command.out.splitlines())
        documents.until(lambda command: len([*yaml.safe_load_all(command.out)]) == 2)
        listed, event = yaml.safe_load_all(documents.out)
    assert (listed["items"], event["type"]) == ([], "acquired")


def test_it_goes_on_after_a_restart_of_the_server(
    berth: Berth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path)
    flags = (
        *("--store-backend=sql", "--sql-driver=sqlite", f"--sql-dsn={tmp_path / 'leases.db'}"),
        "--auth-mode=none",
    )
    monkeypatch.delenv("BERTH_API_KEY")
    monkeypatch.setenv("BERTH_CA_FILE", str(certificates.ca_file))
    with apiserver(certificates, *flags) as server:
        monkeypatch.setenv("BERTH_API_SERVER", server.url)
        berth("lease", "acquire", "first", "--ttl", "10m")
        with running(tmp_path, *WATCH) as command:
            told(command, "-")
            server.stop()
            command.until(lambda command: "nothing is heard now, trying again: " in command.err)
            with apiserver(certificates, *flags, "--listen-addr={}:{}".format(*server.address)) as again:
                command.until(lambda command: "listed again" in command.err)
                berth("lease", "acquire", "second")
                told(command, "-", "CHANGE", "-", "acquired")
                assert command.ended_by(signal.SIGTERM) == 0
                assert re.fullmatch(
                    r"nothing is heard now, trying again: cannot connect to .*\n"
                    r"heard again\n"
                    r"listed again, for the server cannot tell what happened meanwhile\n",
                    command.err,
                )
                again.stop()


def test_what_cannot_be_listed_is_not_watched(berth: Berth) -> None:
    assert berth(*WATCH, "--api-key", "wrong").code == 5
    unreachable = berth(*WATCH, "--api-server", "https://127.0.0.1:1")
    assert unreachable.code == 6
    assert "Is the server running?" in unreachable.err


def test_a_reader_that_has_seen_enough_ends_it(berth: Berth) -> None:
    berth("lease", "acquire", "db", "-n", "watch-head")
    line = [sys.executable, "-m", "berth", *WATCH, "-n", "watch-head", "-o", "name"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.readline() == "db\n"
        command.stdout.close()
        berth("lease", "release", "db", "-n", "watch-head")
        assert (command.wait(25), command.stderr.read()) == (1, "")
