"""Safety: whether the server, by what it told its clients, ever broke the promise of an at-most-once lease.

Owns the histories of all leases, as far as they can still matter. Finds two holders at once, a token of two
tenures, and a token that does not grow. It must see every call of every party that asks for these leases, and
one party may have one call at a time for one lease. Pure: it is told the times.

A tenure counts from the reply that granted it, when its holder may begin to act, until the holder's own
deadline: a ttl, less the clocks' error, after the *sending* of the newest request that was granted. It ends
earlier where its holder began to release it, or heard that it is lost. A server that keeps its promise grants
to the next one after that by any timing of the messages, so a false alarm is not possible; one that grants
twice while the first may act is seen at the second grant. A request without a reply prolongs nothing.
"""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from berth.core.holding import lifetime_us

TOLD_MAX = 20
"""How many violations keep their text; all are counted."""


class SessionTime:
    """A session as its holder knows it. The tenures under it live until `until_us`."""

    def __init__(self) -> None:
        self.until_us: float = -inf
        self.closed = False
        self.tenures: list[tuple[_Lease, _Tenure]] = []


class _Tenure:
    """From `closed_us` on its holder acts no more; from `over_us` on the server has said that it is over."""

    def __init__(self, holder: str, token: int, first_us: int, session: SessionTime | None) -> None:
        self.holder = holder
        self.token = token
        self.first_us = first_us
        self.session = session
        self.own_until_us: float = -inf
        self.closed_us = inf
        self.over_us = inf

    @property
    def until_us(self) -> float:
        own_us = self.session.until_us if self.session else self.own_until_us
        return min(own_us, self.closed_us)


class _Floor(NamedTuple):
    """The highest token of the tenures that are forgotten, and when the last of these was told."""

    token: int
    told_us: float


class _Lease:
    def __init__(self, name: str) -> None:
        self.name = name
        self.tenures: dict[int, _Tenure] = {}
        self.floor = _Floor(0, -inf)

    def forget(self) -> None:
        """Only the newest of the tenures that are closed is of use: its token may come again."""
        closed = sorted(token for token, tenure in self.tenures.items() if tenure.closed_us < inf)
        for token in closed[:-1]:
            gone = self.tenures.pop(token)
            self.floor = _Floor(max(self.floor.token, token), max(self.floor.told_us, gone.first_us))


class Safety:
    """The check. All instants are microseconds of one clock."""

    def __init__(self) -> None:
        self.grants = 0
        self.tenures = 0
        self.violations = 0
        self.told: list[str] = []
        self._leases: dict[str, _Lease] = {}
        self._reported: set[tuple[str, int, int]] = set()

    def held(
        self,
        lease: str,
        holder: str,
        token: int,
        *,
        sent_us: int,
        received_us: int,
        ttl_seconds: int,
        session: SessionTime | None = None,
    ) -> None:
        """An acquire or a renewal was granted. Under a session it is the session's ttl that counts."""
        self.grants += 1
        known = self._leases.setdefault(lease, _Lease(lease))
        tenure = known.tenures.get(token)
        if tenure is None:
            tenure = self._begun(known, _Tenure(holder, token, received_us, session), sent_us)
        elif tenure.holder != holder or tenure.over_us < sent_us:
            self._violated(
                f"{lease}: token {token} was given to {tenure.holder}, and again to {holder}"
                + (" after that tenure had ended" if tenure.holder == holder else "")
            )
            return
        if session is None:
            tenure.own_until_us = max(tenure.own_until_us, sent_us + lifetime_us(ttl_seconds * 1_000_000))
        self._look_for_two(known, tenure)
        known.forget()

    def releasing(self, lease: str, token: int, *, sent_us: int) -> None:
        """Its holder acts no more, and is about to say so."""
        for tenure in self._tenure(lease, token):
            tenure.closed_us = min(tenure.closed_us, sent_us)

    def over(self, lease: str, token: int, *, received_us: int) -> None:
        """The server has said that the tenure is over: released, or lost."""
        for tenure in self._tenure(lease, token):
            tenure.closed_us = min(tenure.closed_us, received_us)
            tenure.over_us = min(tenure.over_us, received_us)

    def session_alive(self, session: SessionTime, *, sent_us: int, ttl_seconds: int) -> None:
        """The session was opened or renewed, and with it all that is held under it."""
        if session.closed:
            return
        session.until_us = max(session.until_us, sent_us + lifetime_us(ttl_seconds * 1_000_000))
        session.tenures = [pair for pair in session.tenures if pair[1].closed_us == inf]
        for lease, tenure in session.tenures:
            self._look_for_two(lease, tenure)

    def session_over(self, session: SessionTime, *, at_us: int) -> None:
        """Its holder is about to end it, or has heard that it is lost."""
        session.closed = True
        session.until_us = min(session.until_us, at_us)

    def _tenure(self, lease: str, token: int) -> Iterator[_Tenure]:
        """The one that is meant; none if it is forgotten."""
        known = self._leases.get(lease)
        if known is not None and token in known.tenures:
            yield known.tenures[token]

    def _begun(self, lease: _Lease, tenure: _Tenure, sent_us: int) -> _Tenure:
        """Takes up a new tenure, whose token must be higher than every one told before it was asked for."""
        self.tenures += 1
        earlier = [(old.token, old.first_us) for old in lease.tenures.values()]
        before = [token for token, told_us in [*earlier, lease.floor] if told_us < sent_us]
        highest = max(before, default=0)
        if highest >= tenure.token:
            self._violated(
                f"{lease.name}: token {tenure.token} was given to {tenure.holder} after token {highest}"
            )
        lease.tenures[tenure.token] = tenure
        if tenure.session is not None:
            tenure.session.tenures.append((lease, tenure))
        return tenure

    def _look_for_two(self, lease: _Lease, tenure: _Tenure) -> None:
        for other in lease.tenures.values():
            began_us = max(tenure.first_us, other.first_us)
            both_us = min(tenure.until_us, other.until_us) - began_us
            older, newer = sorted((tenure.token, other.token))
            if other is tenure or both_us <= 0 or (lease.name, older, newer) in self._reported:
                continue
            self._reported.add((lease.name, older, newer))
            one, two = lease.tenures[older], lease.tenures[newer]
            self._violated(
                f"{lease.name}: two holders at once, {one.holder} with token {older} and {two.holder} with "
                f"token {newer}, for up to {both_us / 1_000_000:.6f} s"
            )

    def _violated(self, text: str) -> None:
        self.violations += 1
        if len(self.told) < TOLD_MAX:
            self.told.append(text)
