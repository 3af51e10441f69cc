"""Party: one of the two that compete for every lease, and what it believes to hold."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from berth.cli.bench.safety import SessionTime


@dataclass(slots=True)
class Session:
    """`sent_us`: when its newest renewal that was granted was sent."""

    id: str
    sent_us: int
    time: SessionTime


@dataclass(slots=True)
class Tenure:
    token: int
    sent_us: int


@dataclass(eq=False, slots=True)
class Party:
    """`holder` is whom the server knows. Leases are numbers; `sessions` are by the half of the leases."""

    holder: str
    tenures: dict[int, Tenure] = field(default_factory=dict[int, Tenure])
    sessions: dict[int, Session] = field(default_factory=dict[int, Session])
    silent_half: int | None = None
    """Of this half of the leases it lets nothing be heard any more."""
    _busy: set[int] = field(default_factory=set[int])

    def speaks_for(self, lease: int) -> bool:
        return half_of(lease) != self.silent_half

    @contextmanager
    def busy_with(self, leases: Iterable[int]) -> Iterator[list[int]]:
        """Those of the leases for which no other call of this party is in flight, until the block ends."""
        taken = [lease for lease in leases if lease not in self._busy]
        self._busy.update(taken)
        try:
            yield taken
        finally:
            self._busy.difference_update(taken)

    def drop_session(self, half: int) -> Session | None:
        """Forgets a session that is over, with all that was held under it."""
        session = self.sessions.pop(half, None)
        if session is not None:
            for lease in [lease for lease in self.tenures if half_of(lease) == half]:
                del self.tenures[lease]
        return session


def half_of(lease: int) -> int:
    return lease % 2


def name_of(lease: int) -> str:
    return f"bench-{lease}"


def lease_of(name: str) -> int | None:
    """The lease by its name; None for somebody else's."""
    found = re.fullmatch(r"bench-([1-9]\d*)", name, re.ASCII)
    return int(found[1]) if found else None
