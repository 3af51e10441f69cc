"""`berth bench` from outside: against real servers over TLS, against one that lies, and against none."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.bench.lying import lying_server
from tests.cli.conftest import Berth, Ran
from tests.cli.server import api_key
from tests.cli.server import apiserver as server_with_keys
from tests.support.apiserver import Apiserver, Certificates, apiserver, plain_environment

SHORT = ("--ttl=2s", "--heartbeat=250ms", "--duration=1s", "--concurrency=8", "--leases=12")
LIMIT_SECONDS = 60


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    folder = tmp_path_factory.mktemp("bench")
    store = ("--store-backend=mem",)
    if request.param == "sqlite":
        dsn = f"--sql-dsn={folder / 'leases.db'}"
        store = ("--store-backend=sql", "--sql-driver=sqlite", dsn, "--auth-mode=none")
    with apiserver(Certificates(folder), *store) as running:
        yield running
        running.stop()


def bench(server: Apiserver, *args: str) -> Ran:
    ran = subprocess.run(
        command(server, *args),
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def command(server: Apiserver, *args: str) -> list[str]:
    where = (f"--api-server={server.url}", f"--ca-file={server.ca_file}")
    return [sys.executable, "-m", "berth", "bench", *where, *args]


def measured(server: Apiserver, *args: str) -> dict[str, Any]:
    ran = bench(server, *args, "-o", "json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out)
    assert result["safety"]["violations"] == 0
    assert {name: each["errorsByCode"] for name, each in result["operations"].items() if each["errors"]} == {}
    return result


class TestScenarios:
    @pytest.mark.parametrize("mode", ["single", "batch"])
    def test_steady(self, server: Apiserver, mode: str):
        result = measured(server, "steady", "--mode", mode, *SHORT)
        renew, acquire = result["operations"]["renew"], result["operations"]["acquire"]
        assert renew["denied"] == acquire["granted"] == 0
        assert renew["granted"] >= 12
        assert acquire["denied"] >= 12
        assert 0 < renew["p50Ms"] <= renew["p95Ms"] <= renew["p999Ms"] <= renew["maxMs"]
        assert result["safety"]["tenures"] == 12
        assert result["elapsedSeconds"] >= 1
        said = {name: result[name] for name in ("scenario", "mode", "leases", "ttlSeconds", "concurrency")}
        assert said == {
            "scenario": "steady",
            "mode": mode,
            "leases": 12,
            "ttlSeconds": 2,
            "concurrency": 8,
        }
        assert result["server"] == {"url": server.url, "version": "0.1.0"}

    def test_steady_under_sessions_asks_for_no_lease(self, server: Apiserver):
        result = measured(server, "steady", "--mode", "session", *SHORT)
        assert set(result["operations"]) == {"session-renew"}
        assert result["operations"]["session-renew"]["granted"] >= 4

    @pytest.mark.parametrize("mode", ["single", "batch", "session"])
    def test_cold_start(self, server: Apiserver, mode: str):
        result = measured(server, "coldstart", "--mode", mode, *SHORT)
        assert result["operations"]["acquire"]["granted"] == 12
        assert result["operations"]["acquire"]["denied"] >= 12
        assert result["allHeldMs"] > 0

    @pytest.mark.parametrize("mode", ["single", "batch", "session"])
    def test_failover(self, server: Apiserver, mode: str):
        result = measured(server, "failover", "--mode", mode, *SHORT, "--duration=4s")
        assert result["takeOver"]["expected"] == result["takeOver"]["count"] == 6
        assert result["takeOver"]["maxMs"] < 2000
        assert result["safety"]["tenures"] == 18

    @pytest.mark.parametrize("mode", ["single", "batch", "session"])
    def test_churn(self, server: Apiserver, mode: str):
        result = measured(server, "churn", "--mode", mode, *SHORT)
        assert result["handOver"]["count"] >= 1
        assert result["handOver"]["count"] == result["safety"]["tenures"] - 12

    def test_people_get_a_table_and_the_verdict(self, server: Apiserver):
        ran = bench(server, "steady", *SHORT)
        assert ran.code == 0
        assert ran.out.startswith("steady, single: 12 leases, ttl 2 s, heartbeat 0.25 s, at most 8 requests")
        assert "OPERATION" in ran.out
        assert "safe: one holder at a time and growing tokens" in ran.out
        assert "Traceback" not in ran.err

    def test_everything_is_given_back(self, server: Apiserver):
        for mode in ("single", "session"):
            measured(server, "steady", "--mode", mode, *SHORT, "--ttl=1h")

    def test_a_signal_ends_it_and_gives_everything_back(self, server: Apiserver):
        line = command(server, "steady", *SHORT, "--ttl=1h", "--duration=1h")
        with subprocess.Popen(line, env=plain_environment(), stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert "12 of 12 leases held" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=LIMIT_SECONDS)
        assert process.returncode == 128 + signal.SIGINT
        assert err.endswith("ended early\n")
        measured(server, "steady", *SHORT)

    def test_leases_that_others_hold(self, server: Apiserver):
        line = command(server, "steady", *SHORT, "--ttl=1h", "--duration=1h")
        with subprocess.Popen(line, env=plain_environment(), stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            process.stderr.readline()
            ran = bench(server, "steady", *SHORT)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=LIMIT_SECONDS)
        assert ran.code == 3
        assert "default/bench-1 is held by bench-" in ran.err


class TestFailures:
    def test_a_server_that_grants_twice_fails_the_run(self, berth: Berth):
        with lying_server() as url:
            ran = berth("bench", "steady", "--api-server", url, *SHORT)
        assert ran.code == 1
        assert "NOT SAFE: " in ran.out
        assert "error: not safe: bench-" in ran.err
        assert "two holders at once" in ran.err

    def test_no_server(self, berth: Berth):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"https://127.0.0.1:{unused.getsockname()[1]}"
            ran = berth("bench", "steady", "--api-server", url, *SHORT)
        assert (ran.code, ran.out) == (6, "")
        assert "Is the server running?" in ran.err

    @pytest.mark.parametrize("key", ["wrong", api_key("watcher")])
    def test_not_allowed(self, berth: Berth, tmp_path: Path, key: str):
        with server_with_keys(tmp_path) as url:
            where = ("--api-server", url, "--ca-file", str(tmp_path / "ca.pem"))
            ran = berth("bench", "steady", *where, "--api-key", key, *SHORT)
        assert (ran.code, ran.out) == (5, "")

    def test_holders_are_the_tenants_own(self, berth: Berth, tmp_path: Path):
        with server_with_keys(tmp_path) as url:
            where = ("--api-server", url, "--ca-file", str(tmp_path / "ca.pem"))
            ran = berth("bench", "steady", *where, "--api-key", api_key("a"), *SHORT, "-o", "json")
        assert ran.code == 0
        assert json.loads(ran.out)["safety"]["grants"] > 0

    @pytest.mark.parametrize(
        ("args", "told"),
        [
            (["steady", "--ttl=1500ms"], "--ttl must be whole seconds"),
            (["steady", "--heartbeat=30s"], "--heartbeat must be"),
            (["steady", "--leases=0"], "--leases must be"),
            (["steady", "--concurrency=0"], "--concurrency must be"),
            (["steady", "--duration=0"], "--duration must not be 0"),
            (["steady", "--api-server=https://a:1,https://b:1"], "--api-server must name one server"),
            (["failover", "--duration=49s"], "a failover takes the ttl and two heartbeats, 50s"),
            (["nothing"], "nothing"),
            ([], "Missing argument"),
        ],
    )
    def test_wrong_usage(self, berth: Berth, args: list[str], told: str):
        ran = berth("bench", *args)
        assert (ran.code, ran.out) == (2, "")
        assert told.lower() in ran.err.lower()


def test_it_reads_its_own_flags_from_no_variable():
    env = {**os.environ, "BERTH_TTL": "nonsense", "BERTH_LEASES": "nonsense"}
    ran = subprocess.run(
        [sys.executable, "-m", "berth", "bench", "steady", "--api-server=http://127.0.0.1:9"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert ran.returncode == 6
