"""The roles of this executable, as a literal table: nothing is searched for, so a frozen build has them all.

A role is named by text and imported only when chosen. Its options inherit `LogOptions`; its function is
`async def serve(options, *, logs, task_status)`, and the `Handle` that it gives to `task_status` is how the
process asks it to drain or reload.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """A long-running subcommand: its options class and its function, each as `module:attribute`."""

    name: str
    summary: str
    options: str
    serve: str


ROLES = (
    Role(
        "apiserver",
        "Serve the lease API over HTTPS",
        options="berth.roles.apiserver.options:ApiserverOptions",
        serve="berth.roles.apiserver.app:serve",
    ),
    Role(
        "operator",
        "Run a cluster's workloads by the leases that it holds",
        options="berth.roles.operator.options:OperatorOptions",
        serve="berth.roles.operator.app:serve",
    ),
)
