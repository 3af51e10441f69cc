"""Holding: until when a holder may act on what it was granted.

Owns the holder's half of the clock rules. The server counts from after a request arrived, on its slowest
clock; the holder counts from before the request was sent, on its fastest. All durations are integer
microseconds, read from the holder's own clocks; the server's `expiresAt` plays no part.
"""

from typing import NamedTuple

RATE_ERROR_PPM = 1_000
"""How far a clock may run fast or slow against real time: 0.1 %, beyond what time daemons slew by."""


class Reading(NamedTuple):
    """One reading of a machine's clocks: since boot with suspend, raw (never slewed), and wall."""

    boot_us: int
    raw_us: int
    wall_us: int


def elapsed_us(since: Reading, now: Reading) -> int:
    """The time since a reading on whichever clock went furthest: doubt counts against the holder."""
    return max(now.boot_us - since.boot_us, now.raw_us - since.raw_us, now.wall_us - since.wall_us)


def lifetime_us(ttl_us: int) -> int:
    """How much of a ttl is the holder's, when its clock may run slow and the server's fast."""
    million = 1_000_000
    return ttl_us * (million - RATE_ERROR_PPM) // (million + RATE_ERROR_PPM)


def stop_budget_us(ttl_us: int) -> int:
    """The time kept for stopping when nobody says otherwise: 5 s, or a quarter of a short ttl."""
    return min(5_000_000, ttl_us // 4)


def remaining_us(sent: Reading, now: Reading, ttl_us: int, budget_us: int) -> int:
    """How long the holder may still act before it must begin to stop; 0 or less: it must stop now.

    `sent` was read before the first byte of the newest request that was granted.
    """
    return lifetime_us(ttl_us) - budget_us - elapsed_us(sent, now)
