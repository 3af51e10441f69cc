from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from berth.config import ConfigErrors, Secret, load
from tests.config.declared import Everything, Needy


def loaded(
    flags: Mapping[str, Sequence[str]] | None = None,
    env: Mapping[str, str] | None = None,
    file: Path | None = None,
):
    return load(Everything, "apiserver", flags=flags or {}, env=env or {}, file=file)


def problems(
    flags: Mapping[str, Sequence[str]] | None = None,
    env: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> tuple[str, ...]:
    with pytest.raises(ConfigErrors) as caught:
        loaded(flags, env, file)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


@pytest.fixture
def toml(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "berth.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


class TestPrecedence:
    def test_flag_over_environment_over_file_over_default(self, toml):
        file = toml('[apiserver]\nburst = 400\nlisten_addr = ":3"\ngc_interval = "3s"')
        env = {"BERTH_APISERVER_LISTEN_ADDR": ":2", "BERTH_APISERVER_GC_INTERVAL": "2s"}
        result = loaded({"gc_interval": ["1s"]}, env, file)
        options, sources = result.options, result.sources
        assert (options.gc_interval, sources["gc_interval"]) == (1.0, "--gc-interval")
        assert (options.listen_addr, sources["listen_addr"]) == (":2", "BERTH_APISERVER_LISTEN_ADDR")
        assert (options.burst, sources["burst"]) == (400, f"{file}: [apiserver] burst")
        assert (options.qps, sources["qps"]) == (100.0, "default")

    def test_empty_means_unset_everywhere(self, toml):
        file = toml('[apiserver]\nlisten_addr = ""\nburst = 300')
        options = loaded({"listen_addr": [""]}, {"BERTH_APISERVER_BURST": ""}, file).options
        assert (options.listen_addr, options.burst) == (":8443", 300)

    def test_an_empty_flag_or_key_switches_off_where_declared_so(self, toml):
        assert loaded({"metrics_addr": [""]}).options.metrics_addr == ""
        assert loaded(file=toml('[apiserver]\nmetrics_addr = ""')).options.metrics_addr == ""
        assert loaded(env={"BERTH_APISERVER_METRICS_ADDR": ""}).options.metrics_addr == ":8080"

    def test_another_role_is_not_read(self):
        assert loaded(env={"BERTH_OPERATOR_BURST": "900", "BERTH_BURST": "900"}).options.burst == 200

    def test_the_last_flag_counts(self):
        assert loaded({"burst": ["300", "400"]}).options.burst == 400

    def test_flag_only_is_read_from_no_environment_and_no_file(self, toml):
        assert loaded(env={"BERTH_APISERVER_YES": "true"}).options.yes is False
        assert "[apiserver] yes: no such option" in problems(file=toml("[apiserver]\nyes = true"))[0]
        assert loaded({"yes": ["true"]}).options.yes is True


class TestInstead:
    """Two options of which one stands in for the other."""

    def test_the_stronger_source_counts(self, toml):
        file = toml('[apiserver]\napi_key = "in file"')
        env = {"BERTH_APISERVER_API_KEY_FILE": "/env"}
        options = loaded({"api_key": ["flag"]}, env, file).options
        assert (options.api_key, options.api_key_file) == (Secret("flag"), None)
        result = loaded({}, env, file)
        assert (result.options.api_key, result.options.api_key_file) == (None, Path("/env"))
        assert result.sources["api_key"] == "default"

    def test_one_source_gives_one(self):
        names = "BERTH_APISERVER_API_KEY", "BERTH_APISERVER_API_KEY_FILE"
        assert problems(env=dict.fromkeys(names, "x")) == (
            "BERTH_APISERVER_API_KEY and BERTH_APISERVER_API_KEY_FILE exclude each other; give one of them",
        )
        assert problems({"api_key": ["k"], "api_key_file": ["f"]}) == (
            "--api-key and --api-key-file exclude each other; give one of them",
        )


class TestKinds:
    @pytest.mark.parametrize(
        ("field", "text", "value"),
        [
            ("burst", "+300", 300),
            ("qps", "1.5", 1.5),
            ("idle", "1m30s", 90.0),
            ("level", "INFO", "info"),
            ("driver", "mysql", "mysql"),
            ("ca_file", "/x/ca.pem", Path("/x/ca.pem")),
            ("ca_file", "~/ca.pem", Path("~/ca.pem").expanduser()),
            ("api_key", "k", Secret("k")),
            ("verbose", "T", True),
            ("verbose", "0", False),
            ("claim", "a=b,c", ("a=b,c",)),
        ],
    )
    def test_reads(self, field: str, text: str, value: object):
        assert getattr(loaded({field: [text]}).options, field) == value

    @pytest.mark.parametrize(
        ("field", "text", "problem"),
        [
            ("burst", "1.5", "--burst: '1.5' is not a whole number"),
            ("burst", "9" * 5000, f"--burst: '{'9' * 80}…' is not a whole number"),
            ("qps", "nan", "--qps: 'nan' is not a number"),
            ("qps", "fast", "--qps: 'fast' is not a number"),
            ("idle", "90", "--idle: '90' is not a duration such as 30s, 1m30s or 500ms"),
            ("server", "a\udcff", r"--berth-api-server: 'a\udcff' is not UTF-8 text"),
            ("idle", "9999999999s", "--idle: '9999999999s' is too long; the longest duration is 292 years"),
            ("level", "loud", "--level: 'loud' is not one of info, warn"),
            ("driver", "MySQL", "--driver: 'MySQL' is not one of sqlite, mysql"),
            ("verbose", "yes", "--verbose: 'yes' is not true or false"),
            ("ca_file", "a\0b", r"--ca-file: 'a\x00b' is not a path"),
        ],
    )
    def test_refuses(self, field: str, text: str, problem: str):
        assert problems({field: [text]}) == (problem,)

    def test_repeatable(self, toml):
        assert loaded({"claim": ["a=1", "", "b=2"]}).options.claim == ("a=1", "b=2")
        assert loaded(env={"BERTH_APISERVER_CLAIM": "a=1,b=2"}).options.claim == ("a=1", "b=2")
        assert loaded(file=toml('[apiserver]\nclaim = ["a=1", "b=2"]')).options.claim == ("a=1", "b=2")
        assert loaded(file=toml('[apiserver]\nclaim = "a=1"')).options.claim == ("a=1",)


class TestFile:
    def test_values_of_their_own_types(self, toml):
        file = toml('[apiserver]\nburst = 300\nqps = 1.5\nverbose = true\nidle = "2s"\napi_server = "x"')
        options = loaded(file=file).options
        assert (options.burst, options.qps, options.verbose) == (300, 1.5, True)
        assert (options.idle, options.server) == (2.0, "x")

    def test_other_tables_are_for_others(self, toml):
        assert loaded(file=toml('[operator]\nx = 1\n[apiserver]\nlevel = "INFO"')).options.level == "info"

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (
                "[apiserver]\nlisten-addr = 1",
                "[apiserver] listen-addr: no such option (did you mean listen_addr?)",
            ),
            ("[apiserver]\nzzz = 1", "[apiserver] zzz: no such option"),
            ("[apiserver]\nburst = {}", "[apiserver] burst: expected a whole number"),
            ("[apiserver]\nburst = [1]", "[apiserver] burst: expected a whole number"),
            ("[apiserver]\nclaim = [[]]", "[apiserver] claim: expected UTF-8 text, in quotes"),
            ("[apiserver]\nlisten_addr = 5", "[apiserver] listen_addr: expected UTF-8 text, in quotes"),
            ("[apiserver]\nca_file = 5", "[apiserver] ca_file: expected a path, in quotes"),
            ("[apiserver]\nlevel = 5", "[apiserver] level: expected one of info, warn, in quotes"),
            ("[apiserver]\nburst = true", "[apiserver] burst: 'true' is not a whole number"),
            (
                "[apiserver]\nidle = 30",
                "[apiserver] idle: '30' is not a duration such as 30s, 1m30s or 500ms",
            ),
            ("[apisrver]\nburst = 1", "[apisrver]: no such table (did you mean [apiserver]?)"),
            ("[apiserver]\n[apisever]", "[apisever]: no such table (did you mean [apiserver]?)"),
            ("burst = 1\n[apiserver]", "burst stands in no table; options of this role stand below a line"),
            ("apiserver = 1", "apiserver is not a table; write [apiserver] on a line of its own"),
            ("[[apiserver]]", "apiserver is not a table; write [apiserver] on a line of its own"),
            ("", "has no table [apiserver]; its options stand below such a line"),
            ("x = ", "not a TOML file: Invalid value (at end of document)"),
            (b"\xff", "not a TOML file: "),
            ("#" * (1 << 20) + "\n", "not a TOML file: larger than 1048576 bytes"),
        ],
    )
    def test_says_what_is_wrong(self, toml, text: str | bytes, problem: str):
        file = toml(text)
        [found] = problems(file=file)
        assert found.startswith(f"{file}: {problem}")

    def test_only_keys_without_a_table(self, toml):
        stray, missing = problems(file=toml("burst = 1"))
        assert "burst stands in no table" in stray
        assert missing.endswith("has no table [apiserver]; its options stand below such a line")

    def test_a_missing_file(self, tmp_path: Path):
        assert problems(file=tmp_path / "no.toml") == (
            f"{tmp_path}/no.toml: cannot be read: No such file or directory",
        )
        assert problems(file=tmp_path) == (f"{tmp_path}: cannot be read: Is a directory",)


