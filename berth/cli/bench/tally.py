"""Tally: what was asked and what came of it, by operation.

Owns counts, errors by code and latencies. Promises that an error is in no percentile: a refusal that comes
fast would make a failing server look good.
"""

from collections import Counter, defaultdict

from berth.cli.bench.latencies import Latencies


class Operations:
    """One kind of operation. `granted` and `denied` are answers; the rest of `count` are errors."""

    def __init__(self) -> None:
        self.count = 0
        self.granted = 0
        self.denied = 0
        self.errors: Counter[str] = Counter()
        self.latencies = Latencies()


class Tally:
    """One stretch of time. A request carries one operation, or in a batch many."""

    def __init__(self) -> None:
        self.requests = 0
        self.events = 0
        """Lines of the watches."""
        self.operations: defaultdict[str, Operations] = defaultdict(Operations)
        self.queued = Latencies()
        """How long requests waited here for a free connection."""
        self.late = Latencies()
        """How long after its time a beat began."""
        self.take_overs = Latencies()
        """From the end of a silent holder's time to the next holder's reply."""
        self.hand_overs = Latencies()
        """From the sending of a release to the next holder's reply."""

    @property
    def answered(self) -> int:
        return sum(each.granted + each.denied for each in self.operations.values())

    @property
    def errors(self) -> Counter[str]:
        return sum((each.errors for each in self.operations.values()), Counter())

    def good(self, operation: str, duration_us: int, *, granted: bool) -> None:
        """An answer: what was asked for, or a no that is the lease's state."""
        kind = self.operations[operation]
        kind.count += 1
        kind.granted += granted
        kind.denied += not granted
        kind.latencies.add(duration_us)

    def bad(self, operation: str, code: str) -> None:
        kind = self.operations[operation]
        kind.count += 1
        kind.errors[code] += 1
