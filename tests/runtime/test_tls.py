import os
import ssl
from pathlib import Path

import pytest
import trio
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from berth.runtime.clock import ManualClock, SystemClock
from berth.runtime.tls import WATCH_SECONDS, ServerTls, TlsFiles, TlsInvalid
from tests.runtime.conftest import Journal, write_pair


def load(files: TlsFiles, journal: Journal) -> ServerTls:
    return ServerTls(files, clock=SystemClock(), logger=journal.logger)


def missing(files: TlsFiles, path: Path) -> None:
    path.unlink()


def a_directory(files: TlsFiles, path: Path) -> None:
    path.unlink()
    path.mkdir()


def garbage(files: TlsFiles, path: Path) -> None:
    path.write_text("nothing of the kind")


def another_key(files: TlsFiles, path: Path) -> None:
    path.write_bytes(trustme.CA().issue_cert("other").private_key_pem.bytes())


def encrypted(files: TlsFiles, path: Path) -> None:
    key = load_pem_private_key(path.read_bytes(), None)
    secret = BestAvailableEncryption(b"secret")
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))


@pytest.mark.parametrize(
    ("spoil", "which", "says"),
    [
        (missing, "cert", "no such certificate file"),
        (missing, "key", "no such private key file"),
        (a_directory, "cert", "cannot be read"),
        (garbage, "cert", "no certificate in PEM"),
        (garbage, "key", "no private key in PEM"),
        (another_key, "key", "does not belong to"),
        (encrypted, "key", "is encrypted"),
    ],
)
def test_a_pair_that_cannot_serve_names_its_file(
    tls_files: TlsFiles, journal: Journal, spoil: object, which: str, says: str
) -> None:
    path: Path = getattr(tls_files, which)
    spoil(tls_files, path)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TlsInvalid, match=says) as caught:
        load(tls_files, journal)
    assert str(caught.value).startswith(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_key_says_so(tls_files: TlsFiles, journal: Journal) -> None:
    tls_files.key.chmod(0)
    with pytest.raises(TlsInvalid, match="not readable by this user"):
        load(tls_files, journal)


def test_the_context_is_for_http1_over_tls_1_2_or_newer(server_tls: ServerTls) -> None:
    context = server_tls.context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_an_expired_certificate_serves_with_a_warning(tls_files: TlsFiles, journal: Journal) -> None:
    far = ManualClock(wall_us=200_000_000_000_000_000)
    tls = ServerTls(tls_files, clock=far, logger=journal.logger)
    assert journal.messages() == ["TLS certificate has expired, replace it"]
    assert tls.not_after_seconds < 200_000_000_000


def test_what_has_not_changed_is_not_read_again(server_tls: ServerTls) -> None:
    assert not server_tls.reload_if_changed()


def test_a_bad_pair_is_told_once_and_the_old_one_stays(
    server_tls: ServerTls, tls_files: TlsFiles, journal: Journal, authority: trustme.CA
) -> None:
    context, not_after = server_tls.context, server_tls.not_after_seconds
    tls_files.cert.write_text("half a certif")
    assert not server_tls.reload_if_changed()
    assert not server_tls.reload_if_changed()
    assert journal.messages() == ["TLS files changed but cannot be used, the old ones stay"]
    assert server_tls.not_after_seconds == not_after
    write_pair(authority, tls_files.cert.parent, "localhost")
    assert server_tls.reload_if_changed()
    assert server_tls.context is context


def test_a_swapped_symlink_is_a_change(tmp_path: Path, journal: Journal, authority: trustme.CA) -> None:
    """The way Kubernetes replaces a mounted Secret."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_pair(authority, tmp_path / name, "localhost")
    (tmp_path / "..data").symlink_to("one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    tls = load(TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key"), journal)
    (tmp_path / "..data.new").symlink_to("two")
    (tmp_path / "..data.new").rename(tmp_path / "..data")
    assert tls.reload_if_changed()


async def test_the_watch_looks_by_itself(
    server_tls: ServerTls,
    tls_files: TlsFiles,
    authority: trustme.CA,
    journal: Journal,
    nursery: trio.Nursery,
    mock_clock: MockClock,
) -> None:
    nursery.start_soon(server_tls.watch)
    await wait_all_tasks_blocked()
    write_pair(authority, tls_files.cert.parent, "localhost")
    mock_clock.jump(WATCH_SECONDS)
    await wait_all_tasks_blocked()
    assert journal.messages() == ["TLS certificate reloaded"]


def test_no_secret_shows(server_tls: ServerTls) -> None:
    assert "PRIVATE KEY" not in repr(vars(server_tls))
