"""Instants: how a point in time is written for people and on the wire."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)  # leases that were acquired or renewed together share their instants
def rfc3339(at_us: int | None) -> str:
    """The instant in UTC, with as many of six fractional digits as it needs; year 1 for None or 0."""
    if not at_us:
        return "0001-01-01T00:00:00Z"
    seconds, fraction = divmod(at_us, 1_000_000)
    if not fraction:
        return f"{_to_the_second(seconds)}Z"
    digits = f"{fraction:06d}".rstrip("0")
    return f"{_to_the_second(seconds)}.{digits}Z"


@lru_cache(maxsize=1024)  # most of the instants that are written lie within a few seconds of each other
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
