"""A look at a server from below HTTP: where its name leads, whether it listens, which certificate it shows.

Owns the words for what the network and OpenSSL say. Promises that each step ends at its deadline, and that
nothing is sent but a handshake. Trusts as `http` does; what a finding means for the user is not decided here.
"""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from berth.runtime.http import trusting
from berth.runtime.tls import PeerCertificate, peer_certificate

STEP_SECONDS = 5.0

# OpenSSL's X509_V_ERR_…: not yet valid and expired; another host name, and another IP address.
_TIME_CODES = (9, 10)
_NAME_CODES = (62, 64)


class Unreached(Exception):
    """The step did not come to its end; the text says why."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """`flaw` is why a client with this trust refuses the certificate, if it does; `reason` says it."""

    certificate: PeerCertificate
    version: str
    flaw: Literal["", "trust", "time", "name"] = ""
    reason: str = ""


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """The addresses of the host. Raises Unreached."""
    try:
        with trio.fail_after(STEP_SECONDS):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as fault:
        raise Unreached(f"the name {host} does not resolve: {fault.strerror}") from fault
    except trio.TooSlowError as fault:
        raise Unreached(f"no name server answered for {host} within {STEP_SECONDS:g} s") from fault
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


async def connect(host: str, port: int) -> trio.SocketStream:
    """A connection to the first of the host's addresses that accepts one. Raises Unreached."""
    try:
        with trio.fail_after(STEP_SECONDS):
            return await trio.open_tcp_stream(host, port)
    except OSError as fault:
        raise Unreached(f"port {port} of {host} accepts no connection: {_reason(fault)}") from fault
    except trio.TooSlowError as fault:
        raise Unreached(f"port {port} of {host} did not answer within {STEP_SECONDS:g} s") from fault


async def handshake(host: str, port: int, *, ca_file: Path | None) -> Handshake:
    """What the server shows, and whether a client that trusts the system and `ca_file` accepts it.

    Raises Unreached when no TLS server answers.
    """
    try:
        return await _shake(host, port, trusting(ca_file))
    except ssl.SSLCertVerificationError as refusal:
        blind = ssl.create_default_context()
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE  # only to look at what was refused; nothing is sent
        seen = await _shake(host, port, blind)
        return Handshake(seen.certificate, seen.version, _flaw(refusal), refusal.verify_message)


async def _shake(host: str, port: int, context: ssl.SSLContext) -> Handshake:
    """Raises ssl.SSLCertVerificationError when the certificate is refused, else Unreached."""
    stream = trio.SSLStream(await connect(host, port), context, server_hostname=host, https_compatible=True)
    try:
        with trio.fail_after(STEP_SECONDS):
            await stream.do_handshake()
        der = stream.getpeercert(binary_form=True)
        return Handshake(peer_certificate(der or b""), stream.version() or "")
    except trio.BrokenResourceError as fault:
        if isinstance(fault.__cause__, ssl.SSLCertVerificationError):
            raise fault.__cause__ from None
        raise Unreached(f"the TLS handshake failed: {_reason(fault.__cause__ or fault)}") from fault
    except trio.TooSlowError as fault:
        raise Unreached(f"no TLS handshake within {STEP_SECONDS:g} s") from fault
    except ValueError as fault:
        raise Unreached(f"the certificate cannot be read: {fault}") from fault
    finally:
        await trio.aclose_forcefully(stream)


def _flaw(refusal: ssl.SSLCertVerificationError) -> Literal["trust", "time", "name"]:
    if refusal.verify_code in _TIME_CODES:
        return "time"
    return "name" if refusal.verify_code in _NAME_CODES else "trust"


def _reason(fault: BaseException) -> str:
    """What was wrong at first, as the system or OpenSSL says it: trio wraps it, one for each address."""
    while inner := (
        fault.exceptions[0] if isinstance(fault, BaseExceptionGroup) else fault.__cause__ or fault.__context__
    ):
        fault = inner
    if isinstance(fault, ssl.SSLError):
        return (fault.reason or str(fault)).replace("_", " ").lower()
    return (fault.strerror if isinstance(fault, OSError) else "") or str(fault) or type(fault).__name__
