import ssl
import stat
from pathlib import Path

from cryptography import x509

from berth.runtime.clock import ManualClock, SystemClock
from berth.runtime.devca import CA_DAYS, RENEW_DAYS, SERVER_DAYS, DevFiles, ensure_dev_files

DAY_SECONDS = 86400


def contents(files: DevFiles) -> tuple[bytes, bytes, bytes]:
    return files.ca.read_bytes(), files.cert.read_bytes(), files.key.read_bytes()


def handshake(files: DevFiles, name: str) -> None:
    """A TLS handshake in memory; raises ssl.SSLError when the client does not trust the server."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.cert, files.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_context = ssl.create_default_context(cafile=str(files.ca))
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
    assert client.getpeercert()


def test_a_client_that_trusts_the_authority_trusts_the_server(tmp_path: Path) -> None:
    files = ensure_dev_files(tmp_path / "new", clock=SystemClock(), host="box")
    for name in ("localhost", "127.0.0.1", "::1", "box"):
        handshake(files, name)


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "dev"
    ensure_dev_files(directory, clock=SystemClock())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes["server-key.pem"] == modes["ca-key.pem"] == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(modes) == 4


def test_valid_files_are_used_again(tmp_path: Path) -> None:
    first = contents(ensure_dev_files(tmp_path, clock=SystemClock()))
    assert contents(ensure_dev_files(tmp_path, clock=SystemClock())) == first


def test_the_server_is_renewed_under_the_same_authority(tmp_path: Path) -> None:
    clock = ManualClock(wall_us=SystemClock().wall_us())
    ca, cert, _ = contents(ensure_dev_files(tmp_path, clock=clock))
    clock.advance((SERVER_DAYS - RENEW_DAYS - 1) * DAY_SECONDS)
    assert contents(ensure_dev_files(tmp_path, clock=clock))[1] == cert
    clock.advance(2 * DAY_SECONDS)
    renewed = contents(ensure_dev_files(tmp_path, clock=clock))
    assert renewed[0] == ca
    assert renewed[1] != cert


def test_a_renewed_authority_renews_the_server(tmp_path: Path) -> None:
    clock = ManualClock(wall_us=SystemClock().wall_us())
    ensure_dev_files(tmp_path, clock=clock)
    clock.advance((CA_DAYS - RENEW_DAYS + 1) * DAY_SECONDS)
    files = ensure_dev_files(tmp_path, clock=clock)
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    x509.load_pem_x509_certificate(files.cert.read_bytes()).verify_directly_issued_by(ca)


def test_another_host_name_and_broken_files_are_made_new(tmp_path: Path) -> None:
    files = ensure_dev_files(tmp_path, clock=SystemClock(), host="one")
    ensure_dev_files(tmp_path, clock=SystemClock(), host="two")
    handshake(files, "two")
    files.key.write_text("broken")
    ensure_dev_files(tmp_path, clock=SystemClock(), host="two")
    handshake(files, "two")
    files.ca.unlink()
    ensure_dev_files(tmp_path, clock=SystemClock(), host="two")
    handshake(files, "two")
