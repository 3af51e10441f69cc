"""Agenda: what is to be seen to, and when.

Owns the times. Nothing is on it twice: the earlier time counts.
"""

from math import inf

import trio

from berth.client.tenures.entry import Entry


class Agenda:
    def __init__(self) -> None:
        self._due: dict[Entry, float] = {}
        self.sooner = trio.Event()
        """Set when something has to be seen to earlier than was known; then there is a new one."""

    def put(self, entry: Entry, after_seconds: float = 0.0) -> None:
        """The entry is to be seen to, then or before."""
        at = trio.current_time() + after_seconds
        if at < self._due.get(entry, inf):
            self._due[entry] = at
            self.sooner.set()
            self.sooner = trio.Event()

    def strike(self, entry: Entry) -> None:
        self._due.pop(entry, None)

    def take(self) -> tuple[list[Entry], float]:
        """What is due now, and when the next will be."""
        now = trio.current_time()
        ready = [entry for entry, at in self._due.items() if at <= now]
        for entry in ready:
            del self._due[entry]
        return ready, min(self._due.values(), default=inf)
