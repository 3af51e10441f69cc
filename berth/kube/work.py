"""Work on objects: one run at a time for each, several objects at once, and again when it is due.

Owns which object is to be looked at, now or later. Promises that what is added while an object is being
worked on is looked at afterwards, however often it was added, once; that a handler which fails is called
again, later each time; that one slow object delays no other while there is room; and that what is urgent
waits for nothing that is not. Does not know what the work is, nor end it: a handler brings its own deadline.
"""

import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from math import inf
from random import Random
from typing import Generic, TypeVar

import trio

from berth.runtime.log import Logger

FIRST_RETRY_SECONDS = 0.5
RETRY_MAX_SECONDS = 60.0
SLACK = 1000

KeyT = TypeVar("KeyT", bound=Hashable)


class WorkQueue(Generic[KeyT]):
    """`handle` says after how many seconds it wants to be called again, or None. Run it with `run`.

    `is_urgent` is asked when an object is to be looked at; for those there is as much room again.
    """

    def __init__(
        self,
        handle: Callable[[KeyT], Awaitable[float | None]],
        *,
        concurrency: int,
        rng: Random,
        logger: Logger,
        is_urgent: Callable[[KeyT], bool] = lambda _: False,
    ) -> None:
        self._handle = handle
        self._concurrency = concurrency
        self._rng = rng
        self._logger = logger
        self._is_urgent = is_urgent
        self._ready: deque[KeyT] = deque()
        self._urgent: deque[KeyT] = deque()
        self._waiting: set[KeyT] = set()
        self._running: set[KeyT] = set()
        self._again: set[KeyT] = set()
        self._failures: dict[KeyT, int] = {}
        self._due: dict[KeyT, float] = {}
        self._heap: list[tuple[float, int, KeyT]] = []
        self._serial = 0
        self._woken = trio.Event()

    def add(self, key: KeyT) -> None:
        """Look at it as soon as may be."""
        if key in self._running:
            self._again.add(key)
            return
        if self._is_urgent(key):
            self._urgent.append(key)  # perhaps once more than it waits: then the first one counts
        elif key not in self._waiting:
            self._ready.append(key)
        self._waiting.add(key)
        self._woken.set()

    def add_after(self, key: KeyT, seconds: float) -> None:
        """Look at it then; sooner if that was asked for before."""
        due = trio.current_time() + seconds
        if due < self._due.get(key, inf):
            self._set_due(key, due)

    async def run(self) -> None:
        """Until it is cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._woken = trio.Event()
                self._take_due()
                for lane, room in ((self._urgent, 2 * self._concurrency), (self._ready, self._concurrency)):
                    while lane and len(self._running) < room:
                        self._begin(lane.popleft(), nursery)
                with trio.move_on_at(self._heap[0][0] if self._heap else inf):
                    await self._woken.wait()

    def _begin(self, key: KeyT, nursery: trio.Nursery) -> None:
        if key in self._waiting:
            self._waiting.discard(key)
            self._running.add(key)
            nursery.start_soon(self._work_on, key)

    async def _work_on(self, key: KeyT) -> None:
        try:
            again_seconds = await self._handle(key)
            self._failures.pop(key, None)
        except Exception as fault:
            again_seconds = self._retry_seconds(key)
            self._logger.error(
                "work on an object failed, trying again",
                object=str(key),
                error=str(fault),
                after_seconds=round(again_seconds, 1),
                exc_info=True,
            )
        finally:
            self._running.discard(key)
            self._woken.set()
        # What the newest run says counts.
        self._due.pop(key, None)
        if again_seconds is not None:
            self._set_due(key, trio.current_time() + again_seconds)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _retry_seconds(self, key: KeyT) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        bound = min(RETRY_MAX_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(failures, 16))
        return bound * self._rng.uniform(0.5, 1)

    def _set_due(self, key: KeyT, due: float) -> None:
        self._due[key] = due
        self._serial += 1
        heapq.heappush(self._heap, (due, self._serial, key))
        if len(self._heap) > SLACK + 2 * len(self._due):
            self._heap = [(due, number, key) for number, (key, due) in enumerate(self._due.items())]
            heapq.heapify(self._heap)
        self._woken.set()

    def _take_due(self) -> None:
        while self._heap and self._heap[0][0] <= trio.current_time():
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
