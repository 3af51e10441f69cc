"""A clock for tests that moves a database's time as well."""

from collections.abc import Callable

from berth.runtime.clock import SystemClock


class MovedClock(SystemClock):
    """This machine's clocks and the database's, all ahead by as much as has been asked for.

    `move_database` sets by how many microseconds the database's is.
    """

    def __init__(self, move_database: Callable[[int], None]) -> None:
        self._move_database = move_database
        self._ahead_us = self._database_us = self._wall_us = 0

    def boot_us(self) -> int:
        return super().boot_us() + self._ahead_us

    def wall_us(self) -> int:
        return super().wall_us() + self._ahead_us + self._wall_us

    def advance(self, seconds: float) -> None:
        self._ahead_us += round(seconds * 1e6)
        self.step_database(seconds)

    def step_wall(self, seconds: float) -> None:
        """Set this process's wall clock, which is not the store's."""
        self._wall_us += round(seconds * 1e6)

    def step_database(self, seconds: float) -> None:
        """Set the database's clock, while no time passes."""
        self._database_us += round(seconds * 1e6)
        self._move_database(self._database_us)
