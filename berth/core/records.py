"""Records: what is stored of a lease and of a session, and what a store tells about them.

Owns the shapes and their invariants. A record says nothing about the present: whether a tenure still lives
follows only from its idle time, which the store reports by its own time authority with every reading.

Durations and instants are integer microseconds. An instant (`…_at_us`, since the Unix epoch) is for people:
it is copied and printed, never compared.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from msgspec import Struct

from berth.core.names import Key

TOKEN_MAX = 2**31 - 1

HOLDERS_MAX = 1_000
"""So many hold a shared lease at once at most, whatever it asks for: each is read and told with every
request.
"""

Semantics = Literal["at-most-once", "at-least-once"]
SessionEnd = Literal["clean", "expired", "forced"]


class Tenure(Struct, frozen=True, gc=False):
    """One holder's hold on a lease, under one fencing token.

    `mark` is the store's own renewal mark, opaque here; None asks the store to mark the tenure as renewed by
    this very write. A tenure under a session has no ttl of its own: it lives exactly as long as the session.
    """

    holder: str
    token: int
    acquired_at_us: int
    ttl_us: int = 0
    session: str | None = None
    mark: int | None = None


class Ended(Struct, frozen=True, gc=False):
    """How the last tenure to end did so: `clean` when its holder (or its session's) gave it up."""

    acquired_at_us: int
    ended_at_us: int
    clean: bool


class Record(Struct, frozen=True, gc=False):
    """A lease. It is never deleted: a free record keeps the highest token, so that none is issued twice.

    `version` is 1 for the first write and grows by one with each: it is what a compare-and-swap compares.
    `tenures` are in the order of their tokens; `max_holders` None means no limit (and 1 for at-most-once).
    """

    key: Key
    version: int
    token: int
    tenures: tuple[Tenure, ...] = ()
    semantics: Semantics = "at-most-once"
    max_holders: int | None = None
    lock_delay_us: int = 0
    ended: Ended | None = None


class Session(Struct, frozen=True, gc=False):
    """A holder's sign of life, on which any number of tenures may hang. `ttl_us` never changes."""

    id: str
    version: int
    holder: str
    instance: str
    ttl_us: int
    opened_at_us: int
    mark: int | None = None
    ended: SessionEnd | None = None
    ended_at_us: int | None = None


class SessionSeen(Struct, frozen=True, gc=False):
    """A session as read: `idle_us` is a lower bound of the time since its last renewal."""

    session: Session
    idle_us: int


class Quarantine(Struct, frozen=True, gc=False):
    """Why a store cannot vouch for what it reads, and for how much longer.

    `clock`: the content is whole, the time is in doubt: nothing expired is taken over.
    `loss`: recent writes may be missing: nothing at all is granted.
    """

    kind: Literal["clock", "loss"]
    left_us: int


class Observed(Struct, frozen=True, gc=False):
    """A lease as read from its store, at one instant of the store's clock.

    `idle_us` has one entry per tenure: a safe lower bound of the time since it was renewed. `sessions` holds
    every session that the record's tenures or the request refer to; one that is not there has ended.

    `token_floor`: no token up to it is given any more. A store that may have lost writes raises it above
    every token that those may have given.
    """

    key: Key
    at_us: int
    record: Record | None = None
    idle_us: tuple[int, ...] = ()
    sessions: Mapping[str, SessionSeen] = {}
    quarantine: Quarantine | None = None
    token_floor: int = 0


def check_record(record: Record, observed: Observed) -> None:
    """Assert what holds of every record that is written over what was `observed`."""
    before = observed.record
    assert record.version == (before.version if before else 0) + 1, "a write bumps the version by one"
    assert 1 <= record.token <= TOKEN_MAX, "a record exists from its first token on"
    assert before is None or before.key == record.key
    highest = before.token if before else 0
    following = max(highest, observed.token_floor) + 1
    assert record.token in (highest, following), "tokens grow one by one, or to the first above the floor"
    assert record.semantics in get_args(Semantics)
    assert record.lock_delay_us >= 0
    assert record.max_holders is None or record.max_holders >= 1
    tokens = [tenure.token for tenure in record.tenures]
    assert tokens == sorted(set(tokens)), "tenures are in the order of their tokens, each of its own"
    assert not tokens or (tokens[0] >= 1 and tokens[-1] <= record.token)
    assert record.tenures or record.ended, "a free record tells how it became free"
    assert record.semantics == "at-least-once" or len(record.tenures) <= 1, "exclusive means one"
    known = {tenure.token: tenure.holder for tenure in before.tenures} if before else {}
    for tenure in record.tenures:
        assert tenure.holder, "no tenure without a holder"
        fresh = before is None or tenure.token > before.token
        assert fresh or known.get(tenure.token) == tenure.holder, "a token is one tenure's"
        assert (tenure.session is None) == (tenure.ttl_us > 0), "by ttl or by session, never both"
