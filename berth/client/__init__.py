"""The client of the lease API."""

from berth.client.api import BerthClient
from berth.client.errors import (
    ApiError,
    BerthError,
    Conflict,
    Invalid,
    Misconfigured,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    Unreachable,
)

__all__ = [
    "ApiError",
    "BerthClient",
    "BerthError",
    "Conflict",
    "Invalid",
    "Misconfigured",
    "NotAllowed",
    "NotFound",
    "OutcomeUnknown",
    "Unreachable",
]
