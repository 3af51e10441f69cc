"""The client of the lease API, and work that runs only while a lease is held."""

from berth.client.api import BerthClient
from berth.client.batches import AcquireRequest, ReleaseRequest, RenewRequest
from berth.client.blocking import hold_blocking
from berth.client.errors import (
    ApiError,
    BerthError,
    Conflict,
    Invalid,
    LeaseLost,
    LeaseNotAcquired,
    Misconfigured,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    RevisionTooOld,
    Unreachable,
    WrongAddress,
)
from berth.client.held import Held
from berth.client.hold import hold
from berth.client.hold_session import HeldSession, hold_session
from berth.client.watching import Events, Interrupted, Sighting, follow

__all__ = [
    "AcquireRequest",
    "ApiError",
    "BerthClient",
    "BerthError",
    "Conflict",
    "Events",
    "Held",
    "HeldSession",
    "Interrupted",
    "Invalid",
    "LeaseLost",
    "LeaseNotAcquired",
    "Misconfigured",
    "NotAllowed",
    "NotFound",
    "OutcomeUnknown",
    "ReleaseRequest",
    "RenewRequest",
    "RevisionTooOld",
    "Sighting",
    "Unreachable",
    "WrongAddress",
    "follow",
    "hold",
    "hold_blocking",
    "hold_session",
]
