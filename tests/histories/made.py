"""Made histories: what `decide` answers over a compare-and-swap store, at instants that a seed draws.

Right by construction, and as concurrent as one likes: requests are judged, written and answered at instants
of their own, replies are lost, and what was lost is done late, or never. The model has to accept them all.
"""

import heapq
from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import Observed, Record
from berth.core.requests import (
    Acquire,
    Acquired,
    Forced,
    ForceRelease,
    Lost,
    NotAcquired,
    Outcome,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    Request,
)
from tests.histories.direct import Stored
from tests.histories.operations import Kind, Operation, Told

KEY = Key("n", "a")
SECOND_US = 1_000_000
TTLS_US = (SECOND_US, 2 * SECOND_US)


class Made:
    """One run: some clients, of which two share a name, on one lease."""

    def __init__(self, seed: int, *, operations: int, clients: int = 4, lossy: float = 0.0) -> None:
        self.history: list[Operation] = []
        self._rng = Random(seed)
        self._left = operations
        self._lossy = lossy
        self._record: Record | None = None
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._serial = 0
        for number in range(clients):
            self._later(0, lambda now_us, number=number: self._next(number, 0, now_us))
        while self._events:
            at_us, _, event = heapq.heappop(self._events)
            event(at_us)

    @property
    def stored(self) -> Stored:
        """The lease as it is in the end."""
        if self._record is None:
            return Stored(0)
        return Stored(self._record.token, self._record.tenures[0].holder if self._record.tenures else "")

    def _later(self, now_us: int, event: Callable[[int], None], within_us: int = 30_000) -> None:
        self._serial += 1
        heapq.heappush(self._events, (now_us + self._rng.randint(1, within_us), self._serial, event))

    def _next(self, number: int, life: int, now_us: int) -> None:
        if self._left <= 0:
            return
        self._left -= 1
        asked = self._asked(f"{number}.{life}", f"h{max(1, number)}", now_us)
        is_lost = asked.kind != "get" and self._rng.random() < self._lossy
        if is_lost:
            self.history.append(asked)
            if self._rng.random() < 0.5:
                late_us = 3 * SECOND_US if self._rng.random() < 0.3 else 30_000
                self._later(now_us, lambda at_us: self._judge(asked, lambda told, at: None, at_us), late_us)
            self._later(now_us, lambda at_us: self._next(number, life + 1, at_us))
            return

        def answer(told: Told, at_us: int) -> None:
            self.history.append(replace(asked, returned_us=at_us, told=told))
            pause_us = 2 * SECOND_US if self._rng.random() < 0.1 else 50_000
            self._later(at_us, lambda later_us: self._next(number, life, later_us), pause_us)

        self._later(now_us, lambda at_us: self._judge(asked, answer, at_us))

    def _asked(self, client: str, holder: str, now_us: int) -> Operation:
        """Mostly what makes sense, and now and then what does not."""
        rng, record = self._rng, self._record
        mine = [one.token for one in record.tenures if one.holder == holder] if record else []
        if mine and rng.random() < 0.8:
            kind: Kind = rng.choice(("renew", "renew", "renew", "acquire", "get", "release"))
        else:
            kind = rng.choice(("acquire", "acquire", "get", "renew", "release", "force"))
        highest = record.token if record else 0
        token = mine[0] if mine and rng.random() < 0.9 else max(1, highest - rng.randint(-1, 2))
        ttl_us = rng.choice(TTLS_US) if kind in ("acquire", "renew") else 0
        return Operation(
            client,
            kind,
            str(KEY),
            now_us,
            holder="" if kind in ("get", "force") else holder,
            token=token if kind in ("renew", "release", "force") else 0,
            ttl_us=ttl_us,
        )

    def _judge(self, asked: Operation, answer: Callable[[Told, int], None], now_us: int) -> None:
        record = self._record
        idle_us = tuple(max(0, now_us - (one.mark or 0)) for one in record.tenures) if record else ()
        observed = Observed(KEY, now_us, record, idle_us)
        if asked.kind == "get":
            told = seen(observed)
            self._later(now_us, lambda at_us: answer(told, at_us))
            return
        decision = decide(observed, request(asked))
        told = told_of(decision.outcome)
        write = decision.write
        if write is None:
            self._later(now_us, lambda at_us: answer(told, at_us))
        else:
            self._later(now_us, lambda at_us: self._write(asked, write, told, answer, at_us))

    def _write(
        self, asked: Operation, write: Record, told: Told, answer: Callable[[Told, int], None], now_us: int
    ) -> None:
        """The write arrives at one instant, by which it is marked, and counts from a later one."""
        marked = tuple(one if one.mark is not None else replace(one, mark=now_us) for one in write.tenures)

        def commit(at_us: int) -> None:
            if write.version != (self._record.version if self._record else 0) + 1:
                self._judge(asked, answer, at_us)
                return
            self._record = replace(write, tenures=marked)
            self._later(at_us, lambda later_us: answer(told, later_us))

        self._later(now_us, commit)


def request(asked: Operation) -> Request:
    match asked.kind:
        case "acquire":
            return Acquire(asked.holder, asked.ttl_us)
        case "renew":
            return Renew(asked.holder, asked.token, asked.ttl_us)
        case "release":
            return Release(asked.holder, asked.token)
        case _:
            return ForceRelease(asked.token)


def told_of(outcome: Outcome) -> Told:
    """As the wire tells it."""
    match outcome:
        case Acquired(view=view, clean_handover=clean):
            return Told("granted", view.token, view.holder, clean)
        case NotAcquired(standing=standing):
            assert standing.newest is not None
            return Told("held", standing.token, standing.newest.holder)
        case Renewed(token=token, holder=holder):
            return Told("renewed", token, holder)
        case Lost(standing=standing):
            return Told("lost", standing.token, standing.newest.holder if standing.newest else "")
        case Released():
            return Told("released")
        case Forced(view=view):
            return Told("forced", view.token, view.holder)
        case Refused(reason="not_found"):
            return Told("never")
        case Refused(reason="not_holder" | "stale_token" as word):
            return Told(word)
        case _:
            raise AssertionError(outcome)


def seen(observed: Observed) -> Told:
    record = observed.record
    if record is None:
        return Told("never")
    lives = [
        one for one, idle_us in zip(record.tenures, observed.idle_us, strict=True) if idle_us <= one.ttl_us
    ]
    return Told("held", record.token, lives[0].holder) if lives else Told("free", record.token)
