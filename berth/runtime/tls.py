"""A server's certificate: read, judged, served, and replaced without a restart.

Owns the server's SSL context and the two files it comes from. Promises that what was judged is exactly what
is loaded, that a bad pair never displaces a good one, and that an error names the file and what to do.
Connections that are established keep the certificate they began with.
"""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from berth.runtime.clock import MICROSECONDS, Clock
from berth.runtime.log import Logger

WATCH_SECONDS = 10.0


class TlsInvalid(Exception):
    """The certificate or the key cannot be served; the text names the file and says what to do."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate with its chain, leaf first, and its private key, not encrypted."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What another's certificate says: the DNS names and addresses it is for, who issued it, until when."""

    names: tuple[str, ...]
    issuer: str
    not_after_seconds: int


@dataclass(frozen=True, slots=True)
class _Pair:
    pem: bytes
    not_after_seconds: int

    def __repr__(self) -> str:  # the PEM holds the private key
        return f"_Pair(not_after_seconds={self.not_after_seconds})"


class ServerTls:
    """The context to serve with, and the watch over its files. Raises TlsInvalid if the first load fails."""

    def __init__(self, files: TlsFiles, *, clock: Clock, logger: Logger) -> None:
        self._files = files
        self._clock = clock
        self._logger = logger
        self._seen = _fingerprint(files)
        self.context = _server_context()
        self._load()

    @property
    def not_after_seconds(self) -> int:
        """When the certificate in use expires, in seconds since 1970-01-01 UTC."""
        return self._not_after_seconds

    def reload(self) -> None:
        """Loads the files again, and says in the log what came of it."""
        self._seen = _fingerprint(self._files)
        self._try_load("TLS files cannot be used, the old ones stay")

    def reload_if_changed(self) -> bool:
        """Loads the files again if they differ from the last try; says whether a new pair is in use."""
        now = _fingerprint(self._files)
        if now == self._seen:
            return False
        self._seen = now
        return self._try_load("TLS files changed but cannot be used, the old ones stay")

    async def watch(self) -> None:
        """Looks for changed files until cancelled."""
        while True:
            await trio.sleep(WATCH_SECONDS)
            self.reload_if_changed()

    def _try_load(self, trouble: str) -> bool:
        try:
            self._load()
        except TlsInvalid as fault:
            self._logger.error(trouble, error=str(fault))
            return False
        self._logger.info("TLS certificate reloaded", file=str(self._files.cert))
        return True

    def _load(self) -> None:
        pair = _read_pair(self._files)
        _load_into(_server_context(), pair, self._files)
        _load_into(self.context, pair, self._files)
        self._not_after_seconds = pair.not_after_seconds
        if pair.not_after_seconds * MICROSECONDS <= self._clock.wall_us():
            self._logger.warning("TLS certificate has expired, replace it", file=str(self._files.cert))


def peer_certificate(der: bytes) -> PeerCertificate:
    """The certificate that a server has shown. Raises ValueError."""
    leaf = x509.load_der_x509_certificate(der)
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = ()
    names = tuple(str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress))
    return PeerCertificate(names, leaf.issuer.rfc4514_string(), int(leaf.not_valid_after_utc.timestamp()))


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load_into(context: ssl.SSLContext, pair: _Pair, files: TlsFiles) -> None:
    # ssl reads from a path only. A file in memory is one that nobody can change between judging and loading.
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pair.pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as fault:
        reason = fault.reason or str(fault)
        raise TlsInvalid(f"{files.cert}: OpenSSL does not accept this certificate: {reason}") from fault
    finally:
        os.close(descriptor)


def _read_pair(files: TlsFiles) -> _Pair:
    cert_pem = _read(files.cert, "certificate")
    key_pem = _read(files.key, "private key")
    try:
        leaf = x509.load_pem_x509_certificates(cert_pem)[0]
    except ValueError as fault:
        raise TlsInvalid(
            f"{files.cert}: no certificate in PEM format (-----BEGIN CERTIFICATE-----)"
        ) from fault
    try:
        key = load_pem_private_key(key_pem, password=None)
    except TypeError as fault:
        raise TlsInvalid(
            f"{files.key}: the private key is encrypted; decrypt it (openssl pkey -in FILE -out FILE)"
        ) from fault
    except ValueError as fault:
        raise TlsInvalid(
            f"{files.key}: no private key in PEM format (-----BEGIN PRIVATE KEY-----)"
        ) from fault
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise TlsInvalid(
            f"{files.key}: this private key does not belong to the first certificate in {files.cert}; "
            "give the key it was made with, and put the server's own certificate first"
        )
    return _Pair(cert_pem + b"\n" + key_pem, int(leaf.not_valid_after_utc.timestamp()))


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as fault:
        raise TlsInvalid(f"{path}: there is no such {what} file") from fault
    except PermissionError as fault:
        raise TlsInvalid(
            f"{path}: the {what} file is not readable by this user; change its owner or mode"
        ) from fault
    except OSError as fault:
        raise TlsInvalid(f"{path}: the {what} file cannot be read: {fault.strerror}") from fault


def _fingerprint(files: TlsFiles) -> tuple[tuple[int, ...] | None, ...]:
    return tuple(_stat(path) for path in (files.cert, files.key))


def _stat(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()  # through symbolic links: mounted Secrets are swapped by one
    except OSError:
        return None
    return found.st_mtime_ns, found.st_dev, found.st_ino, found.st_size