class TestAllAtOnce:
    def test_every_source_and_the_rules(self, toml):
        file = toml('[apiserver]\nburts = 1\nlevel = "warn"')
        found = problems({"idle": ["x"], "verbose": ["maybe"]}, {"BERTH_APISERVER_BURST": "50"}, file)
        assert found == (
            f"{file}: [apiserver] burts: no such option (did you mean burst?)",
            "--idle: 'x' is not a duration such as 30s, 1m30s or 500ms",
            "--verbose: 'maybe' is not true or false",
            "--burst must be at least --qps",
            "--level warn wants a --driver",
        )

    def test_a_rule_says_nothing_of_an_option_that_has_a_problem_already(self):
        found = problems({"level": ["warn"], "driver": ["oracle"], "burst": ["1"]})
        assert found == (
            "--driver: 'oracle' is not one of sqlite, mysql",
            "--burst must be at least --qps",
        )

    def test_required_options(self):
        with pytest.raises(ConfigErrors) as caught:
            load(Needy, "x", flags={}, env={})
        assert caught.value.problems == (
            "--cert is required (The certificate)",
            "--key is required (The key)",
        )
        with pytest.raises(ConfigErrors, match="the same file"):
            load(Needy, "x", flags={"cert": ["a"], "key": ["a"]}, env={})

    def test_a_secret_is_in_no_problem(self, toml):
        file = toml('[apiserver]\napi_key = ["hunter2"]\nburst = "x"')
        assert "hunter2" not in "".join(problems(file=file))
        assert "hunter2" not in repr(loaded({"api_key": ["hunter2"]}))
