"""The store contract: what every store of leases and sessions owes, and how it fails.

A store keeps records and knows what time it is. It decides nothing: it reads, compares versions, and writes.
`tests/store/conformance.py` holds every store to what is said here.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from berth.core.names import Key
from berth.core.records import Observed, Record, Session, SessionSeen

Write = Record | Session


class Reading(Struct, frozen=True, gc=False):
    """What one round trip read. `leases` has an entry for every key asked for, in that order, written or not.

    `sessions` holds the sessions asked for and those that the leases' tenures refer to, as far as they exist.
    `records` and `sole_idles_us` are two columns of `leases`, for who has many: the records, and how long
    each one's only tenure, if it has one and that one a ttl, has been idle; else a negative number.
    """

    at_us: int
    leases: Mapping[Key, Observed]
    sessions: Mapping[str, SessionSeen]
    records: Mapping[Key, Record | None]
    sole_idles_us: Sequence[int]


class Changes(Struct, frozen=True, gc=False):
    """What other servers have written: leases that may have changed hands, and sessions that have ended.

    `everything`: any of them may have, since something could have been missed.
    """

    leases: frozenset[Key] = frozenset()
    sessions: frozenset[str] = frozenset()
    everything: bool = False


class Store(Protocol):
    """Linearizable for each record, durable once a write is told to have won.

    Time. Idle times come from the store's own time authority, read after the call arrived; each is a lower
    bound of the real time since the renewal. One reading has one instant. A write marks the tenures (and the
    session) whose `mark` is None as renewed at an instant not before the call arrived; other marks it keeps
    as they are. A store may round a ttl up, never down.

    Cancellation. A call that is cancelled leaves the store usable and may or may not have been carried out.
    """

    async def read(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        """Read leases and sessions in one round trip."""
        ...

    async def write(self, writes: Sequence[Write]) -> set[Key | str]:
        """Compare-and-swap each record on its own, all in one round trip.

        A record of version n wins where the stored version is n-1 (0: nothing is stored). Answers the keys
        and session ids that won; those are durable now. The others left no trace. What is given is given
        away: a store may complete it in place.
        """
        ...

    def scan(self, after: Key | None, limit: int) -> AsyncGenerator[Observed]:
        """At most `limit` leases that were ever used, ordered by namespace and name, beyond `after`.

        Who does not exhaust it closes it (`contextlib.aclosing`).
        """
        ...

    async def sessions(self, after: str | None, limit: int) -> Reading:
        """At most `limit` sessions beyond the id `after`, in the order of their ids; no leases."""
        ...

    async def forget(self, sessions: Collection[str]) -> None:
        """Delete these sessions as far as they have ended; one that has not stays. They end once and for
        all.
        """
        ...

    async def ping(self) -> None:
        """Return if a write could be made now. Constant cost."""
        ...


class SharedStore(Store, Protocol):
    """A store that other servers may write to as well."""

    def changes(self) -> AsyncGenerator[Changes]:
        """What others write from now on, within a second; renewals are no changes.

        Hints, to read again by: one may be told twice, or without a change, and nothing depends on one that
        is lost. The first, and the first after a time in which some could not be heard, is `everything`. Ends
        only by being closed or cancelled, and holds a bounded amount for who is slow.
        """
        ...


class RememberingStore(Store, Protocol):
    """A store that remembers what it has last seen, where each read and each write is a call to elsewhere.

    Its `write` raises `PartlyWritten` where it could not make all of them, its `read` `PartlyRead` where some
    of what was asked for makes no sense.
    """

    @property
    def stale_seconds(self) -> float:
        """For how long what others write cannot be heard: lists, and who watches or waits, are behind."""
        ...

    def recall(self, keys: Collection[Key], sessions: Collection[str] = ()) -> Reading:
        """As `read`, of what is remembered, at no cost: others may have written since.

        Good for what is written over that very version, and for nothing else: whoever would be refused by it
        is to be judged by a `read`. A lease is left out where a session that it refers to is not remembered.
        """
        ...


class StoreFault(Exception):
    """The store could not do it. The text is for the log and holds no secret.

    `outcome_known` says that nothing was written; otherwise the write may have won, now or in a moment.
    `told` is for whoever asked, where trying again is not all that they can do.
    """

    def __init__(
        self,
        text: str,
        *,
        outcome_known: bool,
        retry_after_seconds: float = 1.0,
        told: str | None = None,
    ) -> None:
        super().__init__(text)
        self.outcome_known = outcome_known
        self.retry_after_seconds = retry_after_seconds
        self.told = told


class PartlyWritten(StoreFault):
    """Some of many writes: those of `won` are durable, those of `failed` could not be made, each for its
    reason; the others lost.
    """

    def __init__(self, won: set[Key | str], failed: Mapping[Key | str, StoreFault]) -> None:
        super().__init__(f"{len(failed)} writes could not be made", outcome_known=False)
        self.won = won
        self.failed = failed


class PartlyRead(StoreFault):
    """Some of what was asked for cannot be read before somebody puts it right, each for its reason; `reading`
    has all else.
    """

    def __init__(self, reading: Reading, failed: Mapping[Key | str, StoreFault]) -> None:
        why = "; ".join(str(fault) for fault in failed.values())
        super().__init__(why, outcome_known=True, told=why if len(failed) == 1 else None)
        self.reading = reading
        self.failed = failed


class StoreRefused(Exception):
    """The store cannot be opened as it was configured. The text says what is wrong and what to do."""
