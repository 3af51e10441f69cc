"""Hosts: machines with clocks of their own, on which one process runs at a time.

Owns how far a machine's clocks are off: a rate within 0.1 % of real time, each clock's own; an offset; steps
of the wall clock. Simulated time is real time; in suspend it goes on for the boot and the wall clock, and not
for the raw one.
"""

from random import Random

import trio

from berth.core.holding import RATE_ERROR_PPM
from berth.runtime.clock import MICROSECONDS
from tests.sim.engine import Gate, Process

_2026_US = 1_790_000_000_000_000


class HostClock:
    """The `Clock` of one machine."""

    def __init__(self, rng: Random, rate_error_ppm: int = RATE_ERROR_PPM) -> None:
        self._boot_rate = _rate(rng, rate_error_ppm)
        self._raw_rate = _rate(rng, rate_error_ppm)
        self._boot_offset_us = rng.randrange(10**12)
        self._wall_offset_us = _2026_US + rng.randrange(-(10**12), 10**12)
        self._suspended_seconds = 0.0

    def set_rates(self, boot: float, raw: float) -> None:
        self._boot_rate, self._raw_rate = boot, raw

    def boot_us(self) -> int:
        return self._boot_offset_us + round(trio.current_time() * self._boot_rate * MICROSECONDS)

    def raw_us(self) -> int:
        awake_seconds = trio.current_time() - self._suspended_seconds
        return round(awake_seconds * self._raw_rate * MICROSECONDS)

    def wall_us(self) -> int:
        return self._wall_offset_us + round(trio.current_time() * self._boot_rate * MICROSECONDS)

    def step_wall(self, seconds: float) -> None:
        self._wall_offset_us += round(seconds * MICROSECONDS)

    def slept(self, seconds: float) -> None:
        """The machine was suspended for so long."""
        self._suspended_seconds += seconds


class Host:
    """A machine."""

    def __init__(self, name: str, clock: HostClock, gate: Gate) -> None:
        self.name = name
        self.clock = clock
        self.process = Process(name, gate)
        self.former: list[Process] = []
        self._gate = gate
        self._asleep_since: float | None = None

    @property
    def stopped(self) -> bool:
        return self.process.stopped

    def pause(self) -> None:
        self.process.pause()

    def suspend(self) -> None:
        self._asleep_since = trio.current_time()
        self.process.suspend()

    def resume(self) -> None:
        if self._asleep_since is not None:
            self.clock.slept(trio.current_time() - self._asleep_since)
            self._asleep_since = None
        self.process.resume()

    def crash(self) -> None:
        """The process is killed; the next one is a new one."""
        self.process.kill()
        self.former.append(self.process)
        self.process = Process(self.name, self._gate)

    def unwind(self) -> None:
        for process in (*self.former, self.process):
            process.unwind()


def _rate(rng: Random, rate_error_ppm: int) -> float:
    """Often as wrong as it may be: that is where the margins are."""
    error_ppm = rng.choice((-rate_error_ppm, 0, rate_error_ppm, rng.uniform(-rate_error_ppm, rate_error_ppm)))
    return 1 + error_ppm / 1_000_000
