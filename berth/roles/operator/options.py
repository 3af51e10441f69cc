"""What can be said to the operator, declared once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from berth.config.address import address_problems
from berth.config.common import LogOptions
from berth.config.kinds import Duration
from berth.config.option import Opt
from berth.config.secret import Secret
from berth.core.election import Timing, timing_problem
from berth.core.names import holder_problem, name_problem, namespace_problem

OFF = "0"
"""The address that means: not at all."""


@dataclass(frozen=True, kw_only=True)
class OperatorOptions(LogOptions):
    kubeconfig: Annotated[
        Path | None, Opt("Kubeconfig of the cluster to work in; without it, as a pod of the cluster")
    ] = None
    watch_namespaces: Annotated[
        tuple[str, ...],
        Opt("Only this namespace's BerthLeases; may be repeated (all unless given)", metavar="NAMESPACE"),
    ] = ()
    berth_api_server: Annotated[
        str,
        Opt("URL of the lease API, or several with commas between, tried in order", metavar="URL"),
    ] = ""
    berth_api_key: Annotated[
        Secret | None, Opt("Key for the lease API; every process of the machine can read it, so use the file")
    ] = None
    berth_api_key_file: Annotated[
        Path | None, Opt("File with the key; may be replaced at any time", instead_of="berth_api_key")
    ] = None
    berth_ca_bundle_file: Annotated[
        Path | None, Opt("PEM certificates of authorities to trust besides the system's")
    ] = None
    berth_server_name: Annotated[
        str, Opt("Whom the lease API's certificate must name, if not the URL's host", metavar="NAME")
    ] = ""
    berth_insecure_skip_tls_verify: Annotated[
        bool, Opt("Trust any certificate: whoever is on the way can be the lease API")
    ] = False
    cluster_id: Annotated[
        str,
        Opt("This cluster's name, the holder of all its leases (each BerthLease's own unless given)"),
    ] = ""
    shutdown: Annotated[
        Literal["keep", "handover"],
        Opt("At a stop: keep the leases for the next process, or stop the workloads and give them up"),
    ] = "keep"
    metrics_bind_address: Annotated[str, Opt("Address to serve metrics on; 0: none", metavar="ADDR")] = (
        ":8080"
    )
    metrics_secure: Annotated[
        bool, Opt("Metrics over HTTPS, for whom the cluster allows to get /metrics")
    ] = False
    health_probe_bind_address: Annotated[
        str, Opt("Address to serve /healthz and /readyz on; 0: none", metavar="ADDR")
    ] = ":8081"
    leader_elect: Annotated[bool, Opt("Work only while leading: for more than one replica")] = False
    leader_election_id: Annotated[
        str, Opt("Name of the Lease by which replicas elect, in the operator's namespace", metavar="NAME")
    ] = "berth-operator-leader"
    leader_election_lease_duration: Annotated[
        Duration, Opt("How long others wait for a leader that is silent")
    ] = 15.0
    leader_election_renew_deadline: Annotated[
        Duration, Opt("After so long without a renewal a leader gives up")
    ] = 10.0
    leader_election_retry_period: Annotated[Duration, Opt("How often leader and others look")] = 2.0

    @property
    def timing(self) -> Timing:
        return Timing(
            round(self.leader_election_lease_duration),
            self.leader_election_renew_deadline,
            self.leader_election_retry_period,
        )

    def problems(self) -> list[str]:
        return [*self._problems()]

    def _problems(self) -> Iterator[str]:
        if not self.berth_api_server:
            yield "--berth-api-server: required, such as https://berth.example.com:8443"
        if self.cluster_id and (problem := holder_problem(self.cluster_id)):
            yield f"--cluster-id: {problem}"
        if problem := name_problem(self.leader_election_id):
            yield f"--leader-election-id: {problem}"
        for namespace in self.watch_namespaces:
            if problem := namespace_problem(namespace):
                yield f"--watch-namespaces: {problem}"
        served = {
            "metrics_bind_address": self.metrics_bind_address,
            "health_probe_bind_address": self.health_probe_bind_address,
        }
        yield from address_problems(**{name: at for name, at in served.items() if at != OFF})
        if self.metrics_secure and self.metrics_bind_address in (OFF, ""):
            yield "--metrics-secure: there are no metrics to serve (--metrics-bind-address)"
        if self.leader_election_lease_duration != round(self.leader_election_lease_duration):
            yield "--leader-election-lease-duration: whole seconds, as a Lease has them"
        elif problem := timing_problem(self.timing):
            yield f"--leader-election-…: {problem}"
