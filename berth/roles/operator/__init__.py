"""The operator: runs the workloads of one cluster by the leases that it holds."""
