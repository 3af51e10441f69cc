"""Holding: until when a holder may act on what it was granted.

Owns the holder's half of the clock rules, as a state that only replies and clocks move. The server counts
from after a request arrived, on its slowest clock; the holder counts from before the request was sent, on its
fastest. What is not known neither prolongs a tenure nor ends it. Once lost, a tenure stays lost.

Durations are integer microseconds, read from the holder's own clocks; the server's `expiresAt` plays no part.
"""

from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

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


Loss = Literal["deadline", "refused"]


class Holding(Struct, frozen=True):
    """A tenure as its holder knows it.

    `sent` was read before the first byte of the newest request that was granted. `budget_us` is the time
    that stopping takes: the work must begin to stop that long before the tenure's end. Without a `deadline`
    (at-least-once) only a refusal ends it.
    """

    token: int
    ttl_us: int
    budget_us: int
    sent: Reading
    deadline: bool = True
    loss: Loss | None = None


def remaining_us(holding: Holding, now: Reading) -> int:
    """How long the holder may still act before it must begin to stop; 0 or less: it must stop now."""
    return kill_in_us(holding, now) - holding.budget_us


def kill_in_us(holding: Holding, now: Reading) -> int:
    """How long until nothing of the work may be left."""
    return lifetime_us(holding.ttl_us) - elapsed_us(holding.sent, now)


def checked(holding: Holding, now: Reading) -> Holding:
    """The tenure after a look at the clocks. The instant at which no time is left counts as lost."""
    if holding.loss is None and holding.deadline and remaining_us(holding, now) <= 0:
        return replace(holding, loss="deadline")
    return holding


def renewed(holding: Holding, sent: Reading, now: Reading) -> Holding:
    """The tenure after a renewal was granted that was sent at `sent`, and whose reply is here `now`.

    A reply that comes after the deadline reopens nothing; an older one never moves the deadline back.
    """
    holding = checked(holding, now)
    if holding.loss is None and sent.boot_us > holding.sent.boot_us:
        return replace(holding, sent=sent)
    return holding


def refused(holding: Holding) -> Holding:
    """The tenure after the server has said that it is over."""
    return replace(holding, loss="refused")
