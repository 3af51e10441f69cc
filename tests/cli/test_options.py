from pathlib import Path

import pytest

from tests.cli.conftest import Berth


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        ([], "ttl=30.0"),
        (["--ttl", "1m"], "ttl=60.0"),
        (["--ttl=1m"], "ttl=60.0"),
        (["-ttl", "1m"], "ttl=60.0"),
        (["-ttl=1m"], "ttl=60.0"),
        (["-ttl=1m", "--ttl", "2m"], "ttl=120.0"),
        (["-listen-addr", "-ttl"], "listen_addr='-ttl'"),
        (["--listen-addr", "--dry=true"], "listen_addr='--dry=true'"),
        (["--listen-addr", "--dry=true"], "dry=False"),
        (["-label", "a", "--label=b"], "label=('a', 'b')"),
        (["--dry"], "dry=True"),
        (["-dry"], "dry=True"),
        (["--dry=true"], "dry=True"),
        (["--dry=false", "--dry"], "dry=True"),
        (["--dry", "--dry=false"], "dry=False"),
        (["-dry=false"], "dry=False"),
        (["-dry=T"], "dry=True"),
        (["--log-level", "INFO"], "log_level='info'"),
    ],
)
def test_spellings(berth: Berth, args: list[str], shown: str):
    result = berth("echo", *args)
    assert result.code == 0
    assert shown in result.out


def test_a_boolean_takes_no_second_word(berth: Berth):
    result = berth("echo", "--dry", "false")
    assert result.code == 2
    assert "unexpected extra argument (false)" in result.err


def test_all_problems_at_once(berth: Berth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "berth.toml"
    file.write_text("[echo]\nlisten_adr = 1\n")
    monkeypatch.setenv("BERTH_ECHO_BURST", "many")
    result = berth("echo", "--config", str(file), "--ttl=0", "--dry=maybe", "--key=hunter2")
    assert result.code == 2
    assert result.out == ""
    assert result.err == (
        "error: 4 problems with the options\n"
        f"  {file}: [echo] listen_adr: no such option (did you mean listen_addr?)\n"
        "  BERTH_ECHO_BURST: 'many' is not a whole number\n"
        "  --dry: 'maybe' is not true or false\n"
        "  --ttl must be positive\n"
        "Try 'berth echo --help'.\n"
    )


def test_environment_and_file(berth: Berth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "berth.toml"
    file.write_text('[echo]\nlisten_addr = ":1"\nburst = 7\nlog_level = "error"\n')
    monkeypatch.setenv("BERTH_ECHO_LISTEN_ADDR", ":2")
    result = berth("echo", "--config", str(file))
    assert "listen_addr=':2'" in result.out
    assert "burst=7" in result.out


def test_client_options_do_not_belong_to_a_role(berth: Berth):
    result = berth("--api-key", "k", "echo")
    assert result.code == 2
    assert "a role takes its own after its name" in result.err
