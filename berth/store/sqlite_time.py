"""The time of an SQLite database: a timeline that goes on from one process, and one boot, to the next.

Owns the row that says how far the timeline has come. It is written with every transaction, so no mark in the
file is beyond it. After a restart in the same boot the time since counts as far as boot clock and wall clock
agree on it; after another boot none of it counts, because no clock can vouch for it. So a lease may live
longer for a restart, never shorter.
"""

import sqlite3

from berth.runtime.clock import Clock
from berth.store.marks import Instant, StoreTime


class FileTime:
    """Store time, resumed from the database and written back to it."""

    def __init__(self, db: sqlite3.Connection, clock: Clock, boot_id: str) -> None:
        self._clock = clock
        self._boot_id = boot_id
        self._time = StoreTime(clock, _resumed_us(db, clock, boot_id))

    def read(self) -> Instant:
        return self._time.read()

    def save(self, db: sqlite3.Connection, instant: Instant) -> None:
        """Write down, within the transaction at hand, that store time has come as far as `instant`."""
        db.execute(
            "REPLACE INTO berth_clock (one, boot_id, boot_us, wall_us, store_us) VALUES (1, ?, ?, ?, ?)",
            (self._boot_id, self._clock.boot_us(), self._clock.wall_us(), instant.now_us),
        )


def _resumed_us(db: sqlite3.Connection, clock: Clock, boot_id: str) -> int:
    row = db.execute("SELECT boot_id, boot_us, wall_us, store_us FROM berth_clock").fetchone()
    if row is None:
        return 0
    saved_boot_id, boot_us, wall_us, store_us = row
    if saved_boot_id != boot_id:
        return store_us
    return store_us + max(0, min(clock.boot_us() - boot_us, clock.wall_us() - wall_us))
