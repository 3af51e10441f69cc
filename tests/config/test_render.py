from dataclasses import dataclass
from typing import Annotated

from berth.config import Opt, options_of
from berth.config.render import help_line, markdown_table
from tests.config.declared import Everything, Needy

LINES = {option.field: help_line(option, "apiserver") for option in options_of(Everything)}


def test_help_names_the_spellings_the_variable_and_the_default():
    assert LINES["listen_addr"] == (
        "--listen-addr ADDR",
        "Where to listen  [env: BERTH_APISERVER_LISTEN_ADDR; default: :8443]",
    )
    assert LINES["gc_interval"][0] == "--gc-interval DURATION"
    assert LINES["gc_interval"][1].endswith("default: 30s]")
    assert LINES["level"][0] == "--level info|warn"
    assert LINES["verbose"] == ("-v, --verbose", "Talk  [env: BERTH_APISERVER_VERBOSE]")
    assert LINES["claim"][1] == "Claim  [repeatable; env: BERTH_APISERVER_CLAIM]"


def test_help_names_no_variable_where_none_is_read():
    assert LINES["yes"] == ("--yes", "Really")


def test_the_table_of_the_manual():
    rows = markdown_table(Everything, "apiserver").splitlines()
    assert rows[0] == "| Flag | Environment | TOML key | Type | Default | Meaning |"
    assert (
        "| `--gc-interval` | `BERTH_APISERVER_GC_INTERVAL` | `gc_interval` | duration | `30s` "
        "| Time between sweeps (applies on reload) |" in rows
    )
    assert "| `--qps` | `BERTH_APISERVER_QPS` | `qps` | float (requests per second) | `100` | Rate |" in rows
    assert "| `--yes` |  |  | bool |  | Really |" in rows
    assert not any("--old" in row for row in rows)


def test_the_client_has_no_file():
    [row] = [row for row in markdown_table(Needy, "").splitlines() if "--cert" in row]
    assert row == "| `--cert` | `BERTH_CERT` | path | required | The certificate |"


def test_a_table_may_leave_out_what_another_one_shows():
    @dataclass(frozen=True, kw_only=True)
    class Needier(Needy):
        count: Annotated[int, Opt("How many")] = 1

    rows = markdown_table(Needier, "", but=Needy).splitlines()
    assert rows[2:] == ["| `--count` | `BERTH_COUNT` | int | `1` | How many |"]
    assert markdown_table(Needy, "", but=Needy) == ""
