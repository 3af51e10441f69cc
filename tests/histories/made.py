"""Made histories: what `decide` answers over a compare-and-swap store, at instants that a seed draws.

Right by construction, and as concurrent as one likes: requests are judged, written and answered at instants
of their own, replies are lost, and what was lost is done late, or never. The model has to accept them all.
"""

import heapq
from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import Observed, Record, Session, SessionSeen
from berth.core.requests import (
    Acquire,
    Acquired,
    EndFirst,
    Forced,
    ForceRelease,
    Lost,
    NotAcquired,
    Outcome,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    Request,
)
from berth.core.sessions import (
    EndSession,
    OpenSession,
    RenewSession,
    SessionAlive,
    SessionOutcome,
    SessionRequest,
    decide_session,
)
from berth.core.standing import live_views
from tests.histories.direct import Stored
from tests.histories.operations import Kind, Operation, Told

KEY = Key("n", "a")
SECOND_US = 1_000_000
TTLS_US = (SECOND_US, 2 * SECOND_US)

Answer = Callable[[Told, int], None]


class Made:
    """One run: some clients, of which two share a name, on one lease; each with or without sessions."""

    def __init__(
        self,
        seed: int,
        *,
        operations: int,
        clients: int = 4,
        lossy: float = 0.0,
        sessions: bool = False,
    ) -> None:
        self.history: list[Operation] = []
        self._rng = Random(seed)
        self._left = operations
        self._lossy = lossy
        self._with_sessions = sessions
        self._record: Record | None = None
        self._sessions: dict[str, Session] = {}
        self._mine: dict[str, str] = {}
        """The session that each holder has opened last."""

        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._serial = 0
        for number in range(clients):
            self._later(0, lambda now_us, number=number: self._next(number, 0, now_us))
        while self._events:
            at_us, _, event = heapq.heappop(self._events)
            event(at_us)

    @property
    def stored(self) -> Stored:
        """The lease as it is in the end."""
        if self._record is None:
            return Stored(0)
        return Stored(self._record.token, self._record.tenures[0].holder if self._record.tenures else "")

    def _later(self, now_us: int, event: Callable[[int], None], within_us: int = 30_000) -> None:
        self._serial += 1
        heapq.heappush(self._events, (now_us + self._rng.randint(1, within_us), self._serial, event))

    def _next(self, number: int, life: int, now_us: int) -> None:
        if self._left <= 0:
            return
        self._left -= 1
        asked = self._asked(f"{number}.{life}", f"h{max(1, number)}", now_us)
        if asked.kind not in ("get", "open") and self._rng.random() < self._lossy:
            self.history.append(asked)
            if self._rng.random() < 0.5:
                late_us = 3 * SECOND_US if self._rng.random() < 0.3 else 30_000
                self._later(now_us, lambda at_us: self._judge(asked, _nobody_hears, at_us), late_us)
            self._later(now_us, lambda at_us: self._next(number, life + 1, at_us))
            return

        def answer(told: Told, at_us: int) -> None:
            self.history.append(replace(asked, returned_us=at_us, told=told))
            if asked.kind == "open":
                self._mine[asked.holder] = asked.session
            pause_us = 2 * SECOND_US if self._rng.random() < 0.1 else 50_000
            self._later(at_us, lambda later_us: self._next(number, life, later_us), pause_us)

        self._later(now_us, lambda at_us: self._judge(asked, answer, at_us))

    def _asked(self, client: str, holder: str, now_us: int) -> Operation:
        """Mostly what makes sense, and now and then what does not."""
        rng, record = self._rng, self._record
        if self._with_sessions and rng.random() < 0.3:
            return self._asked_of_session(client, holder, now_us)
        mine = [one.token for one in record.tenures if one.holder == holder] if record else []
        if mine and rng.random() < 0.8:
            kind: Kind = rng.choice(("renew", "renew", "renew", "acquire", "get", "release"))
        else:
            kind = rng.choice(("acquire", "acquire", "get", "renew", "release", "force"))
        highest = record.token if record else 0
        token = mine[0] if mine and rng.random() < 0.9 else max(1, highest - rng.randint(-1, 2))
        under = self._mine.get(holder, "") if kind == "acquire" and rng.random() < 0.6 else ""
        ttl_us = rng.choice(TTLS_US) if kind in ("acquire", "renew") and not under else 0
        return Operation(
            client,
            kind,
            str(KEY),
            now_us,
            holder="" if kind in ("get", "force") else holder,
            token=token if kind in ("renew", "release", "force") else 0,
            ttl_us=ttl_us,
            session=under,
        )

    def _asked_of_session(self, client: str, holder: str, now_us: int) -> Operation:
        session = self._mine.get(holder)
        kind: Kind = self._rng.choice(("open", "end", "keep", "keep", "keep", "keep"))
        if session is None or kind == "open":
            kind, session = "open", f"s{self._serial}"
        ttl_us = 2 * SECOND_US if kind != "end" else 0
        return Operation(client, kind, "", now_us, holder=holder, ttl_us=ttl_us, session=session)

    def _judge(self, asked: Operation, answer: Answer, now_us: int) -> None:
        if not asked.key:
            self._judge_session(asked, answer, now_us)
            return
        record = self._record
        idle_us = tuple(max(0, now_us - (one.mark or 0)) for one in record.tenures) if record else ()
        observed = Observed(
            KEY, now_us, record, idle_us, {each: self._seen(each, now_us) for each in self._sessions}
        )
        if asked.kind == "get":
            told = seen(observed)
            self._later(now_us, lambda at_us: answer(told, at_us))
            return
        decision = decide(observed, request(asked))
        write, outcome = decision.write, decision.outcome
        if isinstance(outcome, EndFirst):
            self._end_first(outcome, asked, answer, now_us)
        elif write is None:
            self._later(now_us, lambda at_us: answer(told_of(outcome), at_us))
        else:
            self._later(now_us, lambda at_us: self._write(asked, write, told_of(outcome), answer, at_us))

    def _judge_session(self, asked: Operation, answer: Answer, now_us: int) -> None:
        known = self._sessions.get(asked.session)
        base = self._seen(asked.session, now_us) if known is not None else None
        decision = decide_session(base, now_us, session_request(asked))
        told = Told("ended") if asked.kind == "end" else told_of_session(decision.outcome)
        write = decision.write
        if write is None:
            self._later(now_us, lambda at_us: answer(told, at_us))
        else:
            self._write_session(
                write,
                now_us,
                lambda at_us: answer(told, at_us),
                lambda at_us: self._judge(asked, answer, at_us),
            )

    def _end_first(self, first: EndFirst, asked: Operation, answer: Answer, now_us: int) -> None:
        """End the sessions that are in the way, then judge anew."""
        (session,) = first.sessions

        def again(at_us: int) -> None:
            self._judge(asked, answer, at_us)

        write = decide_session(self._seen(session, now_us), now_us, EndSession("expired")).write
        if write is None:
            self._later(now_us, again)
        else:
            self._write_session(write, now_us, again, again)

    def _seen(self, session: str, now_us: int) -> SessionSeen:
        known = self._sessions[session]
        return SessionSeen(known, max(0, now_us - (known.mark or 0)))

    def _write(self, asked: Operation, write: Record, told: Told, answer: Answer, now_us: int) -> None:
        """The write arrives at one instant, by which it is marked, and counts from a later one."""
        marked = tuple(one if one.mark is not None else replace(one, mark=now_us) for one in write.tenures)

        def commit(at_us: int) -> None:
            if write.version != (self._record.version if self._record else 0) + 1:
                self._judge(asked, answer, at_us)
                return
            self._record = replace(write, tenures=marked)
            self._later(at_us, lambda later_us: answer(told, later_us))

        self._later(now_us, commit)

    def _write_session(
        self, write: Session, now_us: int, won: Callable[[int], None], lost: Callable[[int], None]
    ) -> None:
        def arrive(arrived_us: int) -> None:
            marked = write if write.mark is not None else replace(write, mark=arrived_us)

            def commit(at_us: int) -> None:
                before = self._sessions.get(write.id)
                if write.version != (before.version if before else 0) + 1:
                    lost(at_us)
                    return
                self._sessions[write.id] = marked
                self._later(at_us, won)

            self._later(arrived_us, commit)

        self._later(now_us, arrive)


