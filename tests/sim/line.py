"""Line: who wants which lease of one server, and since when, to see that nobody overtakes.

Promises to tell the ledger when a lease goes to somebody while another, who came to this server before and
waits, still stands in line. A place is kept as the server keeps it: for one who asks again at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import trio

from berth.service.waiters import KEEP_PLACE_SECONDS
from tests.sim.ledger import Ledger
from tests.sim.network import Request


class _Acquire(msgspec.Struct, rename="camel"):
    holder: str | None = None
    session: str | None = None
    wait_seconds: int | None = None


@dataclass(eq=False)
class Place:
    """One request on the server. `in_line_since` may be older than the request itself."""

    target: str
    who: tuple[str | None, str | None]
    waits: bool
    since: float
    in_line_since: float


class Line:
    """The requests that one server has at the moment."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._places: list[Place] = []
        self._gone: list[Place] = []
        """Requests whose callers have gone: the server may carry them out nevertheless."""
        self._kept: dict[tuple[str, tuple[str | None, str | None]], tuple[float, float]] = {}

    @contextmanager
    def place(self, request: Request) -> Iterator[Place]:
        now = trio.current_time()
        place = Place(request.target, (None, None), False, now, now)
        if request.target.endswith("/acquire"):
            body = msgspec.json.decode(request.body, type=_Acquire)
            place.who, place.waits = (body.holder, body.session), bool(body.wait_seconds)
            left_at, since = self._kept.get((place.target, place.who), (-1.0, now))
            place.in_line_since = since if left_at + KEEP_PLACE_SECONDS >= now else now
            # Who has another request here still may be given its place, or win by it.
            in_line = [place, *self._of(place)]
            place.in_line_since = min(one.in_line_since for one in in_line)
        self._places.append(place)
        answered = False
        try:
            yield place
            answered = True
        finally:
            self._places.remove(place)
            if not answered:
                self._gone.append(place)

    def ended_empty(self, place: Place) -> None:
        """The wait is over without the lease."""
        self._kept[place.target, place.who] = (trio.current_time(), place.in_line_since)

    def took(self, place: Place) -> None:
        """The request has won a new tenure."""
        if place.waits and trio.current_time() - place.since > 0.1:
            self._ledger.seen["a grant to a waiter"] += 1
        since = min(one.in_line_since for one in self._of(place))
        for other in self._places:
            rival = other.target == place.target and other.who != place.who and other.waits
            if rival and other.in_line_since < since and other.since < since:
                self._ledger.fail(f"line: {place.who} overtook {other.who} at {place.target}")

    def _of(self, place: Place) -> list[Place]:
        return [
            one for one in (*self._places, *self._gone) if (one.target, one.who) == (place.target, place.who)
        ]
