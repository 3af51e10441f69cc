"""`berth lease force-release`."""

import json
import re
from collections.abc import Callable
from typing import Any

from tests.cli.conftest import Berth
from tests.cli.lease.conftest import ME, rows


def test_wants_yes(berth: Berth, as_root: Berth):
    berth("lease", "acquire", "stuck", "--ttl", "60s")
    asked = as_root("lease", "force-release", "stuck", "--reason", "it hangs")
    assert (asked.code, asked.out) == (2, "")
    assert f"the tenure of a/{ME} (token 1, " in asked.err
    assert "repeat it with --yes" in asked.err
    assert "held" in berth("lease", "get", "stuck").out


def test_ends_the_tenure_and_says_how_long_it_may_act(berth: Berth, as_root: Berth):
    berth("lease", "acquire", "hung", "--ttl", "60s")
    done = as_root("lease", "force-release", "hung", "--reason", "it hangs", "--yes")
    assert done.code == 0
    assert rows(done.out)[0] == ["NAME", "HOLDER", "TOKEN", "MAY ACT FOR"]
    assert rows(done.out)[1][:3] == ["hung", f"a/{ME}", "1"]
    assert done.err.startswith(f"released default/hung; a/{ME} may still act on it for ")
    assert "free" in berth("lease", "get", "hung").out
    again = as_root("lease", "force-release", "hung", "--reason", "it hangs", "--yes")
    assert (again.code, again.err) == (3, "error: the lease is free\n")


def test_opens_what_a_lost_holder_left_closed(berth: Berth, as_root: Berth, client: Callable[..., Any]):
    client("acquire", "default", "closed", holder="a/gone", ttl_seconds=1, lock_delay_seconds=600)
    force = ("lease", "force-release", "closed", "--reason", "it is checked")
    asked = as_root(*force)
    tries = 1
    while "the tenure of" in asked.err and tries < 1000:  # until it has expired
        asked = as_root(*force)
        tries += 1
    assert asked.code == 2
    assert re.search(r"this would open default/closed at once; .* the lease is free in \d+m\d\ds;", asked.err)
    assert "the lease is free in " in berth("lease", "release", "closed", "--holder", "a/gone").err
    assert as_root(*force, "--token", "2", "--yes").code == 3
    opened = as_root(*force, "--yes")
    assert (opened.code, opened.err) == (0, "opened default/closed; the time of a/gone was over\n")
    assert berth("lease", "acquire", "closed").code == 0


def test_needs_the_role(berth: Berth):
    berth("lease", "acquire", "safe")
    result = berth("lease", "force-release", "safe", "--reason", "x", "--yes", "--token", "1")
    assert result.code == 5
    assert "berth whoami shows the tenant and role of your API key." in result.err


def test_of_several_holders_one_must_be_chosen(berth: Berth, as_root: Berth):
    for holder in ("a/1", "a/2"):
        berth("lease", "acquire", "pair", "--semantics", "at-least-once", "--holder", holder)
    vague = as_root("lease", "force-release", "pair", "--reason", "x", "--yes")
    assert vague.code == 2
    assert vague.err.endswith("say which with --token\n")
    wrong = as_root("lease", "force-release", "pair", "--reason", "x", "--yes", "--token", "9")
    assert wrong.code == 3
    assert wrong.err.startswith("error: nobody holds token 9: ")
    chosen = as_root("lease", "force-release", "pair", "--reason", "x", "--yes", "--token", "1", "-o", "json")
    assert json.loads(chosen.out)["released"] == {"holder": "a/1", "fencingToken": 1}


def test_needs_a_reason(as_root: Berth):
    assert "--reason is required" in as_root("lease", "force-release", "x", "--yes").err
