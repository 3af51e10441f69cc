"""What goes wrong between a client command and a server, told in words and by the exit code."""

import os

import pytest

from berth.wire.problems import PROBLEMS
from tests.cli.conftest import Berth, python
from tests.cli.server import saying

NEVER = "0001-01-01T00:00:00Z"
# The client asks again after these, and then tells that no server could do it.
ASKED_AGAIN = {"too_many_connections", "store_unavailable", "shutting_down", "outcome_unknown", "internal"}


@pytest.mark.parametrize("code", sorted(set(PROBLEMS) - ASKED_AGAIN))
def test_every_problem_has_the_exit_code_of_the_table(berth: Berth, code):
    problem = PROBLEMS[code]
    body = {"error": problem.text, "code": code, "requestId": "r1"}
    with saying(problem.status, body) as url:
        result = berth("lease", "get", "x", "--api-server", url)
    assert (result.code, result.out) == (problem.exit_code, "")
    assert result.err.splitlines()[0] == f"error: {problem.text} ({code}, request r1)"


@pytest.mark.parametrize(
    "command",
    [
        ("whoami",),
        ("lease", "list"),
        ("lease", "acquire", "x", "--holder", "h"),
        ("lease", "release", "x", "--holder", "h", "--token", "1"),
        ("lease", "verify", "x", "--token", "1"),
    ],
)
def test_a_wrong_base_url_is_not_a_condition_that_is_not_met(berth: Berth, command: tuple[str, ...]):
    with saying(404, {"error": "no such path", "code": "not_found"}) as url:
        result = berth(*command, "--api-server", f"{url}/foo")
    assert result.code == 2
    assert f"error: {url}/foo answered 404: no such path (not_found)\n" in result.err
    assert "check --api-server or BERTH_API_SERVER" in result.err


@pytest.mark.parametrize("code", ["store_unavailable", "too_many_connections"])
def test_a_server_that_cannot_serve_now(berth: Berth, code):
    problem = PROBLEMS[code]
    with saying(problem.status, {"error": problem.text, "code": code}) as url:
        result = berth("whoami", "--api-server", url)
    assert result.code == problem.exit_code == 6
    assert problem.text in result.err


def test_an_outcome_that_is_unknown(berth: Berth):
    with saying(503, {"error": "not confirmed", "code": "outcome_unknown"}) as url:
        result = berth("lease", "release", "x", "--holder", "h", "--token", "1", "--api-server", url)
    assert result.code == 6
    assert "It may have been done: look with berth lease get, or run the same command again." in result.err


@pytest.mark.parametrize("command", [("whoami",), ("lease", "release", "x", "--holder", "h", "--token", "1")])
def test_a_defect_of_the_server_is_a_fault(berth: Berth, command: tuple[str, ...]):
    with saying(500, {"error": "internal error", "code": "internal"}) as url:
        result = berth(*command, "--api-server", url)
    assert result.code == PROBLEMS["internal"].exit_code == 1
    assert "internal error" in result.err


def test_a_server_of_another_kind(berth: Berth):
    with saying(200, ["hello"]) as url:
        result = berth("lease", "get", "x", "--api-server", url)
    assert result.code == 6
    assert url in result.err


def test_what_the_server_says_cannot_drive_the_terminal(berth: Berth):
    with saying(403, {"error": "no\x1b[2J\r\u202e", "code": "x\x1b"}) as url:
        result = berth("whoami", "--api-server", url)
    assert result.code == 5
    assert r"error: no\x1b[2J\r\u202e (x\x1b)" in result.err
    held = {
        "acquired": False,
        "expiresAt": NEVER,
        "acquiredAt": NEVER,
        "holder": "a\x1b[2J",
        "fencingToken": 3,
    }
    with saying(200, held) as url:
        result = berth("lease", "acquire", "x", "--holder", "h", "--api-server", url)
    assert result.code == 3
    assert "\x1b" not in result.out + result.err
    assert result.err == "error: not acquired: held by a\\x1b[2J (token 3)\n"


def test_a_terminal_that_lacks_a_character():
    held = {"acquired": False, "expiresAt": NEVER, "acquiredAt": NEVER, "holder": "zürich", "fencingToken": 3}
    with saying(200, held) as url:
        args = ("lease", "acquire", "x", "--holder", "h", "--api-server", url)
        result = python("-m", "berth", *args, **os.environ, PYTHONIOENCODING="ascii")
    assert result.returncode == 3
    assert r"z\xfcrich" in result.stdout
    assert r"z\xfcrich" in result.stderr


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({"reason": "lock_delay"}, "its last holder was lost, and the lease stays closed for another 13s"),
        ({"reason": "quarantine"}, "the server has restarted and grants nothing for another 13s"),
    ],
)
def test_a_lease_that_is_closed(berth: Berth, reply: dict[str, object], told: str):
    body = {
        "acquired": False,
        "expiresAt": NEVER,
        "acquiredAt": NEVER,
        "availableAfterSeconds": 12.3,
        **reply,
    }
    with saying(200, body) as url:
        result = berth("lease", "acquire", "x", "--holder", "h", "--api-server", url)
    assert (result.code, result.err) == (3, f"error: not acquired: {told}\n")


def test_without_a_key_nobody_is_asked_who_the_caller_is(berth: Berth, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("socket.gethostname", lambda: "edge")
    monkeypatch.setattr("getpass.getuser", lambda: "me")
    body = {"acquired": True, "expiresAt": NEVER, "acquiredAt": NEVER, "holder": "me@edge", "fencingToken": 1}
    with saying(200, body) as url:
        result = berth("lease", "acquire", "x", "--api-server", url)
    assert (result.code, result.err) == (0, "")


def test_a_user_without_a_name(berth: Berth, monkeypatch: pytest.MonkeyPatch):
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    monkeypatch.setattr("socket.gethostname", lambda: "edge")
    granted = {"acquired": True, "expiresAt": NEVER, "acquiredAt": NEVER, "fencingToken": 1}
    with saying(200, granted | {"holder": "uid-1234@edge"}) as url:
        assert berth("lease", "acquire", "x", "--api-server", url).code == 0


def test_a_value_that_looks_like_an_option_of_the_group_above(berth: Berth):
    granted = {"acquired": True, "expiresAt": NEVER, "acquiredAt": NEVER, "fencingToken": 1}
    with saying(200, granted | {"holder": "-ca-file"}) as url:
        result = berth("-api-server", url, "lease", "acquire", "x", "--holder", "-ca-file")
    assert (result.code, result.err) == (0, "")
