"""`berth whoami`: who the server takes the caller for."""

from dataclasses import dataclass

from berth.cli.client_options import ClientOptions, DataOptions
from berth.cli.options import OptionsCommand


@dataclass(frozen=True, kw_only=True)
class WhoamiOptions(ClientOptions, DataOptions):
    pass


whoami = OptionsCommand(
    "whoami",
    WhoamiOptions,
    "berth.cli.lease_calls:whoami",
    summary="Show the tenant and role that the server takes you for.",
)
