"""Direct checks: what must hold of a history of any size, and can be seen without a search.

Each says less than the checker, and nothing that a reader could doubt:

- no reply tells a lower token than one that had come before it was asked for;
- a token of a lease is one holder's;
- no two tenures are active at once, by the deadlines that their holders keep: from the sending of the last
  request that succeeded, of the session where they are under one, for the ttl less what two clocks may differ
  by, until a release is sent, an admin ends it or a loss is told;
- no grant is told of which the store knows nothing in the end.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.histories.operations import Operation, by_key, seconds
from tests.histories.state import RATE_PPM

NEVER_US = 2**63


class Stored(NamedTuple):
    """What a store has of a lease, read past berth. `holder` is empty when nobody is written down."""

    token: int
    holder: str = ""


class Tenure(NamedTuple):
    """As its holder knows it: active from the first reply that grants it until before `until_us`."""

    token: int
    holder: str
    from_us: int
    until_us: int


def violations(history: Sequence[Operation], stored: Mapping[str, Stored]) -> list[str]:
    """All that is wrong, for people."""
    found: list[str] = []
    for key, operations in by_key(history).items():
        found += order_of_tokens(operations)
        found += owners_of_tokens(operations)
        found += overlaps(key, tenures(operations))
        found += unknown_grants(operations, stored.get(key, Stored(0)))
    return found


def order_of_tokens(operations: Sequence[Operation]) -> Iterator[str]:
    telling = [each for each in operations if each.told is not None and each.told.token]
    returned = sorted(telling, key=lambda each: each.returned_us or 0)
    highest: Operation | None = None
    before = 0
    for asked in sorted(telling, key=lambda each: each.invoked_us):
        while (returned[before].returned_us or 0) < asked.invoked_us:
            if highest is None or _token(returned[before]) > _token(highest):
                highest = returned[before]
            before += 1
        if highest is not None and _token(asked) < _token(highest):
            yield f"a token went back: after {highest} came {asked}"


def owners_of_tokens(operations: Sequence[Operation]) -> Iterator[str]:
    first: dict[int, Operation] = {}
    for asked in operations:
        if asked.told is None or not asked.told.holder:
            continue
        known = first.setdefault(asked.told.token, asked)
        if known.told is not None and known.told.holder != asked.told.holder:
            yield f"a token of two holders: {known} and {asked}"


class _Activity:
    """What is done by virtue of one thing: a tenure by ttl, a tenure under a session, a session."""

    def __init__(self) -> None:
        self.from_us = NEVER_US
        self.until_us = -NEVER_US
        self.cut_us = NEVER_US
        self.session = ""

    def goes_on(self, asked: Operation) -> None:
        """The request has succeeded: until the ttl after its sending."""
        self.from_us = min(self.from_us, asked.returned_us or NEVER_US)
        lifetime_us = asked.ttl_us - 2 * asked.ttl_us * RATE_PPM // 1_000_000
        self.until_us = max(self.until_us, asked.invoked_us + lifetime_us)

    def stops(self, at_us: int | None) -> None:
        self.cut_us = min(self.cut_us, at_us or NEVER_US)

    @property
    def ends_us(self) -> int:
        return min(self.until_us, self.cut_us)


def tenures(operations: Sequence[Operation]) -> list[Tenure]:
    """Every tenure that somebody was told of as his own. One under a session lives as long as that does."""
    held: defaultdict[tuple[int, str], _Activity] = defaultdict(_Activity)
    sessions: defaultdict[str, _Activity] = defaultdict(_Activity)
    forced: defaultdict[int, _Activity] = defaultdict(_Activity)
    for asked in operations:
        word = asked.told.word if asked.told is not None else ""
        if asked.told is not None and word in ("granted", "renewed"):
            activity = held[asked.told.token, asked.holder]
            activity.goes_on(asked)
            activity.session = asked.session
        elif asked.kind == "release":
            held[asked.token, asked.holder].stops(asked.invoked_us)
        elif word == "lost":
            held[asked.token, asked.holder].stops(asked.returned_us)
        elif asked.kind == "force":
            forced[asked.token].stops(asked.invoked_us)
        elif word == "alive":
            sessions[asked.session].goes_on(asked)
        elif word in ("over", "session_ended"):
            sessions[asked.session].stops(asked.returned_us)
        elif asked.kind == "end":
            sessions[asked.session].stops(asked.invoked_us)
    return sorted(
        Tenure(
            token,
            holder,
            activity.from_us,
            min(
                sessions[activity.session].ends_us if activity.session else activity.until_us,
                activity.cut_us,
                forced[token].cut_us,
            ),
        )
        for (token, holder), activity in held.items()
        if activity.from_us < NEVER_US
    )


def overlaps(key: str, held: Sequence[Tenure]) -> Iterator[str]:
    active = sorted((each for each in held if each.from_us < each.until_us), key=lambda each: each.from_us)
    longest: Tenure | None = None
    for each in active:
        if longest is not None and each.from_us < longest.until_us:
            yield f"two active on {key}: {_told(longest)} and {_told(each)}"
        if longest is None or each.until_us > longest.until_us:
            longest = each


def unknown_grants(operations: Sequence[Operation], stored: Stored) -> Iterator[str]:
    for asked in operations:
        if asked.told is None or asked.told.word not in ("granted", "renewed"):
            continue
        if asked.told.token > stored.token:
            yield f"the store has only token {stored.token} in the end: {asked}"
        elif asked.told.token == stored.token and stored.holder not in ("", asked.holder):
            yield f"the store has this token as {stored.holder}'s: {asked}"


def _token(asked: Operation) -> int:
    return asked.told.token if asked.told is not None else 0


def _told(tenure: Tenure) -> str:
    span = f"from {seconds(tenure.from_us)} to {seconds(tenure.until_us)}"
    return f"{tenure.holder} under token {tenure.token} {span}"
