"""`berth lease acquire`, by a ttl and under a session."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import Berth
from tests.cli.lease.conftest import ME, rows


class TestAcquire:
    def test_takes_and_keeps(self, berth: Berth):
        first = berth("lease", "acquire", "keep")
        assert (first.code, first.err) == (0, "")
        assert rows(first.out)[0] == ["NAME", "ACQUIRED", "HOLDER", "TOKEN", "EXPIRES"]
        assert rows(first.out)[1][:4] == ["keep", "yes", f"a/{ME}", "1"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", rows(first.out)[1][4])
        assert berth("lease", "acquire", "keep", "-o", "name").out == "keep\n"
        again = json.loads(berth("lease", "acquire", "keep", "--ttl", "1m", "-o", "json").out)
        assert again["acquired"] is True
        assert again["fencingToken"] == 1
        assert again["remainingSeconds"] == 60

    def test_held_by_another(self, berth: Berth, as_b: Berth):
        berth("lease", "acquire", "busy", "--ttl", "60s")
        result = as_b("lease", "acquire", "busy", "-o", "json")
        assert result.code == 3
        assert as_b("lease", "acquire", "busy", "-o", "name").out == ""
        assert json.loads(result.out)["holder"] == f"a/{ME}"
        assert re.fullmatch(
            rf"error: not acquired: held by a/{re.escape(ME)} \(token 1\) for another (1m00s|59s)\n",
            result.err,
        )

    def test_shared(self, berth: Berth):
        shared = ("--semantics", "at-least-once", "--max-holders", "2")
        for number, code in ((1, 0), (2, 0), (3, 3)):
            result = berth("lease", "acquire", "shared", "--holder", f"a/{number}", *shared)
            assert result.code == code
        [_, row] = rows(berth("lease", "get", "shared", "-o", "wide").out)
        assert row[2] == "a/2 +1"
        assert row[6:8] == ["at-least-once", "2/2"]

    def test_a_holder_of_another_tenant(self, berth: Berth):
        result = berth("lease", "acquire", "foreign", "--holder", "b/x")
        assert result.code == 5
        assert "(forbidden_holder, request " in result.err
        assert "berth whoami shows the tenant." in result.err

    def test_holder_from_the_environment(self, berth: Berth, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("BERTH_HOLDER", "a/env")
        assert rows(berth("lease", "acquire", "env").out)[1][2] == "a/env"

    @pytest.mark.parametrize(
        ("args", "told"),
        [
            (("x", "--ttl", "1500ms"), "--ttl must be whole seconds, from 1s to 2147483647s"),
            (("x", "--ttl", "0"), "--ttl must be whole seconds, from 1s"),
            (("x", "--ttl", "2147483648s"), "--ttl must be whole seconds, from 1s"),
            (("x", "--max-holders", "0"), "--max-holders must be from 1 to 2147483647"),
            (("x" * 100_000,), 'xxx…" is longer than 253 characters (invalid_name)'),
            (("x", "--ttl", "2000h"), "(ttl_too_large, "),
            (("BAD",), "(invalid_name, "),
            (("x", "-n", "BAD"), "(invalid_namespace, "),
            (("x", "--semantics", "twice"), "--semantics: 'twice' is not one of at-most-once, at-least-once"),
            ((), "Missing argument 'NAME'"),
        ],
    )
    def test_wrong_usage(self, berth: Berth, args: tuple[str, ...], told: str):
        result = berth("lease", "acquire", *args)
        assert (result.code, result.out) == (2, "")
        assert told in result.err


class TestAcquireUnderASession:
    @pytest.fixture
    def session(self, client: Callable[..., Any]) -> str:
        return client("open_session", holder=f"a/{ME}", ttl_seconds=600).id

    def test_lives_as_long_as_the_session(self, berth: Berth, client: Callable[..., Any], session: str):
        taken = json.loads(berth("lease", "acquire", "under", "--session", session, "-o", "json").out)
        assert (taken["acquired"], taken["session"]) == (True, session)
        assert 60 < taken["remainingSeconds"] <= 600
        client("end_session", session)
        assert json.loads(berth("lease", "get", "under", "-o", "json").out)["state"] == "free"
        late = berth("lease", "acquire", "under", "--session", session)
        assert (late.code, late.out) == (3, "")
        assert "(session_ended, request " in late.err

    def test_another_holder_s(self, berth: Berth, session: str):
        result = berth("lease", "acquire", "lent", "--session", session, "--holder", "a/other")
        assert result.code == 2
        assert "(session_holder_mismatch, request " in result.err

    def test_a_ttl_too(self, berth: Berth):
        result = berth("lease", "acquire", "both", "--session", "any", "--ttl", "30s")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("error: --ttl and --session exclude each other; give one of them\n")

    def test_of_line_and_environment_the_line_counts(
        self, berth: Berth, session: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("BERTH_TTL", "1m")
        by_session = berth("lease", "acquire", "by-session", "--session", session, "-o", "json")
        assert json.loads(by_session.out)["session"] == session
        monkeypatch.delenv("BERTH_TTL")
        monkeypatch.setenv("BERTH_SESSION", session)
        by_ttl = json.loads(berth("lease", "acquire", "by-ttl", "--ttl", "1m", "-o", "json").out)
        assert by_ttl["remainingSeconds"] == 60
        assert not by_ttl.get("session")
