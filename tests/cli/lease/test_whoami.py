"""`berth whoami`, and what a caller is told who is not let in."""

import json
import re
import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Berth
from tests.cli.server import api_key


def test_table_and_json(berth: Berth):
    assert berth("whoami").out == "tenant:   a\nrole:     holder\nauthMode: static-keys\n"
    shown = json.loads(berth("whoami", "-o", "json").out)
    assert shown == {"tenant": "a", "role": "holder", "authMode": "static-keys"}


def test_key_from_a_file(berth: Berth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BERTH_API_KEY")
    (tmp_path / "key").write_text(api_key("b") + "\n")
    assert "tenant:   b" in berth("whoami", "--api-key-file", str(tmp_path / "key")).out


def test_no_key_and_a_wrong_one(berth: Berth):
    result = berth("whoami", "--api-key", "wrong")
    assert (result.code, result.out) == (5, "")
    assert re.fullmatch(
        r"error: unauthorized \(unauthenticated, request \w{32}\)\n"
        r"The server does not know this API key: check --api-key and --api-key-file\.\n",
        result.err,
    )


def test_without_a_key(berth: Berth, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BERTH_API_KEY")
    result = berth("whoami")
    assert result.code == 5
    assert "pass --api-key-file or set BERTH_API_KEY_FILE" in result.err


def test_both_ways_to_give_a_key(berth: Berth):
    result = berth("whoami", "--api-key", "x", "--api-key-file", "/no")
    assert result.code == 2
    assert "--api-key and --api-key-file exclude each other" in result.err


def test_the_key_that_is_given_nearer_counts(berth: Berth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "key").write_text(api_key("b"))
    assert "tenant:   b" in berth("whoami", "--api-key-file", str(tmp_path / "key")).out
    monkeypatch.delenv("BERTH_API_KEY")
    monkeypatch.setenv("BERTH_API_KEY_FILE", str(tmp_path / "key"))
    assert "tenant:   a" in berth("whoami", "--api-key", api_key("a")).out


def test_an_authority_that_is_not_trusted(berth: Berth, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BERTH_CA_FILE")
    result = berth("whoami")
    assert result.code == 6
    assert "is not trusted" in result.err
    assert "Pass --ca-file or set BERTH_CA_FILE" in result.err


def test_a_ca_file_that_is_not_there(berth: Berth):
    result = berth("whoami", "--ca-file", "/no/ca.pem")
    assert (result.code, result.err) == (
        2,
        "error: /no/ca.pem: the CA file cannot be read: No such file or directory\n",
    )


def test_no_server(berth: Berth):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = berth("whoami", "--api-server", f"https://127.0.0.1:{unused.getsockname()[1]}")
    assert result.code == 6
    assert "Is the server running? --api-server or BERTH_API_SERVER says where it is." in result.err
