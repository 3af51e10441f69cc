"""A real `berth apiserver` in a process of its own, for tests that look at it from outside.

Owns the certificates that it serves. Promises that a server which has started serves on ports of its own.
Does not speak HTTP.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trustme

from tests.support.process import START_SECONDS, RoleProcess, plain_environment, until

__all__ = ["ANY_PORTS", "Apiserver", "Certificates", "apiserver", "plain_environment", "refused", "until"]


class Apiserver(RoleProcess):
    """A lease server that may serve."""

    def __init__(self, *flags: str, ca_file: Path | None = None, program: Sequence[str] = ("berth",)) -> None:
        """`program` is a module with the arguments that come before berth's own."""
        super().__init__("apiserver", *flags, program=program)
        self.ca_file = ca_file

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the API."""
        return self.bound(0)

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port of the metrics."""
        return self.bound(1)

    @property
    def url(self) -> str:
        return "https://{}:{}".format(*self.address)


class Certificates:
    """An authority and the files of one server's certificate by it."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.ca_file = directory / "ca.pem"
        self.cert_file = directory / "tls.crt"
        self.key_file = directory / "tls.key"
        self.authority.cert_pem.write_to_path(str(self.ca_file))
        self.issue()

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--tls-cert-file", str(self.cert_file), "--tls-key-file", str(self.key_file))

    def issue(self) -> None:
        """Put a new certificate in the place of the old one, as a renewal does."""
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        self.cert_file.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key_file.write_bytes(issued.private_key_pem.bytes())


ANY_PORTS = ("--listen-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0")


@contextmanager
def apiserver(certificates: Certificates, *flags: str) -> Iterator[Apiserver]:
    """A server that serves; later flags win over the free ports. It is killed at the end if it still runs."""
    server = Apiserver(*certificates.flags, *ANY_PORTS, *flags, ca_file=certificates.ca_file)
    try:
        server.wait_for("role started")
        yield server
    finally:
        server.close()


def refused(*flags: str) -> tuple[int, str]:
    """Exit status of a server that does not start, and what it tells people beside its log."""
    server = Apiserver(*flags)
    try:
        status = server.wait(within_seconds=START_SECONDS)
    finally:
        server.close()
    assert "Traceback" not in server.text, server.text
    return status, "".join(line for line in server.text.splitlines(True) if not line.startswith("{"))
