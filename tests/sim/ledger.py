"""Ledger: what happened in a run, who was active when, and what was wrong with it.

Owns the log of events, whose hash tells two runs apart, and the judgement of S1: at any instant at most one
holder of an exclusive lease is active. Active is the time in the body of a hold, its stopping included. While
a process stands still it is not; after that, until its timers have had a look at the clocks, only those
instants count at which it has just asked whether it may act. That is what the manual promises, and no more.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable

import trio

from berth.client.keeper import LOOK_SECONDS
from berth.core.names import Key
from tests.sim.engine import Process

RATE_SLACK = 1.0011
"""How much longer than told a span of a store's clock may take in real time."""


def innermost(error: BaseException) -> BaseException:
    """The first of what was raised together, and the first of that."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Span:
    """The activity of one holder under one token."""

    def __init__(self, ledger: "Ledger", key: Key, who: str, token: int, process: Process) -> None:
        self.key, self.who, self.token, self.process = key, who, token, process
        self.open = False
        self.must_end_by: float | None = None
        """Set while it overlaps another, which only force can bring about."""
        self._ledger = ledger
        self._continuous_from = 0.0

    def touch(self) -> None:
        """The holder has just asked, and may act."""
        if self.process.dead:
            return
        now = trio.current_time()
        if not self.open:
            self._ledger.judge(self, "acts")
            self.open = now >= self._continuous_from

    def stop(self) -> None:
        """Nothing of the work is left."""
        if self.process.dead:
            return
        self._close()
        self._ledger.spans.remove(self)
        self._ledger.note("stopped", self.key, self.who, self.token)

    def stand_still(self) -> None:
        self._close()
        self._continuous_from = float("inf")

    def go_on(self) -> None:
        self._continuous_from = trio.current_time() + LOOK_SECONDS

    def _close(self) -> None:
        if self.open and self.must_end_by is not None and trio.current_time() > self.must_end_by:
            self._ledger.fail(f"S1: {self} went on after the time that force-release told")
        self.open = False
        self.must_end_by = None

    def __str__(self) -> str:
        return f"{self.who} under {self.key} token {self.token}"


class Ledger:
    """The record of one run."""

    def __init__(self) -> None:
        self.events: list[tuple[float, tuple[object, ...]]] = []
        self.violations: list[str] = []
        self.failed = trio.Event()
        self.seen: Counter[str] = Counter()
        """Situations that a run is meant to reach."""
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self.spans: list[Span] = []
        self.active_at: dict[Key, float] = {}
        """When somebody was last seen active, or is still."""
        self.tenures: Counter[Key] = Counter()
        """How many holders have been active under each lease."""
        self.closed = False
        self.taken_back: set[tuple[Key, int]] = set()
        """Grants that a server took back from a request whose caller had gone."""
        self._excused: dict[tuple[Key, int], float] = {}

    def note(self, *event: object) -> None:
        if not self.closed:
            self.events.append((trio.current_time(), event))

    def fail(self, text: str) -> None:
        if not self.closed:
            self.note("VIOLATION", text)
            self.violations.append(f"at {trio.current_time():.6f} s: {text}")
            self.failed.set()

    def begin(self, key: Key, who: str, token: int, process: Process) -> Span:
        span = Span(self, key, who, token, process)
        self.note("active", key, who, token)
        self.spans.append(span)
        self.tenures[key] += 1
        span.touch()
        return span

    def judge(self, span: Span, what: str) -> None:
        """`span` is active from now on, or for this instant."""
        now = trio.current_time()
        self.active_at[span.key] = now
        for other in self._others(span):
            for one in (span, other):
                until = self._excused.get((one.key, one.token))
                if until is not None and now <= until:
                    one.must_end_by = until
                    break
            else:
                hint = ", which was taken back" if (other.key, other.token) in self.taken_back else ""
                self.fail(f"S1: {span} {what} while {other}{hint} is active")

    def is_active(self, key: Key) -> bool:
        return any(span.open for span in self.spans if span.key == key)

    def _others(self, span: Span) -> list[Span]:
        return [each for each in self.spans if each is not span and each.open and each.key == span.key]

    def excuse(self, key: Key, token: int, remaining_seconds: float) -> None:
        """This tenure was ended by force: its holder may act on it for so long, by the store's clock."""
        self._excused[key, token] = trio.current_time() + remaining_seconds * RATE_SLACK

    def stood_still(self, process: Process) -> None:
        for span in self._of(process):
            span.stand_still()

    def went_on(self, process: Process) -> None:
        for span in self._of(process):
            span.go_on()

    def died(self, process: Process) -> None:
        for span in self._of(process):
            span.stand_still()
            self.spans.remove(span)

    def _of(self, process: Process) -> Iterable[Span]:
        return [span for span in self.spans if span.process is process]

    def lines(self) -> list[str]:
        return [f"{at:12.6f} {' '.join(map(str, event))}" for at, event in self.events]

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines()).encode()).hexdigest()
