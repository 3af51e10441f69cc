"""Starting, reloading and stopping: signals, drains, certificates, and everything that prevents a start."""

import signal
import socket
import ssl
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.roles.apiserver.conftest import Lease, calling, new_path, sqlite_flags
from tests.roles.apiserver.https import Caller, head, read_reply
from tests.support.apiserver import ANY_PORTS, Apiserver, Certificates, apiserver, refused, until

BODY = b'{"holder":"h","ttlSeconds":9}'
DRAIN_SECONDS = 10


def accepts(server: Apiserver) -> bool:
    try:
        socket.create_connection(server.address, timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def begin(caller: Caller) -> ssl.SSLSocket:
    """A connection on which a request is in flight that lacks its body."""
    connection = caller.connect()
    connection.sendall(
        head("POST", f"{new_path()}/acquire", f"Content-Length: {len(BODY)}", "Expect: 100-continue")
    )
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 "), "from now on it is in flight"
    return connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_answered(certificates: Certificates, number: signal.Signals) -> None:
    with apiserver(certificates) as server, closing(begin(calling(server))) as connection:
        server.signal(number)
        until(lambda: not accepts(server))
        connection.sendall(BODY)
        reply = read_reply(connection)
        assert reply is not None
        assert reply.ok()["acquired"] is True
        assert reply.headers["Connection"] == "close"
        assert server.wait() == 0
        assert server.errors() == []


def test_no_client_keeps_a_server_from_ending(certificates: Certificates) -> None:
    with apiserver(certificates) as server, ExitStack() as stack:
        caller = calling(server)
        silent = stack.enter_context(socket.create_connection(server.address, timeout=DRAIN_SECONDS))
        idle = stack.enter_context(closing(caller.connect()))
        idle.sendall(head("GET", "/healthz"))
        assert read_reply(idle) is not None
        slow = stack.enter_context(closing(begin(caller)))
        slow.sendall(BODY[:1])
        slow.settimeout(DRAIN_SECONDS)
        server.signal(signal.SIGTERM)
        assert idle.recv(1) == b"", "what is idle is closed at once"
        cut = read_reply(slow)
        assert cut is None or cut.status == 400
        assert silent.recv(1) == b""
        assert server.wait(within_seconds=DRAIN_SECONDS) == 0
        assert server.errors() == []


def test_a_second_signal_ends_it_at_once(certificates: Certificates) -> None:
    with apiserver(certificates) as server, closing(begin(calling(server))):
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        server.signal(signal.SIGTERM)
        assert server.wait(within_seconds=5) == 128 + signal.SIGTERM
        assert server.wait_for("stopping at once")["signal"] == "SIGTERM"
        assert server.errors() == []


def test_readiness_goes_before_service_does(certificates: Certificates) -> None:
    with apiserver(certificates, "--drain-delay=1s") as server, closing(calling(server)) as caller:
        assert caller.get("/readyz").status == 200
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        refusal = caller.get("/readyz")
        assert (refusal.status, refusal.body) == (503, b"not ready\n")
        assert server.wait_for("readiness check failed")["reason"] == "draining"
        assert caller.get("/healthz").status == 200
        assert Lease(caller, new_path()).acquire("h")["acquired"] is True
        with closing(calling(server)) as newcomer:
            assert newcomer.get("/readyz").status == 503
        assert server.wait() == 0
        assert server.errors() == []


def test_a_signal_in_the_middle_of_the_start_ends_it_well(certificates: Certificates) -> None:
    server = Apiserver(*certificates.flags, *ANY_PORTS)
    try:
        server.wait_for("--auth-mode none: whoever reaches the server may do everything")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.errors() == []
    finally:
        server.close()


def served(caller: Caller) -> bytes | None:
    """The certificate that a new connection is shown."""
    with closing(caller.connect()) as connection:
        return connection.getpeercert(binary_form=True)


def test_a_hangup_takes_up_a_new_certificate_and_keeps_the_old_one_over_a_broken_one(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with apiserver(certificates) as server, closing(calling(server)) as caller:
        first = served(caller)
        assert caller.get("/healthz").status == 200
        certificates.issue()
        server.signal(signal.SIGHUP)
        until(lambda: served(caller) != first)
        second = served(caller)
        assert caller.get("/healthz").status == 200, "an old connection goes on, and auth none survives"

        certificates.key_file.write_text("broken")
        server.signal(signal.SIGHUP)
        until(lambda: len(server.errors()) == 1)
        assert served(caller) == second
        assert str(certificates.key_file) in server.errors()[0]["error"]

        certificates.issue()
        server.signal(signal.SIGHUP)
        until(lambda: served(caller) != second)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_quarantine_grants_nothing_until_it_is_over(certificates: Certificates) -> None:
    with apiserver(certificates, "--mem-quarantine=2s") as server, closing(calling(server)) as caller:
        lease = Lease(caller, new_path())
        reply = lease.ask("acquire", holder="h", ttlSeconds=9)
        assert (reply.status, reply.code) == (503, "quarantine")
        assert 1 <= int(reply.headers["Retry-After"]) <= 5
        assert caller.get("/readyz").status == 200, "renewals must flow"
        assert lease.renew("h", 1)["acquired"] is False
        until(lambda: lease.ask("acquire", holder="h", ttlSeconds=9).status == 200)
        token = lease.acquire("h")["fencingToken"]
        assert token > 1_000_000, "above every token of the server before"
        assert lease.renew("h", token)["acquired"] is True
        server.stop()


def test_what_has_expired_is_written_down_after_its_grace(certificates: Certificates) -> None:
    """Then whoever asks is told of a free lease, as after a release; its token and its end stay known."""
    flags = ("--gc-interval=100ms", "--gc-grace=0s")
    with apiserver(certificates, *flags) as server, closing(calling(server)) as caller:
        lease = Lease(caller, new_path())
        held = lease.acquire("h", 1)
        until(lambda: "holder" not in lease.renew("anybody", 1))
        told = lease.renew("h", 1)
        assert (told["fencingToken"], told["acquiredAt"]) == (1, held["acquiredAt"])
        assert lease.release("anybody", 0).status == 204
        again = lease.acquire("h")
        assert (again["fencingToken"], again["cleanHandover"]) == (2, False)
        server.stop()


@pytest.mark.parametrize("which", ["--listen-addr", "--metrics-addr"])
def test_a_port_in_use(certificates: Certificates, memory: Apiserver, which: str) -> None:
    address = "{}:{}".format(*memory.address)
    status, told = refused(*certificates.flags, *ANY_PORTS, which, address)
    assert status == 1
    assert told == (
        f"error: apiserver: cannot listen on {address}: the port is in use; "
        "stop what listens there (ss -ltnp shows it) or choose another port\n"
    )


def encrypted(pem: bytes) -> bytes:
    key = load_pem_private_key(pem, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def test_all_that_is_wrong_with_the_files_is_told_at_once(tmp_path: Path) -> None:
    flags = {
        "--tls-cert-file": "c.pem",
        "--tls-key-file": "k.pem",
        "--api-keys-file": "keys",
        "--sql-dsn-file": "dsn",
    }
    given = [text for flag, name in flags.items() for text in (flag, str(tmp_path / name))]
    status, told = refused("--store-backend=sql", "--sql-driver=sqlite", *given)
    assert status == 2
    assert [line.partition(":")[0] for line in told.removeprefix("error: ").splitlines()] == [
        "--api-keys-file",
        "--tls-cert-file, --tls-key-file",
        "--sql-dsn-file",
    ]


def test_certificates_that_cannot_be_served(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    key = certificates.key_file.read_bytes()
    certificates.issue()
    cases: list[tuple[Path, bytes | None, str]] = [
        (certificates.cert_file, None, "there is no such certificate file"),
        (certificates.cert_file, b"x", "no certificate in PEM format"),
        (certificates.key_file, None, "there is no such private key file"),
        (certificates.key_file, b"", "no private key in PEM format"),
        (certificates.key_file, key, "does not belong to the first certificate"),
        (certificates.key_file, encrypted(key), "is encrypted; decrypt it"),
    ]
    for file, content, says in cases:
        good = file.read_bytes()
        file.unlink() if content is None else file.write_bytes(content)
        status, told = refused(*certificates.flags, *ANY_PORTS)
        file.write_bytes(good)
        assert status == 2
        (line,) = told.splitlines()
        assert line.startswith(f"error: --tls-cert-file, --tls-key-file: {file}: ")
        assert says in line


def test_without_flags_it_says_what_it_needs() -> None:
    status, told = refused()
    assert status == 2
    assert "--tls-cert-file and --tls-key-file: required" in told


def test_all_that_is_wrong_with_the_flags_is_told_at_once(tmp_path: Path) -> None:
    status, told = refused(
        "--store-backend=sql",
        "--mem-quarantine=5s",
        "--min-ttl=10s",
        "--max-ttl=5s",
        "--drain-delay=-1s",
        "--log-level=loud",
        "--gc-interval=often",
        f"--sql-dsn-file={tmp_path}/dsn",
        "--sql-dsn=x",
    )
    assert status == 2
    for flag in (
        "--tls-cert-file",
        "--sql-driver",
        "--sql-dsn and --sql-dsn-file",
        "--mem-quarantine",
        "--api-keys-file",
        "--min-ttl, --max-ttl",
        "--drain-delay",
        "--log-level",
        "--gc-interval",
    ):
        assert flag in told, told


def test_a_flag_that_does_not_exist() -> None:
    status, told = refused("--listen-adr", ":1")
    assert status == 2
    assert "--listen-adr" in told
    assert "--listen-addr" in told, "the flag that was meant"


def test_reference_spellings_of_flags(certificates: Certificates, tmp_path: Path) -> None:
    """One dash, `=` and the flags that a user of the reference has."""
    cert, key = certificates.flags[1::2]
    flags = [
        f"-tls-cert-file={cert}",
        f"-tls-key-file={key}",
        "-listen-addr=127.0.0.1:0",
        "-metrics-addr=",
        "-store-backend=mem",
        "-auth-mode=none",
        "-log-level=INFO",
        "-log-format=json",
        "-gc-interval=1m30s",
        "-gc-grace=5m",
    ]
    server = Apiserver(*flags, ca_file=certificates.ca_file)
    try:
        assert "http://" not in server.wait_for("role started")["addresses"], "no metrics port"
        with closing(calling(server)) as caller:
            assert caller.get("/readyz").status == 200
        server.stop()
    finally:
        server.close()


def test_sql_has_its_auth_mode_by_default(certificates: Certificates, tmp_path: Path) -> None:
    status, told = refused(*certificates.flags, *ANY_PORTS, *sqlite_flags(tmp_path / "leases.db"))
    assert status == 2
    assert "--api-keys-file: required with --auth-mode static-keys" in told
