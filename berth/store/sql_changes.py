"""What has been heard of other servers' writes and not been told yet.

Owns one bounded collection for one listener: beyond its limit everything counts as changed, which needs no
room. Owns as well how a table is asked for what is new in it, where a server cannot tell by itself.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import trio

from berth.core.names import Key
from berth.store.api import Changes

HEARD_MAX = 10_000


class Heard:
    """Begins with everything, as nothing was heard before."""

    def __init__(self) -> None:
        self._leases: set[Key] = set()
        self._sessions: set[str] = set()
        self._everything = True
        self._any = trio.Event()
        self._any.set()

    def add(self, what: Key | str) -> None:
        if isinstance(what, Key):
            self._leases.add(what)
        else:
            self._sessions.add(what)
        if len(self._leases) + len(self._sessions) > HEARD_MAX:
            self.miss()
        self._any.set()

    def miss(self) -> None:
        """Something may have been missed."""
        self._everything = True
        self._leases.clear()
        self._sessions.clear()
        self._any.set()

    def take(self) -> Changes | None:
        """All of it, which then has been told."""
        if not self._any.is_set():
            return None
        changes = Changes(frozenset(self._leases), frozenset(self._sessions), self._everything)
        self._leases.clear()
        self._sessions.clear()
        self._everything = False
        self._any = trio.Event()
        return changes

    async def wait(self) -> None:
        await self._any.wait()


OVERLAP_US = 5_000_000
"""A write is seen when it commits, and bears the instant at which it began: so much may lie between them."""

_NEVER_US = 1 << 52


class Polled:
    """What has been found in a table whose rows bear the instant of their last change."""

    def __init__(self) -> None:
        self._now_us = 0
        self._seen: set[tuple[Key | str, int]] = set()

    @property
    def since_us(self) -> int:
        """Rows changed beyond this may be new; at first none is."""
        return self._now_us - OVERLAP_US if self._now_us else _NEVER_US

    def take(self, heard: Heard, rows: Iterable[Sequence[Any]]) -> None:
        """Hear what is new among `rows`: the clock (0), leases (1) and sessions (2) with their instants."""
        before_us = self._now_us
        found: list[tuple[Key | str, int]] = []
        for kind, one, two, at_us in rows:
            if kind == 0:
                self._now_us = at_us
            else:
                found.append((Key(one, two) if kind == 1 else one, at_us))
        if self._now_us < before_us or len(found) >= HEARD_MAX:
            heard.miss()  # the clock went back, or not all of it was told
        for each in found:
            if each not in self._seen:
                heard.add(each[0])
        self._seen = set(found)
