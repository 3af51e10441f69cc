"""Latencies: how long many things took, in memory that does not grow with their number.

Owns the counting. Promises percentiles by nearest rank over all samples, none left out, each told at most
0.1 % too long and never too short; the longest one exactly.
"""

from collections import Counter

_EXACT_BITS = 11
"""Durations below 2048 us have a bucket each; above, a bucket is at most 1/1024 of its value wide."""


class Latencies:
    """Durations in whole microseconds."""

    def __init__(self) -> None:
        self.count = 0
        self.max_us = 0
        self._buckets: Counter[int] = Counter()

    def add(self, duration_us: int, times: int = 1) -> None:
        self._buckets[_longest_in_bucket(duration_us)] += times
        self.count += times
        self.max_us = max(self.max_us, duration_us)

    def percentile_us(self, per_mille: int) -> int:
        """The least duration that at least so many of a thousand samples do not exceed; 0 without any."""
        rank = -(-self.count * per_mille // 1000)
        seen = 0
        for longest_us in sorted(self._buckets):
            seen += self._buckets[longest_us]
            if seen >= rank:
                return min(longest_us, self.max_us)
        return 0


def _longest_in_bucket(duration_us: int) -> int:
    spare_bits = max(0, duration_us.bit_length() - _EXACT_BITS)
    return duration_us | ((1 << spare_bits) - 1)
