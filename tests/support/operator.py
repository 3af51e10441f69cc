"""A real `berth operator` in a process of its own, for one cluster and one lease server."""

import http.client
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.process import RoleProcess

PROBE_SECONDS = 15.0


class Operator(RoleProcess):
    """An operator that may be reconciling. Its metrics and its health are on ports of its own."""

    def __init__(self, *flags: str, program: Sequence[str] = ("berth",)) -> None:
        super().__init__("operator", *flags, program=program)

    def metrics(self) -> str:
        """As they are scraped without TLS."""
        status, text = self._fetch(0, "/metrics")
        assert status == 200, text
        return text

    def scrape(self, token: str = "", path: str = "/metrics") -> tuple[int, str]:
        """From where they are served over TLS, under a certificate that nobody can know."""
        nobodys = ssl.create_default_context()
        nobodys.check_hostname, nobodys.verify_mode = False, ssl.CERT_NONE
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return _fetched(
            http.client.HTTPSConnection(*self.bound(0), timeout=PROBE_SECONDS, context=nobodys), path, headers
        )

    def metric(self, name: str, **labels: str) -> float:
        """The sample of this name with exactly these labels."""
        families = text_string_to_metric_families(self.metrics())
        (value,) = (
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        )
        return value

    def probe(self, path: str) -> int:
        """The status with which its health answers."""
        return self._fetch(1, path)[0]

    def _fetch(self, index: int, path: str) -> tuple[int, str]:
        return _fetched(http.client.HTTPConnection(*self.bound(index), timeout=PROBE_SECONDS), path, {})


def _fetched(
    connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]
) -> tuple[int, str]:
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def operator_flags(
    *, kubeconfig: Path, lease_server: str, ca_file: Path, key_file: Path, cluster_id: str
) -> Sequence[str]:
    return (
        f"--kubeconfig={kubeconfig}",
        f"--berth-api-server={lease_server}",
        f"--berth-ca-bundle-file={ca_file}",
        f"--berth-api-key-file={key_file}",
        f"--cluster-id={cluster_id}",
        "--metrics-bind-address=127.0.0.1:0",
        "--health-probe-bind-address=127.0.0.1:0",
    )
