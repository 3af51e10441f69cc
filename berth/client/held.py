"""Held: what is held, as the work under it sees it.

Owns the one answer to whether the work may act now. Keeps nothing alive and asks nobody: `keeper` does. What
looks at it may be in any thread.
"""

from collections.abc import Callable

import trio

from berth.client.errors import LeaseLost
from berth.core.holding import Holding, Loss, Reading, checked, kill_in_us, remaining_us
from berth.runtime.clock import MICROSECONDS, Clock


def reader_of(clock: Clock) -> Callable[[], Reading]:
    """Reads all clocks of the machine at once."""
    return lambda: Reading(clock.boot_us(), clock.raw_us(), clock.wall_us())


class Deadline:
    """How long the work may act, and whether it still may."""

    def __init__(self, what: str, holding: Holding, now: Callable[[], Reading]) -> None:
        self.what = what
        """What is held, for people."""
        self.holding = holding
        self.news = trio.Event()
        """Set when something was heard from the server; then there is a new one."""
        self.now = now

    @property
    def loss(self) -> Loss | None:
        """Why it was lost, as far as somebody has noticed."""
        return self.holding.loss

    @property
    def lost(self) -> Loss | None:
        """Why the work must stop, by the clocks as they are now; None while it need not."""
        holding = checked(self.holding, self.now())
        if holding.loss is not None:
            self.holding = holding
        return holding.loss

    def remaining(self) -> float:
        """Seconds until the work must begin to stop if nothing is heard from the server; at least 0."""
        return max(0.0, remaining_us(self.holding, self.now()) / MICROSECONDS)

    def over_in(self) -> float:
        """Seconds until nothing of the work may be left, if nothing is heard from the server; at least 0."""
        return max(0.0, kill_in_us(self.holding, self.now()) / MICROSECONDS)

    def check(self) -> None:
        """Return if the work may act now. To be called before each effect. Raises LeaseLost."""
        loss = self.lost
        if loss is not None:
            raise LeaseLost(self.what, loss)

    def heard(self, holding: Holding) -> None:
        """Take up what a reply made of it, and wake who watches."""
        self.holding = holding
        self.news.set()
        self.news = trio.Event()


class Held(Deadline):
    """A lease that is held. `holder` is as the server knows it, the instance included."""

    def __init__(
        self, namespace: str, name: str, holder: str, holding: Holding, now: Callable[[], Reading]
    ) -> None:
        super().__init__(f"{namespace}/{name}", holding, now)
        self.namespace = namespace
        self.name = name
        self.holder = holder

    @property
    def token(self) -> int:
        """The fencing token: it goes with every write to the target."""
        return self.holding.token
