"""A certificate authority for one developer's machine, and a server certificate under it.

Owns a directory of four PEM files. Promises private keys that only their owner can read, and the same
authority for as long as it is valid, so that a client that trusts it goes on doing so. Not for production:
the authority's key lies beside the certificate that it signs.
"""

import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from berth.runtime.clock import MICROSECONDS, Clock

CA_DAYS = 3650
SERVER_DAYS = 365
RENEW_DAYS = 30


@dataclass(frozen=True, slots=True)
class DevFiles:
    """Where the files are: what clients trust, and what the server serves."""

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Issued:
    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure_dev_files(directory: Path, *, clock: Clock, host: str | None = None) -> DevFiles:
    """Makes what is missing, unreadable, about to expire or for another host, and keeps the rest.

    `host` is this machine's name unless given; localhost, 127.0.0.1 and ::1 are always covered. Raises
    OSError when the directory cannot be written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.fromtimestamp(clock.wall_us() / MICROSECONDS, UTC)
    names = _names(host or socket.gethostname())
    ca_path, ca_key_path = directory / "ca.pem", directory / "ca-key.pem"
    files = DevFiles(ca=ca_path, cert=directory / "server.pem", key=directory / "server-key.pem")

    ca = _load(ca_path, ca_key_path)
    if ca is None or _expires_soon(ca, now):
        ca = _new_ca(now)
        _save(ca, ca_path, ca_key_path)
    server = _load(files.cert, files.key)
    if (
        server is None
        or _expires_soon(server, now)
        or not _signed_by(server, ca)
        or not _covers(server, names)
    ):
        server = _new_server(ca, names, now)
        _save(server, files.cert, files.key)
    return files


def _names(host: str) -> list[x509.GeneralName]:
    hosts = ["localhost"] if host == "localhost" or not host.isascii() else ["localhost", host]
    loopback = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    return [*(x509.DNSName(name) for name in hosts), *(x509.IPAddress(address) for address in loopback)]


def _new_ca(now: datetime) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("berth development CA")
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _Issued(builder.sign(key, hashes.SHA256()), key)


def _new_server(ca: _Issued, names: list[x509.GeneralName], now: datetime) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = (
        _builder(_subject("berth development server"), ca.cert.subject, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority, critical=False)
    )
    return _Issued(builder.sign(ca.key, hashes.SHA256()), key)


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # for a client whose clock is a little behind
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _expires_soon(issued: _Issued, now: datetime) -> bool:
    return issued.cert.not_valid_after_utc < now + timedelta(days=RENEW_DAYS)


def _signed_by(server: _Issued, ca: _Issued) -> bool:
    try:
        server.cert.verify_directly_issued_by(ca.cert)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _covers(server: _Issued, names: list[x509.GeneralName]) -> bool:
    try:
        found = server.cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return set(names) <= set(found)


def _load(cert_path: Path, key_path: Path) -> _Issued | None:
    """The pair in these files, or None when it is not there, not whole, or not one."""
    try:
        cert = x509.load_pem_x509_certificate(cert_path.read_bytes())
        key = load_pem_private_key(key_path.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or cert.public_key() != key.public_key():
        return None
    return _Issued(cert, key)


def _save(issued: _Issued, cert_path: Path, key_path: Path) -> None:
    key_pem = issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _replace(key_path, key_pem, 0o600)
    _replace(cert_path, issued.cert.public_bytes(Encoding.PEM), 0o644)


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Writes the whole file or leaves the old one; the mode holds from the first byte."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    draft.replace(path)
