"""The clocks: boot time for elapsed time, raw time as its check, wall time for people.

Owns every reading of a clock outside Trio's own deadlines. Promises integers in microseconds. Does not
compare clocks or decide anything: who asks says which of them counts.
"""

import time
from pathlib import Path
from typing import Protocol

MICROSECONDS = 1_000_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """What the time is, by each of the machine's clocks, in whole microseconds."""

    def boot_us(self) -> int:
        """Time since the machine started, suspend included; it never steps."""
        ...

    def raw_us(self) -> int:
        """Time that no NTP daemon slews, from an arbitrary start; it stops in suspend."""
        ...

    def wall_us(self) -> int:
        """Time since 1970-01-01 UTC; it may step either way."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def boot_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def raw_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) // 1000

    def wall_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1000


class ManualClock:
    """Clocks that stand still until they are moved."""

    def __init__(self, boot_us: int = 0, wall_us: int = 0) -> None:
        self._boot_us = boot_us
        self._wall_us = wall_us

    def boot_us(self) -> int:
        return self._boot_us

    def raw_us(self) -> int:
        return self._boot_us

    def wall_us(self) -> int:
        return self._wall_us

    def advance(self, seconds: float) -> None:
        """Lets time pass on every clock."""
        elapsed_us = round(seconds * MICROSECONDS)
        self._boot_us += elapsed_us
        self._wall_us += elapsed_us

    def step_wall(self, seconds: float) -> None:
        """Sets the wall clock forward, or back, while no time passes."""
        self._wall_us += round(seconds * MICROSECONDS)


def boot_id() -> str:
    """The name of this machine's current boot; the next has another. Raises OSError where there is none."""
    return _BOOT_ID.read_text(encoding="ascii").strip()
