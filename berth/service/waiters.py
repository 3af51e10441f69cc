"""Waiters: who wants a lease that another has, in the order in which they came.

Owns a queue for each lease that is waited for. Promises first come, first served within this server: the
first in the queue asks at the instant at which something opens, and nobody who is not in the queue takes
the lease before them. Whoever gives up leaves the queue; what was granted while they did is given back. One
whose wait ended empty has the place kept for a moment, to ask again; meanwhile it holds nobody up. Does not
know when a lease opens: the register tells.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast

import trio
from msgspec.structs import replace

from berth.core.names import Key
from berth.core.requests import Acquire, Acquired, NotAcquired, Refused, Release
from berth.service.asking import Answer, Operation, Origin
from berth.service.rounds import Rounds

KEEP_PLACE_SECONDS = 2.0


class Waited(NamedTuple):
    """What came of a wait; where that is nothing, also the place in the queue: 1 is next.

    No outcome: the waiting was ended, because the server stops.
    """

    outcome: Acquired | NotAcquired | Refused | None
    position: int | None = None


class _Place:
    """One caller's place. While `left_at` is set, it is being kept."""

    def __init__(self, who: tuple[str, str | None]) -> None:
        self.who = who
        self.opening = trio.Event()
        self.left_at: float | None = None


class Waiters:
    """All queues of one server. `look` asks the register to look at a lease after so many microseconds."""

    def __init__(self, rounds: Rounds, *, look: Callable[[Key, int], None]) -> None:
        self._rounds = rounds
        self._look = look
        self._queues: dict[Key, list[_Place]] = {}
        self._kept: deque[tuple[float, Key, _Place]] = deque()
        self._ended = False

    @property
    def any(self) -> bool:
        """Whether there is a queue at all."""
        return bool(self._queues)

    def waited_for(self, key: Key) -> bool:
        """Whether anybody waits for the lease now."""
        return self._first(key) is not None

    def end(self) -> None:
        """Nobody waits any longer: the server stops."""
        self._ended = True
        for queue in self._queues.values():
            for place in queue:
                place.opening.set()

    def wake(self, key: Key) -> None:
        """Something may have opened: the first in the queue asks."""
        first = self._first(key)
        if first is not None:
            first.opening.set()

    async def acquire(self, key: Key, request: Acquire, wait_seconds: float, origin: Origin) -> Waited:
        """What came of it within `wait_seconds`. Cancelled, it gives back what was granted meanwhile."""
        give_up = trio.current_time() + wait_seconds
        place = self._join(key, (request.holder, request.session))
        try:
            while True:
                outcome = await self._ask(key, request, place, origin)
                if not isinstance(outcome, NotAcquired):
                    return Waited(outcome)
                if self._ended:
                    return Waited(None)
                if outcome.due_in_us is not None:
                    self._look(key, outcome.due_in_us)
                with trio.move_on_at(give_up) as patience:
                    await place.opening.wait()
                if patience.cancelled_caught:
                    position = self._queues[key].index(place) + 1
                    self._keep(key, place)
                    return Waited(outcome, position)
        finally:
            self._leave(key, place)

    async def _ask(
        self, key: Key, request: Acquire, place: _Place, origin: Origin
    ) -> Acquired | NotAcquired | Refused:
        """Ask for the lease; whoever is not the first, only for what is his already."""
        place.opening = trio.Event()
        asked = request if self._first(key) is place else replace(request, keep_only=True)
        answer = await self._carried_out(Operation(key, asked, origin))
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            if isinstance(answer, Acquired) and answer.taken:
                await self.give_back(key, answer, origin)
            raise
        if isinstance(answer, Exception):
            raise answer
        return cast("Acquired | NotAcquired | Refused", answer)

    async def give_back(self, key: Key, granted: Acquired, origin: Origin) -> None:
        """Release what was granted to one who has gone, unless the same holder was told of it again since."""
        release = Release(granted.view.holder, granted.view.token, granted.version)
        await self._carried_out(Operation(key, release, origin))

    async def _carried_out(self, operation: Operation) -> Answer:
        """Seen through to its end: what is granted and told to nobody would stand until it expires."""
        answers: list[Answer] = []
        with trio.CancelScope(shield=True):
            answers = await self._rounds.submit([operation])
        return answers[0]

    def _join(self, key: Key, who: tuple[str, str | None]) -> _Place:
        """The place that was kept for the caller, or the last."""
        self._clear_kept()
        queue = self._queues.setdefault(key, [])
        for place in queue:
            if place.who == who and place.left_at is not None:
                place.left_at = None
                return place
        place = _Place(who)
        queue.append(place)
        return place

    def _keep(self, key: Key, place: _Place) -> None:
        place.left_at = trio.current_time()
        self._kept.append((place.left_at, key, place))

    def _leave(self, key: Key, place: _Place) -> None:
        """Make way for whoever is the first now; something may be open."""
        if place.left_at is None:
            self._remove(key, place)
        self._clear_kept()
        self.wake(key)

    def _clear_kept(self) -> None:
        over = trio.current_time() - KEEP_PLACE_SECONDS
        while self._kept and self._kept[0][0] < over:
            left_at, key, place = self._kept.popleft()
            if place.left_at == left_at:
                self._remove(key, place)

    def _remove(self, key: Key, place: _Place) -> None:
        queue = self._queues[key]
        queue.remove(place)
        if not queue:
            del self._queues[key]

    def _first(self, key: Key) -> _Place | None:
        return next((place for place in self._queues.get(key, ()) if place.left_at is None), None)
