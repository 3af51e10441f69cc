"""The client commands against a real server over TLS; each test uses lease names of its own."""

import getpass
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from berth.client import BerthClient
from berth.core.records import TOKEN_MAX
from tests.cli.conftest import Berth
from tests.cli.server import api_key, apiserver

ME = f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with apiserver(folder) as address:
        yield address


@pytest.fixture(autouse=True)
def as_tenant_a(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BERTH_API_SERVER", url)
    monkeypatch.setenv("BERTH_CA_FILE", str(folder / "ca.pem"))
    monkeypatch.setenv("BERTH_API_KEY", api_key("a"))


@pytest.fixture
def as_b(berth: Berth) -> Berth:
    return lambda *args: berth(*args, "--api-key", api_key("b"))


@pytest.fixture
def as_root(berth: Berth) -> Berth:
    return lambda *args: berth(*args, "--api-key", api_key("root"))


@pytest.fixture
def client(url: str, folder: Path) -> Callable[..., Any]:
    """Asks the server once, as tenant a: the name of a client's method, and its arguments."""

    def ask(method: str, *args: Any, **named: Any) -> Any:
        async def once() -> Any:
            async with BerthClient(url, api_key=api_key("a"), ca_file=folder / "ca.pem") as client:
                return await getattr(client, method)(*args, **named)

        return trio.run(once)

    return ask


def rows(text: str) -> list[list[str]]:
    return [re.split(r"\s{3,}", line) for line in text.splitlines()]


class TestWhoami:
    def test_table_and_json(self, berth: Berth):
        assert berth("whoami").out == "tenant:   a\nrole:     holder\nauthMode: static-keys\n"
        shown = json.loads(berth("whoami", "-o", "json").out)
        assert shown == {"tenant": "a", "role": "holder", "authMode": "static-keys"}

    def test_key_from_a_file(self, berth: Berth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("BERTH_API_KEY")
        (tmp_path / "key").write_text(api_key("b") + "\n")
        assert "tenant:   b" in berth("whoami", "--api-key-file", str(tmp_path / "key")).out

    def test_no_key_and_a_wrong_one(self, berth: Berth):
        result = berth("whoami", "--api-key", "wrong")
        assert (result.code, result.out) == (5, "")
        assert re.fullmatch(
            r"error: unauthorized \(unauthenticated, request \w{32}\)\n"
            r"The server does not know this API key: check --api-key and --api-key-file\.\n",
            result.err,
        )

    def test_without_a_key(self, berth: Berth, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("BERTH_API_KEY")
        result = berth("whoami")
        assert result.code == 5
        assert "pass --api-key-file or set BERTH_API_KEY_FILE" in result.err

    def test_both_ways_to_give_a_key(self, berth: Berth):
        result = berth("whoami", "--api-key", "x", "--api-key-file", "/no")
        assert result.code == 2
        assert "--api-key and --api-key-file exclude each other" in result.err

    def test_the_key_that_is_given_nearer_counts(
        self, berth: Berth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (tmp_path / "key").write_text(api_key("b"))
        assert "tenant:   b" in berth("whoami", "--api-key-file", str(tmp_path / "key")).out
        monkeypatch.delenv("BERTH_API_KEY")
        monkeypatch.setenv("BERTH_API_KEY_FILE", str(tmp_path / "key"))
        assert "tenant:   a" in berth("whoami", "--api-key", api_key("a")).out

    def test_an_authority_that_is_not_trusted(self, berth: Berth, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("BERTH_CA_FILE")
        result = berth("whoami")
        assert result.code == 6
        assert "is not trusted" in result.err
        assert "Pass --ca-file or set BERTH_CA_FILE" in result.err

    def test_a_ca_file_that_is_not_there(self, berth: Berth):
        result = berth("whoami", "--ca-file", "/no/ca.pem")
        assert (result.code, result.err) == (
            2,
            "error: /no/ca.pem: the CA file cannot be read: No such file or directory\n",
        )

    def test_no_server(self, berth: Berth):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            result = berth("whoami", "--api-server", f"https://127.0.0.1:{unused.getsockname()[1]}")
        assert result.code == 6
        assert "Is the server running? --api-server or BERTH_API_SERVER says where it is." in result.err


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


class TestRenewAndRelease:
    def test_renew_finds_its_token(self, berth: Berth):
        berth("lease", "acquire", "again")
        renewed = berth("lease", "renew", "again", "-o", "json", "--ttl", "1h")
        assert renewed.code == 0
        assert json.loads(renewed.out)["fencingToken"] == 1

    @pytest.mark.parametrize("command", ["renew", "release", "verify", "force-release"])
    @pytest.mark.parametrize("token", ["0", "99999999999"])
    def test_a_token_that_cannot_be(self, berth: Berth, command: str, token: str):
        reason = ("--reason", "x") if command == "force-release" else ()
        result = berth("lease", command, "x", "--token", token, *reason)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"error: --token must be from 1 to {TOKEN_MAX}\n")

    def test_release_under_a_token_that_was_given(self, berth: Berth):
        berth("lease", "acquire", "given")
        for _ in range(2):  # the server does not say whether it was held until then
            released = berth("lease", "release", "given", "--token", "1")
            assert (released.code, released.err) == (0, "default/given is not held under token 1\n")

    def test_renew_of_what_another_holds(self, berth: Berth, as_b: Berth):
        berth("lease", "acquire", "mine")
        looked_up = as_b("lease", "renew", "mine")
        assert (looked_up.code, looked_up.out) == (3, "")
        assert f"error: not held by b/{ME}: the lease is held by a/{ME} (token 1, " in looked_up.err
        asked = as_b("lease", "renew", "mine", "--token", "1")
        assert asked.code == 3
        assert asked.err == f"error: lost: the lease is held by a/{ME} (token 1)\n"

    def test_release_finds_its_token(self, berth: Berth):
        berth("lease", "acquire", "done")
        released = berth("lease", "release", "done")
        assert (released.code, released.out, released.err) == (0, "", "released default/done (token 1)\n")
        again = berth("lease", "release", "done")
        assert (again.code, again.err) == (3, f"error: not held by a/{ME}: the lease is free\n")

    def test_release_with_a_token_of_others(self, berth: Berth, as_b: Berth):
        berth("lease", "acquire", "theirs")
        result = as_b("lease", "release", "theirs", "--token", "1")
        assert result.code == 3
        assert "lease held by another identity or token (not_holder, request " in result.err

    def test_a_lease_that_was_never_used(self, berth: Berth):
        for command in ("get", "renew", "release"):
            result = berth("lease", command, "never")
            assert result.code == 3
            assert "(not_found, " in result.err


class TestShow:
    def test_list_of_a_namespace(self, berth: Berth):
        assert berth("lease", "list", "-n", "empty").err == "no leases in namespace empty\n"
        for name in ("b", "a"):
            berth("-n", "shelf", "lease", "acquire", name)
        berth("lease", "-n", "shelf", "release", "b")
        listed = rows(berth("lease", "list", "-n", "shelf").out)
        assert listed[0] == ["NAME", "STATE", "HOLDER", "TOKEN", "EXPIRES IN", "HELD FOR"]
        assert listed[1][:4] == ["a", "held", f"a/{ME}", "1"]
        assert listed[2] == ["b", "free", "-", "1", "-", "-"]
        assert berth("lease", "list", "-n", "shelf", "-o", "name").out == "a\nb\n"

    def test_list_of_all_namespaces(self, berth: Berth):
        berth("lease", "acquire", "one", "-n", "wide")
        assert "wide/one" in berth("lease", "list", "-A", "-o", "name").out.splitlines()
        listed = rows(berth("lease", "list", "-A", "-o", "wide").out)
        assert listed[0][0] == "NAMESPACE"
        assert [row[:3] for row in listed if row[0] == "wide"] == [["wide", "one", "held"]]

    def test_the_option_nearest_to_the_command_counts(self, berth: Berth):
        assert "namespace third\n" in berth("-n", "first", "lease", "-n", "second", "list", "-n", "third").err
        assert "namespace second\n" in berth("-n", "first", "lease", "-n", "second", "list").err

    def test_objects_of_the_wire(self, berth: Berth):
        berth("lease", "acquire", "wire", "-n", "objects")
        listed = json.loads(berth("lease", "list", "-n", "objects", "-o", "json").out)
        assert listed["revision"]
        [lease] = listed["items"]
        shown = json.loads(berth("lease", "get", "wire", "-n", "objects", "-o", "json").out)
        for each in (lease, shown):
            assert (each["namespace"], each["name"], each["state"]) == ("objects", "wire", "held")
            assert each["holders"][0]["fencingToken"] == each["fencingToken"] == 1
        assert "fencingToken: 1\n" in berth("lease", "get", "wire", "-n", "objects", "-o", "yaml").out

    def test_a_list_of_several_pages(self, berth: Berth, monkeypatch: pytest.MonkeyPatch):
        for number in range(3):
            berth("lease", "acquire", f"page-{number}", "-n", "pages")
        monkeypatch.setattr("berth.cli.lease_calls.PAGE_ITEMS", 2)
        listed = json.loads(berth("lease", "list", "-n", "pages", "-o", "json").out)
        assert [item["name"] for item in listed["items"]] == ["page-0", "page-1", "page-2"]
        assert "continue" not in listed

    def test_verify(self, berth: Berth):
        berth("lease", "acquire", "checked")
        good = berth("lease", "verify", "checked", "--token", "1")
        assert (good.code, good.out) == (0, "current:      true\nfencingToken: 1\n")
        old = berth("lease", "verify", "checked", "--token", "2", "-o", "json")
        assert (old.code, json.loads(old.out)) == (3, {"current": False, "fencingToken": 1})
        assert old.err == "error: token 2 is not current; the highest issued is 1\n"
        other = berth("lease", "verify", "checked", "--token", "1", "--holder", "a/other")
        assert (other.code, other.err) == (3, "error: token 1 is not current for a/other\n")
        assert berth("lease", "verify", "checked").err.startswith("error: --token is required")


class TestForceRelease:
    def test_wants_yes(self, berth: Berth, as_root: Berth):
        berth("lease", "acquire", "stuck", "--ttl", "60s")
        asked = as_root("lease", "force-release", "stuck", "--reason", "it hangs")
        assert (asked.code, asked.out) == (2, "")
        assert f"the tenure of a/{ME} (token 1, " in asked.err
        assert "repeat it with --yes" in asked.err
        assert "held" in berth("lease", "get", "stuck").out

    def test_ends_the_tenure_and_says_how_long_it_may_act(self, berth: Berth, as_root: Berth):
        berth("lease", "acquire", "hung", "--ttl", "60s")
        done = as_root("lease", "force-release", "hung", "--reason", "it hangs", "--yes")
        assert done.code == 0
        assert rows(done.out)[0] == ["NAME", "HOLDER", "TOKEN", "MAY ACT FOR"]
        assert rows(done.out)[1][:3] == ["hung", f"a/{ME}", "1"]
        assert done.err.startswith(f"released default/hung; a/{ME} may still act on it for ")
        assert "free" in berth("lease", "get", "hung").out
        again = as_root("lease", "force-release", "hung", "--reason", "it hangs", "--yes")
        assert (again.code, again.err) == (3, "error: the lease is free\n")

    def test_opens_what_a_lost_holder_left_closed(
        self, berth: Berth, as_root: Berth, client: Callable[..., Any]
    ):
        client("acquire", "default", "closed", holder="a/gone", ttl_seconds=1, lock_delay_seconds=600)
        force = ("lease", "force-release", "closed", "--reason", "it is checked")
        asked = as_root(*force)
        tries = 1
        while "the tenure of" in asked.err and tries < 1000:  # until it has expired
            asked = as_root(*force)
            tries += 1
        assert asked.code == 2
        assert re.search(
            r"this would open default/closed at once; .* the lease is free in \d+m\d\ds;", asked.err
        )
        assert "the lease is free in " in berth("lease", "release", "closed", "--holder", "a/gone").err
        assert as_root(*force, "--token", "2", "--yes").code == 3
        opened = as_root(*force, "--yes")
        assert (opened.code, opened.err) == (0, "opened default/closed; the time of a/gone was over\n")
        assert berth("lease", "acquire", "closed").code == 0

    def test_needs_the_role(self, berth: Berth):
        berth("lease", "acquire", "safe")
        result = berth("lease", "force-release", "safe", "--reason", "x", "--yes", "--token", "1")
        assert result.code == 5
        assert "berth whoami shows the tenant and role of your API key." in result.err

    def test_of_several_holders_one_must_be_chosen(self, berth: Berth, as_root: Berth):
        for holder in ("a/1", "a/2"):
            berth("lease", "acquire", "pair", "--semantics", "at-least-once", "--holder", holder)
        vague = as_root("lease", "force-release", "pair", "--reason", "x", "--yes")
        assert vague.code == 2
        assert vague.err.endswith("say which with --token\n")
        wrong = as_root("lease", "force-release", "pair", "--reason", "x", "--yes", "--token", "9")
        assert wrong.code == 3
        assert wrong.err.startswith("error: nobody holds token 9: ")
        chosen = as_root(
            "lease", "force-release", "pair", "--reason", "x", "--yes", "--token", "1", "-o", "json"
        )
        assert json.loads(chosen.out)["released"] == {"holder": "a/1", "fencingToken": 1}

    def test_needs_a_reason(self, as_root: Berth):
        assert "--reason is required" in as_root("lease", "force-release", "x", "--yes").err
