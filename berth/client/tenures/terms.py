"""Terms: what is wanted of a lease, and where it stands.

Owns the words that pass between `Tenures` and who uses it. A standing is a value: what was true when it was
asked for.
"""

from typing import Literal, NamedTuple

from msgspec import Struct

from berth.core import holding
from berth.core.holding import stop_budget_us
from berth.runtime.clock import MICROSECONDS
from berth.wire.shapes import Semantics

RESUME_SECONDS = 5.0
"""For so long what a process before has left running may run on before it is known to be held still."""


class LeaseId(NamedTuple):
    """A lease, and as whom it is wanted."""

    namespace: str
    name: str
    holder: str


class Terms(Struct, frozen=True):
    """What is wanted of one lease."""

    ttl_seconds: int
    heartbeat_seconds: float
    """How often it is to be renewed at least; a third of the ttl where that is less."""
    semantics: Semantics
    lock_delay_seconds: int
    budget_us: int
    """The time kept for stopping: a deadline comes that long before the tenure's end."""

    @property
    def exclusive(self) -> bool:
        return self.semantics == "at-most-once"

    @property
    def resume_us(self) -> int:
        """How long a recorded token counts without a word of the server."""
        return min(round(RESUME_SECONDS * MICROSECONDS), stop_budget_us(self.ttl_seconds * MICROSECONDS))


Loss = holding.Loss | Literal["released"]
"""Why a tenure is over: the server says so, its deadline has passed, or it was given up here and nobody knows
whether the server has heard of it."""


class Unasked(Struct, frozen=True):
    """Nothing is known yet, or nothing is wanted. `trouble`: why the server cannot be asked."""

    trouble: str = ""


class Held(Struct, frozen=True):
    """It is held here. `ttl_seconds` and `exclusive` (at-most-once) are what is in effect, whatever is wanted
    by now.

    `clean_handover`: whether the tenure before this one ended cleanly; None where the server does not say.
    `trouble`: why it may not be kept much longer or, where it is at-least-once, why it is not known to be.
    """

    token: int
    acquired_at: str
    ttl_seconds: int
    exclusive: bool
    clean_handover: bool | None
    trouble: str = ""


class Standby(Struct, frozen=True):
    """It cannot be had now. `holder`: whose it is, if anybody's; `reason` is the server's word for it."""

    holder: str
    reason: str
    trouble: str = ""


class Lost(Struct, frozen=True):
    """It was held here under `token`, and may not be acted upon any more. It stays so until it is released,
    or asked for again."""

    token: int
    loss: Loss


Standing = Unasked | Held | Standby | Lost
