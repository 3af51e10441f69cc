"""The fence of an SQLite database: what may have been granted that the file does not know of.

Owns the row that says which tokens are given no more and until when nothing is granted, and the note of the
longest ttl, for how long a lost grant may hold. Promises that a jump stays in force over restarts, and that
it makes no token smaller. Who restores a backup says so: nothing in the file does.
"""

import sqlite3
from typing import NamedTuple

from berth.core.records import TOKEN_MAX, Quarantine
from berth.store.doubts import TOKEN_JUMP, stretched_us


class Fence(NamedTuple):
    token_floor: int = 0
    closed_until_us: int = 0

    def doubts(self, now_us: int) -> tuple[Quarantine | None, int]:
        """What speaks against granting at this instant of store time, and the floor of tokens."""
        left_us = self.closed_until_us - now_us
        return Quarantine("loss", left_us) if left_us > 0 else None, self.token_floor


def fence(db: sqlite3.Connection) -> Fence:
    return Fence(*db.execute("SELECT token_floor, closed_until_us FROM berth_fence").fetchone())


def note_ttl(db: sqlite3.Connection, ttl_us: int) -> None:
    """Write down, within the transaction at hand, that so long a ttl is granted."""
    db.execute("UPDATE berth_fence SET ttl_max_us = ? WHERE ttl_max_us < ?", (ttl_us, ttl_us))


def jump(db: sqlite3.Connection, times: int, now_us: int) -> int:
    """Raise all tokens and close the file, within the transaction at hand; for how long, in microseconds."""
    jump = {"tokens": TOKEN_JUMP * times, "most": TOKEN_MAX}
    db.execute("UPDATE berth_leases SET version = version + 1, token = min(token + :tokens, :most)", jump)
    db.execute("UPDATE berth_fence SET token_floor = min(token_floor + :tokens, :most)", jump)
    (ttl_max_us,) = db.execute("SELECT ttl_max_us FROM berth_fence").fetchone()
    closed_us = stretched_us(ttl_max_us)
    db.execute("UPDATE berth_fence SET closed_until_us = ?", (now_us + closed_us,))
    return closed_us
