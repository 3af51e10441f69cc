"""The doctor on the real server and in worlds that are broken, one thing at a time."""

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from berth.cli.doctor_checks import offset_seconds
from berth.version import VERSION
from tests.cli.conftest import Berth
from tests.cli.server import api_key, apiserver, saying

SECOND = 1_000_000
WHOAMI = "/v1alpha1/whoami"
HEALTHY: Mapping[str, tuple[int, object]] = {
    "/healthz": (200, b"ok\n"),
    "/readyz": (200, b"ok\n"),
    "/version": (200, {"version": VERSION, "commit": "c", "python": "3"}),
    WHOAMI: (200, {"tenant": "a", "role": "holder", "authMode": "static-keys"}),
}


class Seen(NamedTuple):
    level: str
    found: str
    advice: str


def examined(berth: Berth, *args: str) -> tuple[int, dict[str, Seen]]:
    """The exit code, and what was found by the name of the check."""
    ran = berth("doctor", "-o", "json", *args)
    assert ran.err == ""
    findings = json.loads(ran.out)
    return ran.code, {one["check"]: Seen(one["level"], one["found"], one["advice"]) for one in findings}


def not_ok(seen: Mapping[str, Seen]) -> list[str]:
    return [check for check, finding in seen.items() if finding.level != "ok"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with apiserver(folder) as address:
        yield address


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(api_key("a"))
    file.chmod(0o600)
    return file


@contextmanager
def pretending(
    folder: Path,
    changed: Mapping[str, tuple[int, object]] | None = None,
    *,
    name: str = "localhost",
    valid_days: float = 100,
    tls: bool = True,
    ahead: timedelta = timedelta(),
) -> Iterator[tuple[str, ...]]:
    """Flags for a server that answers as an API server, but for what is changed."""
    answers = {**HEALTHY, **(changed or {})}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, {"error": "not found", "code": "not_found"}))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return (datetime.now(UTC) + ahead).strftime("%a, %d %b %Y %H:%M:%S GMT")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the library's
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a refused certificate ends a handshake; that is looked at from the other side

    now = datetime.now(UTC)
    authority = trustme.CA()
    issued = authority.issue_cert(
        name, not_before=now - timedelta(days=200), not_after=now + timedelta(days=valid_days)
    )
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    with Quiet(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if tls:
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield (
                f"--api-server=https://localhost:{server.server_address[1]}",
                f"--ca-file={folder}/ca.pem",
            )
        finally:
            server.shutdown()
            thread.join()


class TestTheRealServer:
    def test_everything_is_well(self, berth: Berth, url: str, folder: Path, key_file: Path):
        code, seen = examined(
            berth, "--api-server", url, "--ca-file", f"{folder}/ca.pem", "--api-key-file", str(key_file)
        )
        assert (code, not_ok(seen)) == (0, [])
        assert list(seen) == [
            *("address", "certificate", "trust", "http", "version", "key", "store", "round trip", "clock"),
            "key file",
        ]
        assert seen["trust"].found.endswith(f"trusted by {folder}/ca.pem")
        assert seen["key"].found == "you are tenant a with role holder"
        assert all(finding.advice == "" for finding in seen.values())

    def test_as_a_table(self, berth: Berth, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("COLUMNS", "80")
        ran = berth("doctor", "--api-server", url, "--ca-file", f"{folder}/ca.pem")
        lines = ran.out.splitlines()
        assert (ran.code, lines[0]) == (5, f"{url}:")
        at = next(number for number, line in enumerate(lines) if " key " in line)
        assert lines[at] == "  fail  key          the server wants one"
        assert lines[at + 1].strip() == "Pass --api-key-file or set BERTH_API_KEY_FILE."
        assert lines[-1] == "1 failed, 0 to look at."
        assert all(len(line) <= 80 for line in lines)

    def test_a_wrong_key(self, berth: Berth, url: str, folder: Path):
        code, seen = examined(
            berth, "--api-server", url, "--ca-file", f"{folder}/ca.pem", "--api-key", "wrong-key"
        )
        assert (code, not_ok(seen)) == (5, ["key"])
        assert seen["key"].found == "the server does not know this one"
        assert "wrong-key" not in str(seen)

    def test_a_key_file_that_others_can_read(self, berth: Berth, url: str, folder: Path, key_file: Path):
        key_file.chmod(0o640)
        code, seen = examined(
            berth, "--api-server", url, "--ca-file", f"{folder}/ca.pem", "--api-key-file", str(key_file)
        )
        assert (code, not_ok(seen)) == (0, ["key file"])
        assert seen["key file"].advice == f"chmod 600 {key_file}"

    @pytest.mark.parametrize("with_ca", [False, True])
    def test_an_authority_that_is_not_trusted(self, berth: Berth, url: str, tmp_path: Path, with_ca: bool):
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        ca_file = ("--ca-file", f"{tmp_path}/other.pem") if with_ca else ()
        code, seen = examined(berth, "--api-server", url, *ca_file, "--api-key", api_key("a"))
        assert (code, not_ok(seen)) == (6, ["trust"])
        assert "trustme" in seen["trust"].found
        assert "--ca-file" in seen["trust"].advice
        assert "http" not in seen

    def test_several_servers_are_all_looked_at(self, berth: Berth, url: str, folder: Path):
        ran = berth(
            *("doctor", "--api-server", f"https://localhost:1,{url}", "--ca-file", f"{folder}/ca.pem"),
            *("--api-key", api_key("a"), "-o", "json"),
        )
        findings = json.loads(ran.out)
        assert ran.code == 6
        assert [one["check"] for one in findings if one["server"] == "https://localhost:1"] == ["address"]
        assert [one["level"] for one in findings if one["server"] == url] == ["ok"] * 9


class TestTheWay:
    def test_no_server(self, berth: Berth):
        code, seen = examined(berth, "--api-server", "https://localhost:1")
        assert (code, list(seen)) == (6, ["address"])
        assert "refused" in seen["address"].found

    def test_a_name_that_does_not_resolve(self, berth: Berth):
        code, seen = examined(berth, "--api-server", "https://berth.invalid")
        assert (code, list(seen)) == (6, ["address"])
        assert "does not resolve" in seen["address"].found

    def test_plain_http_where_tls_is_expected(self, berth: Berth, tmp_path: Path):
        with pretending(tmp_path, tls=False) as flags:
            code, seen = examined(berth, *flags)
        assert (code, not_ok(seen)) == (6, ["tls"])
        assert "http://" in seen["tls"].advice

    def test_tls_where_plain_http_is_expected(self, berth: Berth, url: str):
        code, seen = examined(berth, "--api-server", url.replace("https:", "http:"))
        assert (code, not_ok(seen)) == (6, ["http"])
        assert "https://" in seen["http"].found

    def test_a_server_of_another_kind(self, berth: Berth):
        with saying(200, {"hello": "world"}) as plain:
            code, seen = examined(berth, "--api-server", plain)
        assert (code, not_ok(seen)) == (1, ["http"])
        assert seen["http"].advice.startswith("Something else listens there")

    @pytest.mark.parametrize(
        "args",
        [("--ca-file", "/no/such/file"), ("--api-key-file", "/no/such/file"), ("--api-server", "ftp://x")],
    )
    def test_options_that_cannot_be_used(self, berth: Berth, args: tuple[str, str]):
        ran = berth("doctor", *args)
        assert (ran.code, ran.out) == (2, "")
        assert args[1] in ran.err


class TestTheCertificate:
    def test_expired(self, berth: Berth, tmp_path: Path):
        with pretending(tmp_path, valid_days=-3.5) as flags:
            code, seen = examined(berth, *flags)
        assert (code, list(seen)) == (6, ["address", "certificate"])
        assert seen["certificate"].found.startswith("expired 3d")

    @pytest.mark.parametrize(("days", "level"), [(20.9, "warn"), (21.1, "ok")])
    def test_about_to_expire(self, berth: Berth, tmp_path: Path, days: float, level: str):
        with pretending(tmp_path, valid_days=days) as flags:
            code, seen = examined(berth, *flags)
        assert (code, seen["certificate"].level) == (0, level)

    def test_for_another_name(self, berth: Berth, tmp_path: Path):
        with pretending(tmp_path, name="berth.example") as flags:
            code, seen = examined(berth, *flags)
        assert (code, not_ok(seen)) == (6, ["trust"])
        assert seen["trust"].found == "the certificate is for berth.example, not for localhost"


class TestTheAnswers:
    def test_a_healthy_pretender(self, berth: Berth, tmp_path: Path):
        with pretending(tmp_path) as flags:
            code, seen = examined(berth, *flags)
        assert (code, not_ok(seen)) == (0, [])

    def test_not_ready(self, berth: Berth, tmp_path: Path):
        with pretending(tmp_path, {"/readyz": (503, b"not ready\n")}) as flags:
            code, seen = examined(berth, *flags)
        assert (code, not_ok(seen)) == (1, ["store"])

    @pytest.mark.parametrize(("version", "level"), [("9.1.0", "warn"), (f"{VERSION}.post1", "ok")])
    def test_another_version(self, berth: Berth, tmp_path: Path, version: str, level: str):
        answer = {"version": version, "commit": "c", "python": "3"}
        with pretending(tmp_path, {"/version": (200, answer)}) as flags:
            code, seen = examined(berth, *flags)
        assert (code, seen["version"].level) == (0, level)
        assert version in seen["version"].found

    def test_an_older_server_that_knows_neither_version_nor_whoami(self, berth: Berth, tmp_path: Path):
        missing = (404, {"error": "not found"})
        with pretending(tmp_path, {"/version": missing, WHOAMI: missing}) as flags:
            code, seen = examined(berth, *flags)
        assert (code, not_ok(seen)) == (0, ["version", "key"])

    def test_a_server_that_fails_to_say_who_one_is(self, berth: Berth, tmp_path: Path):
        with pretending(tmp_path, {WHOAMI: (403, {"error": "no", "code": "forbidden_role"})}) as flags:
            code, seen = examined(berth, *flags)
        assert (code, not_ok(seen)) == (5, ["key"])
        with pretending(tmp_path, {WHOAMI: (200, b"welcome")}) as flags:
            code, seen = examined(berth, *flags)
        assert (code, not_ok(seen)) == (1, ["key"])

    def test_no_authentication(self, berth: Berth, tmp_path: Path):
        anybody = {"tenant": "", "role": "admin", "authMode": "none"}
        with pretending(tmp_path, {WHOAMI: (200, anybody)}) as flags:
            code, seen = examined(berth, *flags)
        assert (code, not_ok(seen)) == (0, ["key"])

    @pytest.mark.parametrize(("seconds", "way"), [(60, "ahead of"), (-60, "behind")])
    def test_a_clock_that_is_off(self, berth: Berth, tmp_path: Path, seconds: int, way: str):
        with pretending(tmp_path, ahead=timedelta(seconds=seconds)) as flags:
            code, seen = examined(berth, *flags)
        assert (code, not_ok(seen)) == (0, ["clock"])
        assert way in seen["clock"].found
        assert "Leases do not depend on it" in seen["clock"].advice


# 1994-11-06 08:49:37 UTC, as servers write it.
DATE, DATE_SECONDS = "Sun, 06 Nov 1994 08:49:37 GMT", 784111777


@pytest.mark.parametrize(
    ("sent_seconds", "received_seconds", "ahead_seconds"),
    [
        (0.2, 0.3, 0.0),
        (-0.5, 0.0, 0.0),
        (1.0, 1.5, 0.0),
        (-5.0, -3.0, 3.0),
        (6.0, 7.0, -5.0),
        (-100.0, 100.0, 0.0),
    ],
)
def test_the_offset_is_what_is_certain(sent_seconds: float, received_seconds: float, ahead_seconds: float):
    sent_us, received_us = (
        round((DATE_SECONDS + after) * SECOND) for after in (sent_seconds, received_seconds)
    )
    assert offset_seconds(DATE, sent_us, received_us) == pytest.approx(ahead_seconds)


@pytest.mark.parametrize("date", ["", "yesterday", "1994-11-06T08:49:37Z"])
def test_what_is_no_date_tells_no_offset(date: str):
    assert offset_seconds(date, 0, 0) is None
