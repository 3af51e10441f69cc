"""Session: what keeps many tenures alive at once, as its holder knows it.

Owns from when its time counts, and what is wrong with it. The deadline of every tenure under it counts from
the sending of the newest renewal that was granted; whether a single tenure has passed its own is not decided
here.
"""

import trio
from msgspec import Struct

from berth.client.tenures.terms import Terms
from berth.core.holding import Holding, Reading, lifetime_us, remaining_us
from berth.runtime.clock import MICROSECONDS


class Session:
    """One that the server has granted. Once `over` it stays so."""

    def __init__(self, session_id: str, holder: str, ttl_seconds: int, sent: Reading) -> None:
        self.id = session_id
        self.holder = holder
        self.ttl_seconds = ttl_seconds
        self.ttl_us = ttl_seconds * MICROSECONDS
        self.sent = sent
        self.over = False
        """The server says so."""
        self.trouble = ""
        self.heartbeat_seconds = ttl_seconds / 3
        self.strictest_us: int | None = None
        """No budget of an exclusive tenure under it is larger; None: there is none."""
        self.gone = trio.Event()
        """Set when it is not renewed any more, for whatever reason."""
        self.hurry = trio.Event()
        """Set when it is to be renewed at once; then there is a new one."""

    def budget_us(self, terms: Terms, before_us: int | None = None) -> int:
        """The time kept for stopping under it. Terms for another ttl may ask for more than this one has room
        for: then it is what was kept before or, where that is not known, half of the ttl."""
        if terms.ttl_seconds == self.ttl_seconds:
            return terms.budget_us
        return min(terms.budget_us, self.ttl_us // 2 if before_us is None else before_us)

    def left_us(self, budget_us: int, now: Reading) -> int:
        """How long one may still act under it who needs so much time for stopping."""
        return remaining_us(Holding(0, self.ttl_us, budget_us, self.sent), now)

    def leaves_time(self, budget_us: int, now: Reading) -> bool:
        """Whether it is worth while to start something: half of the time there can be is left."""
        fresh_us = lifetime_us(self.ttl_us) - budget_us
        return not self.over and self.left_us(budget_us, now) > max(0, fresh_us // 2)

    def renewed(self, sent: Reading) -> None:
        if sent.boot_us > self.sent.boot_us:
            self.sent = sent

    def renew_now(self) -> None:
        self.hurry.set()
        self.hurry = trio.Event()


class Group:
    """Leases that are wanted by one holder for one ttl, and the session under which they are asked for."""

    def __init__(self, holder: str, ttl_seconds: int) -> None:
        self.holder = holder
        self.ttl_seconds = ttl_seconds
        self.session: Session | None = None
        self.trouble = ""
        """Why there is no session."""
        self.wanted = trio.Event()
        """Set when something is wanted; then there is a new one."""

    @property
    def what_is_wrong(self) -> str:
        return self.trouble or (self.session.trouble if self.session else "")

    def want(self) -> None:
        self.wanted.set()
        self.wanted = trio.Event()


class Tenure(Struct):
    """One that was granted here or, without a session, that a process before has recorded: then it counts
    from `since`, for a short while."""

    token: int
    session: Session | None
    exclusive: bool
    since: Reading
    acquired_at: str = ""
    clean_handover: bool | None = None
    budget_us: int | None = None
    """What was kept for stopping when the ttl of its session was last wanted; None: that is not known."""
