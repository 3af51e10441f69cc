"""Entry: one lease that is kept or contended for.

Owns what a reply, a sighting or the clocks make of it, and what may be done with it next. It asks nobody and
wakes nobody. Promises that a tenure which was lost once is never held again before its work has been stopped,
and that nothing is asked for while a release may yet arrive.
"""

from collections.abc import Iterable

from msgspec import UNSET

from berth.client.tenures.session import Group, Session, Tenure
from berth.client.tenures.terms import Held, LeaseId, Loss, Lost, Standby, Standing, Terms, Unasked
from berth.core.holding import Holding, Reading, checked, remaining_us
from berth.wire.shapes import AcquireReply, HolderObject, LeaseObject

NOT_NOW = ("lock_delay", "quarantine", "waiters")
"""Reasons that are no refusal to one of many holders: it may be asked again."""

OURS_IN_THE_WAY = ("held_by_session", "semantics_mismatch")
"""Reasons that may come from what the server has of ours, where other terms are asked for by now."""


class Entry:
    """The state of one lease."""

    def __init__(self, lease: LeaseId, terms: Terms, group: Group) -> None:
        self.lease = lease
        self.terms = terms
        self.group = group
        self.wanted = False
        self.resting = False
        """It was released, and is not asked for before it is wanted again."""
        self.tenure: Tenure | None = None
        self.loss: Loss | None = None
        """Why the tenure is over; then it is kept here until its work has been stopped."""
        self.spare: Tenure | None = None
        """What the server has granted, as far as is known, and nothing runs under. Without a session it is
        not held before the server says so."""
        self.ending: set[int] = set()
        """Tokens of tenures that are to be given up, and of which the server has not said that they are."""
        self.other: Standby | None = None
        self.trouble = ""
        self.by_ttl = False
        """What a process before has recorded stands by a ttl; it is to be changed over to the session."""
        self.asking = False
        self.asked_at = -1.0
        """When it was last asked for, by Trio's clock; negative: never."""
        self.news = False
        """Something was heard of it while it was being asked for."""
        self.told: tuple[object, ...] = _gist(Unasked())

    @property
    def to_be_asked(self) -> bool:
        """Whether an acquire may be sent, to take it or to see that it is held."""
        open_ = self.wanted and not self.resting and self.loss is None
        return open_ and not self.ending and not self.asking

    @property
    def exclusive(self) -> bool:
        """As what it is asked for: what is held is kept as it is."""
        return self.terms.exclusive if self.tenure is None else self.tenure.exclusive

    @property
    def is_unconfirmed(self) -> bool:
        """Whether it is held only by what a process before has recorded."""
        return self.loss is None and self.tenure is not None and self.tenure.session is None

    @property
    def in_place_of(self) -> int | None:
        """The token of the tenure that is given up for the one that is asked for."""
        return self.tenure.token if self.by_ttl and self.is_unconfirmed and self.tenure is not None else None

    @property
    def goes_on(self) -> bool:
        """Whether what runs goes on when its session is over: it is acquired anew."""
        return self.wanted and self.tenure is not None and not self.tenure.exclusive

    @property
    def idle(self) -> bool:
        """Whether there is nothing to remember of it."""
        return not (self.wanted or self.tenure or self.spare or self.ending or self.asking)

    def hangs_on(self, session: Session) -> bool:
        """Whether something of ours would end with the session."""
        if self.spare is not None and self.spare.session is session:
            return True
        return self.tenure is not None and self.tenure.session is session

    def change(self, terms: Terms, group: Group) -> None:
        """Other terms are wanted."""
        session = self.tenure.session if self.tenure is not None else None
        if self.tenure is not None and session is not None and session.ttl_seconds == self.terms.ttl_seconds:
            self.tenure.budget_us = self.terms.budget_us
        self.terms, self.group = terms, group

    def holding(self) -> Holding | None:
        """The tenure by the rules of the holder's half of the clock."""
        tenure = self.tenure
        if tenure is None:
            return None
        loss = None if self.loss is None else "refused" if self.loss == "released" else self.loss
        if tenure.session is None:
            return Holding(tenure.token, self.terms.resume_us, 0, tenure.since, tenure.exclusive, loss)
        session = tenure.session
        budget_us = session.budget_us(self.terms, tenure.budget_us)
        return Holding(tenure.token, session.ttl_us, budget_us, session.sent, tenure.exclusive, loss)

    def look(self, now: Reading) -> bool:
        """Let the clocks say whether the deadline has passed; whether it is lost just now."""
        holding = self.holding()
        if self.loss is not None or holding is None or checked(holding, now).loss is None:
            return False
        self.loss = "deadline"
        return True

    def left_us(self, now: Reading) -> int | None:
        """How long it may still be acted upon; None where there is no deadline."""
        holding = self.holding()
        if holding is None:
            return None
        if self.loss is not None:
            return 0
        return max(0, remaining_us(holding, now)) if holding.deadline else None

    @property
    def standing(self) -> Standing:
        tenure, trouble = self.tenure, self.trouble or self.group.what_is_wrong
        if tenure is None:
            other = self.other
            return Unasked(trouble) if other is None else Standby(other.holder, other.reason, trouble)
        if self.loss is not None:
            return Lost(tenure.token, self.loss)
        session = tenure.session
        if session is None:
            return Unasked(trouble)
        if session.over:
            trouble = trouble or "the session is over, and it is to be acquired anew"
        else:
            trouble = session.trouble
        return Held(
            tenure.token,
            tenure.acquired_at,
            session.ttl_seconds,
            tenure.exclusive,
            tenure.clean_handover,
            trouble,
        )

    def is_news(self) -> bool:
        """Whether the standing is another one than was told last; from then on it is told."""
        gist = _gist(self.standing)
        news = gist != self.told
        self.told = gist
        return news

    def granted(
        self, reply: AcquireReply, session: Session, terms: Terms, in_place_of: int | None, now: Reading
    ) -> bool:
        """Take up that the server granted it under the session; whether that is to be renewed before it
        counts, because too little time is left."""
        self.look(now)
        self.trouble, self.other = "", None
        token, tenure = reply.fencing_token, self.tenure
        if session.over or token in self.ending:
            return False
        if tenure is None and (not self.wanted or self.resting):
            self.ending.add(token)
            return False
        clean = None if reply.clean_handover is UNSET else reply.clean_handover
        new = Tenure(token, session, terms.exclusive, session.sent, reply.acquired_at, clean)
        same = tenure is not None and tenure.token in (token, in_place_of)
        if tenure is not None and tenure.exclusive and not same and self.loss is None:
            self.loss = "refused"
        if self.loss is not None:
            self.spare = None if tenure is not None and tenure.token == token else new
            return False
        if tenure is not None and same and tenure.session is session:
            return False
        self.spare = new
        return not self.claim(now)

    def claim(self, now: Reading) -> bool:
        """Hold what was granted, if that leaves time enough to start something."""
        spare = self.spare
        if spare is None or spare.session is None or spare.token in self.ending:
            return False
        if self.loss is not None or not self.wanted or self.resting:
            return False
        budget_us = spare.session.budget_us(self.terms, spare.budget_us)
        if spare.exclusive and not spare.session.leaves_time(budget_us, now):
            return False
        self.tenure, self.spare = spare, None
        return True

    def denied(self, holder: str, reason: str) -> None:
        """Take up that the server does not grant it."""
        self.trouble, tenure = "", self.tenure
        if tenure is None and self.spare is not None and reason in OURS_IN_THE_WAY:
            self._give_up_spare()
            return
        self.spare = None
        if tenure is None:
            self.other = Standby(holder, reason)
        elif self.loss is None and (tenure.exclusive or reason not in NOT_NOW):
            self.loss = "refused"

    def over(self, session: Session) -> None:
        """Take up that the session is over, and all under it."""
        if self.spare is not None and self.spare.session is session:
            self.spare = None
        under = self.tenure is not None and self.tenure.session is session
        if under and self.loss is None and not self.goes_on:
            self.loss = "refused"

    def ended(self, tokens: Iterable[int]) -> None:
        """Take up that the tenures under these tokens are no more."""
        self.ending.difference_update(tokens)
        if self.spare is not None and self.spare.token in tokens:
            self.spare = None
        if self.tenure is not None and self.tenure.token in tokens:
            self.tenure, self.loss, self.other = None, None, None
        if self.resting or not self.wanted:
            self._give_up_spare()

    def stopped(self) -> None:
        """What ran under a tenure that was lost has been stopped; the server may have it as ours still."""
        if self.tenure is not None and self.loss is not None:
            session = self.tenure.session
            if self.spare is None and (session is None or not session.over):
                self.spare = self.tenure
            self.tenure, self.loss, self.other = None, None, None
        self.resting = False
        if not self.wanted:
            self.leave()

    def leave(self) -> None:
        """It is not wanted any more. What is held, or was lost, stays with the server as it is for as long as
        something may run under it: nobody else is to begin meanwhile."""
        self.wanted = False
        if self.tenure is None:
            self.other, self.trouble = None, ""
            self._give_up_spare()

    def _give_up_spare(self) -> None:
        if self.tenure is None and self.spare is not None:
            self.ending.add(self.spare.token)
            self.spare = None

    def sighted(
        self,
        seen: LeaseObject,
        ours: HolderObject | None,
        session: Session | None,
        asked_under: Session | None,
    ) -> bool:
        """Take up how the lease stood at some time past; whether to ask now.

        `ours` is the tenure of this holder, and `session` what it is under, where that is one of ours.
        """
        tenure = self.tenure
        if tenure is None and ours is not None:
            if session is None or self.asked_at < 0:
                return False
            # A request that came late has taken it, and nothing runs under that tenure.
            if not self.wanted or self.resting or session is not asked_under:
                self.ending.add(ours.fencing_token)
                return True
            if self.spare is None or ours.fencing_token > self.spare.token:
                self.spare = Tenure(ours.fencing_token, None, seen.semantics == "at-most-once", session.sent)
            return not self.asking
        if tenure is None:
            return self._sighted_unheld(seen)
        if ours is not None and ours.fencing_token == tenure.token:
            return False
        if self.loss is None and tenure.session is not None:
            if not tenure.exclusive:
                return True
            if seen.fencing_token < tenure.token:
                return False  # that was before the tenure began
            self.loss = "refused"
        newest = tenure.token if self.spare is None else self.spare.token
        if self.loss is not None and ours is not None and session is not None and ours.fencing_token > newest:
            exclusive = seen.semantics == "at-most-once"
            self.spare = Tenure(ours.fencing_token, session, exclusive, session.sent, ours.acquired_at)
        return False

    def _sighted_unheld(self, seen: LeaseObject) -> bool:
        if self.spare is not None and seen.fencing_token >= self.spare.token:
            self.spare = None
        if not self.wanted or self.resting:
            return False
        if seen.state == "free" or self._has_room(seen):
            return True
        if self.other is None or self.other.holder != seen.holder:
            self.other = Standby(seen.holder, "held")
        return False

    def _has_room(self, seen: LeaseObject) -> bool:
        if self.terms.exclusive or seen.semantics == "at-most-once":
            return False
        return seen.max_holders is UNSET or len(seen.holders) < seen.max_holders


def _gist(standing: Standing) -> tuple[object, ...]:
    """What of a standing is worth telling when it changes."""
    match standing:
        case Unasked(trouble):
            return ("unasked", bool(trouble))
        case Held(token=token, trouble=trouble):
            return ("held", token, bool(trouble))
        case Standby(holder, _, trouble):
            return ("standby", holder, bool(trouble))
        case Lost(token, loss):
            return ("lost", token, loss)
