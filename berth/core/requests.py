"""Requests and outcomes: what may be asked of a lease, and everything that may come of it.

Both are closed unions. A refusal is a value like any other; only a broken invariant is an exception.
Durations are integer microseconds.
"""

from typing import Literal

from msgspec import Struct

from berth.core.records import Record, Semantics


class Acquire(Struct, frozen=True, gc=False):
    """Take the lease or, as its live holder, keep it. Exactly one of `ttl_us` and `session` is given.

    `keep_only` takes nothing new: others were there first, or the caller may hold no more.
    """

    holder: str
    ttl_us: int = 0
    session: str | None = None
    semantics: Semantics = "at-most-once"
    max_holders: int | None = None
    lock_delay_us: int = 0
    keep_only: bool = False


class Renew(Struct, frozen=True, gc=False):
    """Prove to be alive, as this holder under this token."""

    holder: str
    token: int
    ttl_us: int


class Release(Struct, frozen=True, gc=False):
    """Give the lease up, as this holder under this token.

    With a `version` only if the record still has it: nobody has been told of the tenure since that write.
    """

    holder: str
    token: int
    version: int | None = None


class Expire(Struct, frozen=True, gc=False):
    """Write down what time has already ended, so that the record says so itself."""


class ForceRelease(Struct, frozen=True, gc=False):
    """End the tenure under this token at once, though its holder may still act."""

    token: int


Request = Acquire | Renew | Release | Expire | ForceRelease


class View(Struct, frozen=True, gc=False):
    """A tenure as it is told to people. `remaining_us` is 0 when it has ended."""

    holder: str
    token: int
    acquired_at_us: int
    expires_at_us: int
    remaining_us: int
    session: str | None = None


class Standing(Struct, frozen=True, gc=False):
    """A lease as it stands: the newest tenure, live or not, or what is left of the last one.

    `newest` is None for a record without tenures and for one that never was; then `ended_at_us` and
    `acquired_at_us` are the last tenure's, or 0.
    """

    token: int = 0
    newest: View | None = None
    acquired_at_us: int = 0
    ended_at_us: int = 0


class Acquired(Struct, frozen=True, gc=False):
    """The caller holds the lease now. `clean_handover`: the tenure before ended by its holder's own act.

    `taken`: by this request; otherwise the caller has held it before. `version` is the record's, as written
    for this request and for nobody after it; else 0.
    """

    view: View
    clean_handover: bool
    semantics: Semantics
    holders: tuple[View, ...]
    taken: bool
    version: int = 0


class NotAcquired(Struct, frozen=True, gc=False):
    """The caller does not hold the lease. `available_after_us` is known for a lock delay or a quarantine.

    `waiters`: it could be taken, but not by one who keeps only. `due_in_us`: when the first of what is in
    the way goes by itself, unless it is renewed.
    """

    reason: Literal["held", "lock_delay", "quarantine", "waiters"]
    standing: Standing
    available_after_us: int | None = None
    due_in_us: int | None = None


class Renewed(View, frozen=True, gc=False):
    """The tenure as it lives on."""


class Lost(Struct, frozen=True, gc=False):
    """The renewal came too late, or its holder or token is not the lease's."""

    standing: Standing


class Released(Struct, frozen=True, gc=False):
    """The caller does not hold the lease, by its own act or because it did not before."""


class Forced(Struct, frozen=True, gc=False):
    """The tenure has ended here; its holder may act on it for as long as `may_act_us`."""

    view: View
    may_act_us: int


class Expired(Struct, frozen=True, gc=False):
    """These tenures are now written down as ended."""

    views: tuple[View, ...]


class NotExpired(Struct, frozen=True, gc=False):
    """Nothing to write down. `due_in_us`: when to look again; None when there is nothing to wait for."""

    due_in_us: int | None


class EndFirst(Struct, frozen=True, gc=False):
    """Not decided yet: end these sessions, which look expired, then ask again after a fresh read."""

    sessions: tuple[str, ...]


Refusal = Literal[
    "held_by_session",
    "held_by_ttl",
    "not_found",
    "not_holder",
    "quarantine",
    "semantics_mismatch",
    "session_ended",
    "session_holder_mismatch",
    "stale_token",
    "token_exhausted",
]


class Refused(Struct, frozen=True, gc=False):
    """The request cannot be granted as it stands, and why. `retry_after_us` where waiting helps."""

    reason: Refusal
    retry_after_us: int | None = None


Outcome = (
    Acquired | NotAcquired | Renewed | Lost | Released | Forced | Expired | NotExpired | EndFirst | Refused
)


class Decision(Struct, frozen=True, gc=False):
    """What to write (None: nothing), and what to answer once that write has won."""

    write: Record | None
    outcome: Outcome
