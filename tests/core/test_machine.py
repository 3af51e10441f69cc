"""Random histories: `core` and the naive model give the same answers, and no rule of safety breaks."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from berth.core.ownership import ended_by_now, ownership
from berth.core.requests import (
    Acquire,
    Acquired,
    EndFirst,
    Expire,
    ForceRelease,
    Outcome,
    Release,
    Renew,
    Request,
)
from berth.core.sessions import EndSession, OpenSession, RenewSession, SessionAlive, SessionRequest
from tests.core.model import Model
from tests.core.rules import check_session_step, check_step, is_live
from tests.core.world import Core, World, observe, session_step, step, told

HOLDERS = st.sampled_from(["a", "b", "c"])
TTLS = st.sampled_from([2, 3, 7])
IDENTITIES = {"a1": ("a", "1"), "a1-again": ("a", "1"), "a2": ("a", "2"), "b1": ("b", "1")}
SESSIONS = st.sampled_from(sorted(IDENTITIES))
SEMANTICS = st.sampled_from(["at-most-once", "at-least-once"])
MAX_HOLDERS = st.sampled_from([None, 1, 2])
LOCK_DELAYS = st.sampled_from([0, 0, 3])
BACK = st.integers(min_value=-1, max_value=2)


class LeaseMachine(RuleBasedStateMachine):
    """One lease, three holders, sessions of three instances. Half of the runs are exclusive throughout."""

    decides = Core()

    def __init__(self):
        super().__init__()
        self.world = World()
        self.model = Model()
        self.asked: list[Request] = []
        self.granted: dict[int, str] = {}
        self.newest: dict[str, str] = {}
        self.owners: dict[int, str] = {}
        """Who holds the lease, as the changes of ownership tell it."""

    @initialize(exclusive=st.booleans(), ttl=TTLS)
    def begin(self, exclusive: bool, ttl: int):
        self.exclusive = exclusive
        for session in IDENTITIES:
            self._open(session, ttl)

    @rule(ticks=st.sampled_from([1, 1, 2, 20]))
    def time_passes(self, ticks: int):
        self._tick(ticks)

    @rule(beyond=st.sampled_from([0, 1]))
    def time_passes_to_a_boundary(self, beyond: int):
        """To the last instant at which something lives, or one beyond."""
        ends = [self.model.ends(held) for held in self.model.held.values()]
        ends += [end + self.model.lock_delay for end in ends]
        self._tick(min((end - self.model.now for end in ends if end >= self.model.now), default=0) + beyond)

    def _tick(self, ticks: int):
        self.world = self.world._replace(now=self.world.now + ticks)
        self.model.now += ticks

    @rule(
        holder=HOLDERS,
        ttl=TTLS,
        semantics=SEMANTICS,
        max_holders=MAX_HOLDERS,
        lock_delay=LOCK_DELAYS,
        keep_only=st.sampled_from([False, False, True]),
    )
    def acquire(self, holder, ttl, semantics, max_holders, lock_delay, keep_only):
        terms = (self._semantics(semantics), max_holders, lock_delay, keep_only)
        self._ask(Acquire(holder, ttl, None, *terms))

    @rule(
        holder=HOLDERS, session=SESSIONS, semantics=SEMANTICS, max_holders=MAX_HOLDERS, lock_delay=LOCK_DELAYS
    )
    def acquire_under_session(self, holder, session, semantics, max_holders, lock_delay):
        holder = IDENTITIES[session][0] if holder != "c" else holder
        terms = (self._semantics(semantics), max_holders, lock_delay)
        self._ask(Acquire(holder, 0, self.newest[session], *terms))

    def _semantics(self, drawn):
        return "at-most-once" if self.exclusive else drawn

    @rule(holder=HOLDERS, back=BACK, ttl=TTLS)
    def renew(self, holder: str, back: int, ttl: int):
        self._ask(Renew(holder, self.model.token - back, ttl))

    @rule(back=BACK, ttl=TTLS)
    def renew_by_its_holder(self, back: int, ttl: int):
        token = self.model.token - back
        self._ask(Renew(self.granted.get(token, "a"), token, ttl))

    @rule(holder=HOLDERS, back=BACK)
    def release(self, holder: str, back: int):
        self._ask(Release(holder, self.model.token - back))

    @rule(back=BACK)
    def release_by_its_holder(self, back: int):
        token = self.model.token - back
        self._ask(Release(self.granted.get(token, "a"), token))

    @rule(back=BACK)
    def force_release(self, back: int):
        self._ask(ForceRelease(self.model.token - back))

    @precondition(lambda self: self.asked)
    @rule(index=st.integers(min_value=0, max_value=1000))
    def repeat_an_old_request(self, index: int):
        self._ask(self.asked[index % len(self.asked)])

    @rule()
    def expire(self):
        self._ask(Expire())

    @rule(session=SESSIONS, ttl=TTLS)
    def open_session_anew(self, session: str, ttl: int):
        """Under a new id, once the one before has ended."""
        if not self.model.is_alive(self.newest[session]):
            self._open(session, ttl)

    def _open(self, session: str, ttl: int):
        session_id = f"{session}.{len(self.model.sessions)}"
        self.newest[session] = session_id
        self._ask_session(session_id, OpenSession(session_id, *IDENTITIES[session], ttl))

    @rule(session=SESSIONS)
    def renew_session(self, session: str):
        self._ask_session(self.newest[session], RenewSession())

    @rule(session=SESSIONS, how=st.sampled_from(["clean", "expired", "forced"]))
    def end_session(self, session: str, how):
        self._ask_session(self.newest[session], EndSession(how))

    @invariant()
    def each_tenure_is_known_and_one_is_alone(self):
        tenures = self.world.record.tenures if self.world.record else ()
        live = [tenure.token for tenure in tenures if is_live(self.world, tenure)]
        assert live == self.model.tokens("live")
        assert not self.exclusive or len(live) <= 1
        assert all(self.granted[tenure.token] == tenure.holder for tenure in tenures)

    @invariant()
    def the_changes_of_ownership_tell_who_holds(self):
        ended = {change.token: change.kind for change in ended_by_now(observe(self.world), ())}
        assert [token for token in self.owners if token not in ended] == self.model.tokens("live")
        assert "acquired" not in ended.values()

    def _note_ownership(self, before: World, outcome: Outcome):
        was = observe(before)
        now = was if self.world.record is before.record else observe(self.world)
        for change in ownership(was, outcome, now):
            if change.kind == "acquired":
                assert change.token > max(self.owners, default=0)
                self.owners[change.token] = change.holder
            else:
                assert self.owners.pop(change.token) == change.holder

    def _ask(self, request: Request):
        self.asked.append(request)
        expected, outcome = self.model.ask(request), self._step(request)
        assert told(outcome) == expected
        if isinstance(request, Acquire) and isinstance(outcome, Acquired):
            assert self.granted.setdefault(outcome.view.token, request.holder) == request.holder

    def _step(self, request: Request) -> Outcome:
        """As a server does: sessions in doubt are ended, then the question is asked again."""
        for _ in range(2):
            before = self.world
            self.world, outcome = step(self.decides, before, request)
            check_step(before, request, outcome, self.world)
            self._note_ownership(before, outcome)
            if not isinstance(outcome, EndFirst):
                return outcome
            for session in outcome.sessions:
                self._session_step(session, EndSession("expired"))
        raise AssertionError("what was in doubt is ended, and still in doubt")

    def _ask_session(self, session: str, request: SessionRequest):
        expected = self.model.ask_session(session, request)
        assert self._session_step(session, request) == expected

    def _session_step(self, session: str, request: SessionRequest) -> bool:
        before = self.world
        self.world, outcome = session_step(self.decides, before, session, request)
        check_session_step(before, session, request, outcome, self.world)
        return isinstance(outcome, SessionAlive)


TestLease = LeaseMachine.TestCase
TestLease.settings = settings(
    max_examples=300, stateful_step_count=40, derandomize=True, database=None, deadline=None
)
