"""How long to wait before trying again.

Owns the one formula: exponential, capped, full jitter. Does not sleep, and does not count: who retries
brings the limit (attempts or a deadline) and the source of randomness.
"""

from collections.abc import Iterator
from random import Random


def backoff_seconds(rng: Random, *, first_seconds: float, cap_seconds: float) -> Iterator[float]:
    """Endless pauses, each uniform between 0 and a bound that doubles from first_seconds to cap_seconds."""
    bound = min(first_seconds, cap_seconds)
    while True:
        yield rng.uniform(0, bound)
        bound = min(bound * 2, cap_seconds)
