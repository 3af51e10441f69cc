"""A real `berth operator` in a process of its own, for one cluster and one lease server."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.process import RoleProcess


class Operator(RoleProcess):
    """An operator that may be reconciling. Its metrics and its health are on ports of its own."""

    def __init__(self, *flags: str) -> None:
        super().__init__("operator", *flags)


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
