"""`berth session`."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Berth
from tests.cli.lease.conftest import rows


@pytest.fixture
def opened(client: Callable[..., Any]) -> Callable[..., str]:
    """Opens a session of a holder of tenant a, and tells its id."""

    def open_session(holder: str, instance: str = "", ttl_seconds: int = 600) -> str:
        return client("open_session", holder=holder, instance=instance, ttl_seconds=ttl_seconds).id

    return open_session


def test_sessions_of_a_holder_and_of_an_instance(berth: Berth, opened: Callable[..., str]) -> None:
    one, two = opened("a/lister", "i1"), opened("a/lister", "i2")
    opened("a/another", "i1")
    listed = rows(berth("session", "list", "--holder", "a/lister").out)
    assert listed[0] == ["ID", "HOLDER", "INSTANCE", "STATE", "EXPIRES IN"]
    assert sorted(row[:4] for row in listed[1:]) == sorted(
        [[one, "a/lister", "i1", "alive"], [two, "a/lister", "i2", "alive"]]
    )
    by_instance = berth("session", "list", "--holder", "a/lister", "--instance", "i2", "-o", "name")
    assert by_instance.out == f"{two}\n"
    assert one in berth("session", "list", "-o", "name").out.splitlines()


def test_a_list_of_none(berth: Berth) -> None:
    none = berth("session", "list", "--holder", "a/nobody")
    assert (none.code, none.out, none.err) == (0, "", "no such sessions\n")
    assert json.loads(berth("session", "list", "--holder", "a/nobody", "-o", "json").out) == {"items": []}


def test_the_holder_who_acts_is_no_filter(
    berth: Berth, opened: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened("a/unfiltered")
    monkeypatch.setenv("BERTH_HOLDER", "a/other")
    assert session in berth("session", "list", "-o", "name").out.splitlines()


def test_one_in_every_form(berth: Berth, opened: Callable[..., str]) -> None:
    session = opened("a/shown", "i", 90)
    wide = rows(berth("session", "get", session, "-o", "wide").out)
    assert wide[0] == ["ID", "HOLDER", "INSTANCE", "STATE", "EXPIRES IN", "TTL", "EXPIRES"]
    assert wide[1][:4] + wide[1][5:6] == [session, "a/shown", "i", "alive", "1m30s"]
    shown = json.loads(berth("session", "get", session, "-o", "json").out)
    assert (shown["id"], shown["alive"], shown["ttlSeconds"]) == (session, True, 90)
    assert yaml.safe_load(berth("session", "get", session, "-o", "yaml").out)["id"] == session
    assert berth("session", "get", session, "-o", "name").out == f"{session}\n"


def test_its_end_frees_what_is_under_it(berth: Berth, opened: Callable[..., str]) -> None:
    session = opened("a/ender")
    assert berth("lease", "acquire", "under-it", "--holder", "a/ender", "--session", session).code == 0
    for _ in range(2):
        ended = berth("session", "end", session)
        assert (ended.code, ended.out, ended.err) == (0, "", f"session {session} is over\n")
    assert "free" in berth("lease", "get", "under-it").out
    [_, row] = rows(berth("session", "get", session).out)
    assert row[3:] == ["ended", "-"]


def test_one_that_there_is_not(berth: Berth) -> None:
    result = berth("session", "get", "no-such")
    assert (result.code, result.out) == (3, "")
    assert "(not_found, " in result.err
    assert berth("session", "get", "").code == 2
    assert berth("session", "end").code == 2


def test_one_of_another_tenant(berth: Berth, as_b: Berth, opened: Callable[..., str]) -> None:
    session = opened("a/guarded")
    assert as_b("session", "end", session).code == 5
    assert "alive" in berth("session", "get", session).out
