"""Leader election on a record that everybody sees: who leads, who may take over, and what to write.

Owns client-go's record and its rules. Pure. Times within the record are for people and for telling one write
from another; they are never compared with a clock. A leader is taken for dead when its record has not changed
for as long as it says, by the observer's own clock, which only what the observer has itself seen can tell.
A leader's own deadline is `holding`'s.

Stricter than client-go in three ways: a record that names us, but that we have not written, is another's; the
count of transitions never goes back to what was seen before; and the deadline counts from the sending.
"""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

RELEASED_SECONDS = 1
"""What a released record says, as client-go writes it: the API server takes no 0."""

RETRY_FACTOR = 1.2
"""client-go's jitter: a candidate waits one to 2.2 retry periods; the deadline must leave room for one."""


class Timing(Struct, frozen=True):
    """client-go's three: how long a record holds, when its leader gives up renewing, how often it tries."""

    lease_seconds: int = 15
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0


def timing_problem(timing: Timing) -> str | None:
    """Why nobody could lead safely so, or None."""
    if timing.lease_seconds < 1:
        return f"the lease duration must be at least 1 s, got {timing.lease_seconds}"
    if timing.retry_seconds <= 0:
        return f"the retry period must be more than 0 s, got {timing.retry_seconds:g}"
    if timing.renew_deadline_seconds >= timing.lease_seconds:
        return (
            f"the renew deadline ({timing.renew_deadline_seconds:g} s) must be less than the lease duration "
            f"({timing.lease_seconds} s)"
        )
    if timing.renew_deadline_seconds <= timing.retry_seconds * RETRY_FACTOR:
        return (
            f"the renew deadline ({timing.renew_deadline_seconds:g} s) must be more than {RETRY_FACTOR} "
            f"times the retry period ({timing.retry_seconds:g} s)"
        )
    return None


class ElectionRecord(Struct, frozen=True):
    """What the Lease says. An empty holder: nobody. `acquired` and `renewed` are as written, or empty."""

    holder: str = ""
    lease_seconds: int = 0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0


class Seen(Struct, frozen=True):
    """What a candidate has seen: the record (None: there is none), since when so, by its own boot clock.

    `transitions` is the highest count that it has ever seen, -1 for none.
    """

    record: ElectionRecord | None
    since_us: int
    transitions: int


Standing = Literal["free", "held", "expired"]


def seen(before: Seen | None, record: ElectionRecord | None, now_us: int) -> Seen:
    """After a look whose answer was here `now_us`. Only a record that changed starts its time anew."""
    highest = max(record.transitions if record else -1, before.transitions if before else -1)
    if before is not None and before.record == record:
        return replace(before, transitions=highest)
    return Seen(record, now_us, highest)


def left_us(view: Seen, now_us: int) -> int:
    """How long the record still holds, as far as this observer knows; 0 or less: it does not."""
    if view.record is None or not view.record.holder:
        return 0
    # A record that does not say how long it holds is nobody's who still renews it.
    return view.since_us + max(view.record.lease_seconds, 1) * 1_000_000 - now_us


def standing(view: Seen, now_us: int) -> Standing:
    """Whether somebody may lead by this record. The instant at which its time is over counts as over."""
    if view.record is None or not view.record.holder:
        return "free"
    return "held" if left_us(view, now_us) > 0 else "expired"


def claim(view: Seen, holder: str, lease_seconds: int, written: str) -> ElectionRecord:
    """The record by which `holder` begins a tenure; who has seen none begins at 0, as client-go does."""
    return ElectionRecord(holder, lease_seconds, written, written, view.transitions + 1)


def renewal(mine: ElectionRecord, written: str) -> ElectionRecord:
    """The record by which a tenure goes on."""
    return replace(mine, renewed=written)


def release(mine: ElectionRecord, written: str) -> ElectionRecord:
    """The record by which a tenure ends, so that the next may begin at once."""
    return ElectionRecord("", RELEASED_SECONDS, written, written, mine.transitions)


def same_tenure(mine: ElectionRecord, found: ElectionRecord | None) -> bool:
    """Whether what was found is the tenure of this record, whichever of its renewals."""
    return found is not None and (found.holder, found.acquired, found.transitions) == (
        mine.holder,
        mine.acquired,
        mine.transitions,
    )
