"""The state of the model: what is known of a lease and of the sessions it may be under.

Owns the intervals: when something ends by itself lies between two instants, and all that follows says which
of them it goes by. Clocks of one machine run at one rate; `RATE_PPM` and `JITTER_US` are what is granted to
them nevertheless.
"""

from math import inf
from typing import NamedTuple

from tests.histories.operations import Operation, Told, Word

RATE_PPM = 1_000
JITTER_US = 2_000


def latest(asked: Operation, until_us: float) -> float:
    """Where its return is known, what is remembered of it does not depend on what was put after it: so there
    are fewer states.
    """
    return until_us if asked.returned_us is None else asked.returned_us


class Life(NamedTuple):
    """When a tenure or a session ends by itself. The last write of it was made after `since_us`.

    `over` is how a session has ended, which was by `over_by_us`.
    """

    ends_after_us: float = -inf
    ends_before_us: float = -inf
    since_us: float = -inf
    over: str = ""
    over_by_us: float = -inf

    def renewed(self, asked: Operation, until_us: float) -> "Life":
        """After the invocation and after the write before, and never to an earlier end.

        Where more than the ttl is left, that is what it is renewed for: as much as was left when it was
        judged, from when it was written.
        """
        since_us = max(asked.invoked_us, self.since_us)
        by_us = latest(asked, until_us)
        slack_us = asked.ttl_us * RATE_PPM // 1_000_000 + JITTER_US
        return Life(
            max(self.ends_after_us, since_us + asked.ttl_us - slack_us),
            max(self.ends_before_us + by_us - asked.invoked_us, by_us + asked.ttl_us + slack_us),
            since_us,
        )

    def alive_at(self, asked: Operation) -> "Life":
        """Somebody was told that it lives: so it did when that was asked."""
        return self._replace(ends_after_us=max(self.ends_after_us, asked.invoked_us - JITTER_US))

    def over_at(self, asked: Operation, until_us: float) -> "Life":
        by_us = latest(asked, until_us) + JITTER_US
        return self._replace(ends_before_us=min(self.ends_before_us, by_us))

    def ended(self, how: str, asked: Operation, until_us: float) -> "Life":
        return self if self.over else self._replace(over=how, over_by_us=latest(asked, until_us))

    def may_be_over(self, until_us: float) -> bool:
        return bool(self.over) or until_us > self.ends_after_us

    def may_live(self, asked: Operation) -> bool:
        """One that has ended may have been seen alive by what was asked before."""
        by_us = min(self.ends_before_us, self.over_by_us) if self.over else self.ends_before_us
        return asked.invoked_us <= by_us


class Lease(NamedTuple):
    """The lease, its newest tenure, and every session heard of.

    No holder: it is known to be free. `clean`: the last tenure that ended did so by its holder. `untold`:
    granted to one who may have gone. `own` is the life of a tenure by ttl.
    """

    token: int = 0
    holder: str = ""
    session: str = ""
    own: Life = Life()
    clean: bool = True
    untold: bool = False
    sessions: tuple[tuple[str, Life], ...] = ()

    @property
    def life(self) -> Life:
        return self.of(self.session) if self.session else self.own

    @property
    def held_by(self) -> Word:
        return "held_by_session" if self.session else "held_by_ttl"

    def of(self, session: str) -> Life:
        """A session that was never opened is over."""
        return next((life for name, life in self.sessions if name == session), Life(over="never"))

    def put(self, session: str, life: Life) -> "Lease":
        return self._replace(sessions=tuple(sorted({**dict(self.sessions), session: life}.items())))

    def with_life(self, life: Life) -> "Lease":
        return self.put(self.session, life) if self.session else self._replace(own=life)

    def may_be_over(self, until_us: float) -> bool:
        return bool(self.holder) and self.life.may_be_over(until_us)

    def ends(self, *, clean: bool, since_us: float = -inf) -> "Lease":
        """The lease free."""
        own = Life(since_us=max(since_us, self.own.since_us))
        return Lease(self.token, own=own, clean=clean, sessions=self.sessions)

    def written_off(self) -> "Lease":
        """The end that its tenure had by itself, written down."""
        return self.ends(clean=self.life.over == "clean" and bool(self.session))

    def is_of(self, asked: Operation) -> bool:
        return (self.holder, self.token) == (asked.holder, asked.token)

    def stands(self, told: Told) -> bool:
        return (self.holder, self.token) == (told.holder, told.token)