def _nobody_hears(told: Told, at_us: int) -> None:
    """The reply of what was lost."""


def request(asked: Operation) -> Request:
    match asked.kind:
        case "acquire":
            return Acquire(asked.holder, asked.ttl_us, asked.session or None)
        case "renew":
            return Renew(asked.holder, asked.token, asked.ttl_us)
        case "release":
            return Release(asked.holder, asked.token)
        case _:
            return ForceRelease(asked.token)


def session_request(asked: Operation) -> SessionRequest:
    match asked.kind:
        case "open":
            return OpenSession(asked.session, asked.holder, "", asked.ttl_us)
        case "keep":
            return RenewSession()
        case _:
            return EndSession("clean")


def told_of(outcome: Outcome) -> Told:
    """As the wire tells it."""
    match outcome:
        case Acquired(view=view, clean_handover=clean):
            return Told("granted", view.token, view.holder, clean)
        case NotAcquired(standing=standing):
            assert standing.newest is not None
            return Told("held", standing.token, standing.newest.holder)
        case Renewed(token=token, holder=holder):
            return Told("renewed", token, holder)
        case Lost(standing=standing):
            return Told("lost", standing.token, standing.newest.holder if standing.newest else "")
        case Released():
            return Told("released")
        case Forced(view=view):
            return Told("forced", view.token, view.holder)
        case Refused(reason="not_found"):
            return Told("never")
        case Refused(
            reason="not_holder" | "stale_token" | "session_ended" | "held_by_session" | "held_by_ttl" as word
        ):
            return Told(word)
        case _:
            raise AssertionError(outcome)


def told_of_session(outcome: SessionOutcome) -> Told:
    return Told("alive" if isinstance(outcome, SessionAlive) else "over")


def seen(observed: Observed) -> Told:
    if observed.record is None:
        return Told("never")
    views = live_views(observed)
    token = observed.record.token
    return Told("held", token, views[-1].holder) if views else Told("free", token)
