"""A clock that moves with Trio's own, so that a mocked Trio clock moves both."""

import trio


class TrioClock:
    """Every clock reads Trio's time; the wall clock starts in 2026."""

    def boot_us(self) -> int:
        return round(trio.current_time() * 1_000_000)

    def raw_us(self) -> int:
        return self.boot_us()

    def wall_us(self) -> int:
        return 1_790_000_000_000_000 + self.boot_us()
