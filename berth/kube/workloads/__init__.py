"""Workloads of a cluster as targets of leases: seen as they change, started and stopped, seen to be gone."""

from berth.kube.workloads.kinds import TargetRef
from berth.kube.workloads.workloads import Workloads

__all__ = ["TargetRef", "Workloads"]
