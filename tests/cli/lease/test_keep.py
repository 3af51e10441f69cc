"""`berth lease renew` and `release`."""

import json

import pytest

from berth.core.records import TOKEN_MAX
from tests.cli.conftest import Berth
from tests.cli.lease.conftest import ME


def test_renew_finds_its_token(berth: Berth):
    berth("lease", "acquire", "again")
    renewed = berth("lease", "renew", "again", "-o", "json", "--ttl", "1h")
    assert renewed.code == 0
    assert json.loads(renewed.out)["fencingToken"] == 1


@pytest.mark.parametrize("command", ["renew", "release", "verify", "force-release"])
@pytest.mark.parametrize("token", ["0", "99999999999"])
def test_a_token_that_cannot_be(berth: Berth, command: str, token: str):
    reason = ("--reason", "x") if command == "force-release" else ()
    result = berth("lease", command, "x", "--token", token, *reason)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: --token must be from 1 to {TOKEN_MAX}\n")


def test_release_under_a_token_that_was_given(berth: Berth):
    berth("lease", "acquire", "given")
    for _ in range(2):  # the server does not say whether it was held until then
        released = berth("lease", "release", "given", "--token", "1")
        assert (released.code, released.err) == (0, "default/given is not held under token 1\n")


def test_renew_of_what_another_holds(berth: Berth, as_b: Berth):
    berth("lease", "acquire", "mine")
    looked_up = as_b("lease", "renew", "mine")
    assert (looked_up.code, looked_up.out) == (3, "")
    assert f"error: not held by b/{ME}: the lease is held by a/{ME} (token 1, " in looked_up.err
    asked = as_b("lease", "renew", "mine", "--token", "1")
    assert asked.code == 3
    assert asked.err == f"error: lost: the lease is held by a/{ME} (token 1)\n"


def test_release_finds_its_token(berth: Berth):
    berth("lease", "acquire", "done")
    released = berth("lease", "release", "done")
    assert (released.code, released.out, released.err) == (0, "", "released default/done (token 1)\n")
    again = berth("lease", "release", "done")
    assert (again.code, again.err) == (3, f"error: not held by a/{ME}: the lease is free\n")


def test_release_with_a_token_of_others(berth: Berth, as_b: Berth):
    berth("lease", "acquire", "theirs")
    result = as_b("lease", "release", "theirs", "--token", "1")
    assert result.code == 3
    assert "lease held by another identity or token (not_holder, request " in result.err


def test_a_lease_that_was_never_used(berth: Berth):
    for command in ("get", "renew", "release"):
        result = berth("lease", command, "never")
        assert result.code == 3
        assert "(not_found, " in result.err
