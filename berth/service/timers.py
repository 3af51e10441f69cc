"""Timers: which leases, or sessions, are due when. One heap, one task, however many there are.

A timer that is put off costs nothing: its place in the heap stays, and when it comes up too early it is
queued again. Due times are boot-clock microseconds.
"""

import heapq
from collections.abc import Collection, Sequence
from typing import Generic, TypeVar

import trio

from berth.core.names import Key
from berth.runtime.clock import Clock

# Trio's clock stands still in suspend and the boot clock does not: look again at least this often.
LOOK_AGAIN_SECONDS = 60.0

SLACK = 1000


TargetT = TypeVar("TargetT", Key, str)


class Timers(Generic[TargetT]):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, TargetT]] = []
        self._due_us: dict[TargetT, int] = {}
        self._earlier = trio.Event()

    def due_us(self, key: TargetT) -> int | None:
        """When `key` is due, or None when it is not to be."""
        return self._due_us.get(key)

    def set(self, key: TargetT, due_us: int) -> None:
        """Let `key` be due at `due_us`, and no longer when it was to be before."""
        before_us = self._due_us.get(key)
        self._due_us[key] = due_us
        if before_us is None or due_us < before_us:
            if not self._heap or due_us < self._heap[0][0]:
                self._earlier.set()
            heapq.heappush(self._heap, (due_us, key))
            self._compact()

    def put_off(self, keys: Collection[TargetT], due_us: Sequence[int]) -> None:
        """As `set` for each, none of which becomes due earlier than it was."""
        if all(map(self._due_us.__contains__, keys)):
            self._due_us.update(zip(keys, due_us, strict=True))
        else:
            for key, each_us in zip(keys, due_us, strict=True):
                self.set(key, each_us)

    def drop(self, key: TargetT) -> None:
        self._due_us.pop(key, None)
        self._compact()

    def _compact(self) -> None:
        if len(self._heap) > SLACK + 2 * len(self._due_us):
            # What was dropped and set again over and over has left places in the heap that mean nothing.
            self._heap = [(due_us, key) for key, due_us in self._due_us.items()]
            heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._due_us)

    async def next_due(self, limit: int) -> list[TargetT]:
        """Wait until something is due; at most `limit` keys, each due no more until it is set again."""
        while True:
            due = self._pop_due(limit)
            if due:
                return due
            self._earlier = trio.Event()
            with trio.move_on_after(self._seconds_to_next()):
                await self._earlier.wait()

    def _pop_due(self, limit: int) -> list[TargetT]:
        now_us = self._clock.boot_us()
        due: list[TargetT] = []
        while self._heap and self._heap[0][0] <= now_us and len(due) < limit:
            _, key = heapq.heappop(self._heap)
            due_us = self._due_us.get(key)
            if due_us is None:
                continue
            if due_us > now_us:
                heapq.heappush(self._heap, (due_us, key))
            else:
                del self._due_us[key]
                due.append(key)
        return due

    def _seconds_to_next(self) -> float:
        if not self._heap:
            return LOOK_AGAIN_SECONDS
        return min(LOOK_AGAIN_SECONDS, max(0.0, (self._heap[0][0] - self._clock.boot_us()) / 1_000_000))
