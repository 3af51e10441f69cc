"""Pauses: how long a server is left alone after what it answered."""

from berth.client.errors import ApiError, BerthError

SLOW_SECONDS = 10.0
"""After what the same call will be refused for again, until somebody changes something."""

RETRY_AFTER_MAX_SECONDS = 60.0


def asked_pause_seconds(fault: BerthError) -> float:
    """The least pause after a fault."""
    if not isinstance(fault, ApiError):
        return 0.0
    if fault.retry_after_seconds is not None:
        return min(fault.retry_after_seconds, RETRY_AFTER_MAX_SECONDS)
    return SLOW_SECONDS if fault.status < 500 and fault.status != 429 else 0.0
