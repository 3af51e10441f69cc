"""`berth lease list`, `get` and `verify`."""

import json

import pytest

from tests.cli.conftest import Berth
from tests.cli.lease.conftest import ME, rows


def test_list_of_a_namespace(berth: Berth):
    assert berth("lease", "list", "-n", "empty").err == "no leases in namespace empty\n"
    for name in ("b", "a"):
        berth("-n", "shelf", "lease", "acquire", name)
    berth("lease", "-n", "shelf", "release", "b")
    listed = rows(berth("lease", "list", "-n", "shelf").out)
    assert listed[0] == ["NAME", "STATE", "HOLDER", "TOKEN", "EXPIRES IN", "HELD FOR"]
    assert listed[1][:4] == ["a", "held", f"a/{ME}", "1"]
    assert listed[2] == ["b", "free", "-", "1", "-", "-"]
    assert berth("lease", "list", "-n", "shelf", "-o", "name").out == "a\nb\n"


def test_list_of_all_namespaces(berth: Berth):
    berth("lease", "acquire", "one", "-n", "wide")
    assert "wide/one" in berth("lease", "list", "-A", "-o", "name").out.splitlines()
    listed = rows(berth("lease", "list", "-A", "-o", "wide").out)
    assert listed[0][0] == "NAMESPACE"
    assert [row[:3] for row in listed if row[0] == "wide"] == [["wide", "one", "held"]]


def test_the_option_nearest_to_the_command_counts(berth: Berth):
    assert "namespace third\n" in berth("-n", "first", "lease", "-n", "second", "list", "-n", "third").err
    assert "namespace second\n" in berth("-n", "first", "lease", "-n", "second", "list").err


def test_objects_of_the_wire(berth: Berth):
    berth("lease", "acquire", "wire", "-n", "objects")
    listed = json.loads(berth("lease", "list", "-n", "objects", "-o", "json").out)
    assert listed["revision"]
    [lease] = listed["items"]
    shown = json.loads(berth("lease", "get", "wire", "-n", "objects", "-o", "json").out)
    for each in (lease, shown):
        assert (each["namespace"], each["name"], each["state"]) == ("objects", "wire", "held")
        assert each["holders"][0]["fencingToken"] == each["fencingToken"] == 1
    assert "fencingToken: 1\n" in berth("lease", "get", "wire", "-n", "objects", "-o", "yaml").out


def test_a_list_of_several_pages(berth: Berth, monkeypatch: pytest.MonkeyPatch):
    for number in range(3):
        berth("lease", "acquire", f"page-{number}", "-n", "pages")
    monkeypatch.setattr("berth.client.watching.LIST_LIMIT_MAX", 2)
    listed = json.loads(berth("lease", "list", "-n", "pages", "-o", "json").out)
    assert [item["name"] for item in listed["items"]] == ["page-0", "page-1", "page-2"]
    assert "continue" not in listed


def test_verify(berth: Berth):
    berth("lease", "acquire", "checked")
    good = berth("lease", "verify", "checked", "--token", "1")
    assert (good.code, good.out) == (0, "current:      true\nfencingToken: 1\n")
    old = berth("lease", "verify", "checked", "--token", "2", "-o", "json")
    assert (old.code, json.loads(old.out)) == (3, {"current": False, "fencingToken": 1})
    assert old.err == "error: token 2 is not current; the highest issued is 1\n"
    other = berth("lease", "verify", "checked", "--token", "1", "--holder", "a/other")
    assert (other.code, other.err) == (3, "error: token 1 is not current for a/other\n")
    assert berth("lease", "verify", "checked").err.startswith("error: --token is required")
