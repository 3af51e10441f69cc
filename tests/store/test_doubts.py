"""Doubts: steps of a database's clock, a database that is another one, and what is told of leases then."""

from io import StringIO

import pytest
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import TOKEN_MAX, Observed, Quarantine, Record, Session
from berth.core.requests import Acquire, Acquired, NotAcquired, Refused, Release, Released, Renew, Renewed
from berth.runtime.clock import ManualClock
from berth.runtime.log import Logs
from berth.store.doubts import STEP_US, ClockWatch, Doubts, Head, stretched_us
from berth.store.marks import Instant, marked, marked_session, reading
from tests.store.samples import KEY, SECOND, held

NEW = Key("default", "new")
TTL = 30


class Database:
    """A database as one process sees it: its clock, its incarnation, a lease and its session."""

    def __init__(self) -> None:
        self.clock = ManualClock(boot_us=5_000_000)
        self.log = StringIO()
        self.ahead_us = 86_400 * SECOND
        self.incarnation = self.issued = 0
        self.changed_at_us: int | None = None
        self.restart()
        self.write(held())

    def restart(self) -> None:
        """Another process, which knows nothing yet."""
        self.doubts = Doubts(self.clock, Logs(stream=self.log).logger("test"))

    @property
    def now_us(self) -> int:
        return self.clock.boot_us() + self.ahead_us

    def write(self, record: Record, *sessions: Session) -> None:
        self.record = marked(record, self.now_us)
        self.sessions = [marked_session(each, self.now_us) for each in sessions]

    def step(self, seconds: float) -> None:
        self.ahead_us += round(seconds * SECOND)

    def become_another(self) -> None:
        self.incarnation += 1
        self.changed_at_us = self.now_us

    def read(self) -> dict[Key, Observed]:
        sent_us = self.doubts.boot_us()
        self.clock.advance(0.002)
        now_us = self.now_us
        self.clock.advance(0.003)
        self.doubts.note(sent_us, Head(now_us, self.incarnation, self.changed_at_us, 60 * SECOND))
        ids = [each.id for each in self.sessions]
        instant = Instant(now_us, now_us)
        plain = reading(instant, [KEY, NEW], {KEY: self.record}, ids, lambda _: self.sessions)
        return dict(self.doubts.judged(plain, {KEY: self.issued}).leases)

    def lease(self) -> Observed:
        return self.read()[KEY]


@pytest.fixture
def database() -> Database:
    return Database()


def test_a_steady_clock_is_never_doubted(database: Database):
    for seconds in (0, 0.001, 1, 3_600, 86_400, 0.01):
        database.clock.advance(seconds)
        database.step(seconds * 0.0009)  # as fast as a clock may run
        assert database.lease().quarantine is None
    assert database.log.getvalue() == ""


@pytest.mark.parametrize("seconds", [0.6, 31, 86_400])
def test_what_expired_by_a_step_alone_is_not_taken_over(database: Database, seconds: float):
    database.read()
    database.step(seconds)
    observed = database.lease()
    assert observed.quarantine == Quarantine("clock", stretched_us(TTL * SECOND))
    assert "stepped" in database.log.getvalue()
    if seconds > TTL:
        outcome = decide(observed, Acquire("other", SECOND)).outcome
        assert isinstance(outcome, NotAcquired)
        assert outcome.reason == "quarantine"


def test_the_quarantine_lasts_as_long_as_the_lease_s_own_ttl(database: Database):
    database.read()
    database.step(1_000)
    database.read()
    database.clock.advance(TTL)
    outcome = decide(database.lease(), Acquire("other", SECOND)).outcome
    assert isinstance(outcome, NotAcquired)
    database.clock.advance(0.1)
    assert isinstance(decide(database.lease(), Acquire("other", SECOND)).outcome, Acquired)


def test_what_was_never_held_is_granted_in_between(database: Database):
    database.read()
    database.step(1_000)
    assert isinstance(decide(database.read()[NEW], Acquire("other", SECOND)).outcome, Acquired)


def test_who_renewed_since_renews_on(database: Database):
    database.read()
    database.step(1_000)
    database.read()
    database.write(held())
    assert isinstance(decide(database.lease(), Renew("edge-1", 1, SECOND)).outcome, Renewed)


def test_a_session_is_not_ended_by_a_step(database: Database):
    session = Session("s-1", 1, "edge-1", "", 60 * SECOND, 1)
    database.write(held(session="s-1"), session)
    database.read()
    database.step(1_000)
    seen = database.lease().sessions["s-1"]
    assert seen.idle_us == 60 * SECOND
    assert isinstance(decide(database.lease(), Acquire("other", SECOND)).outcome, NotAcquired)
    database.clock.advance(61)
    assert database.lease().sessions["s-1"].idle_us > 1_000 * SECOND


def test_a_step_back_only_lets_leases_live(database: Database):
    database.read()
    database.step(-1_000)
    observed = database.lease()
    assert (observed.quarantine, observed.idle_us) == (None, (0,))
    assert "stepped" in database.log.getvalue()


def test_small_steps_add_up():
    watch = ClockWatch()
    stepped = [watch.step_us(at, at + at // 1_000_000 * 200_000, at) for at in range(0, 5_000_000, 1_000_000)]
    assert [bool(each) for each in stepped] == [False, False, False, True, False]
    assert stepped[3] > STEP_US


def test_a_slow_answer_proves_nothing():
    watch = ClockWatch()
    assert watch.step_us(0, 0, 0) == 0
    assert watch.step_us(0, 4_000_000, 5_000_000) == 0
    assert watch.step_us(5_000_000, 5_000_000, 5_000_000) == 0


# A database that is another one.


def test_nothing_is_granted_while_a_lost_grant_may_hold(database: Database):
    database.read()
    database.become_another()
    leases = database.read()
    for observed in leases.values():
        assert isinstance(decide(observed, Acquire("edge-1", SECOND)).outcome, Refused)
    assert isinstance(decide(leases[KEY], Renew("edge-1", 1, SECOND)).outcome, Renewed)
    assert isinstance(decide(leases[KEY], Release("edge-1", 1)).outcome, Released)
    assert "may be lost" in database.log.getvalue()
    database.clock.advance(60)
    assert database.lease().quarantine is not None
    database.clock.advance(0.2)
    assert database.lease().quarantine is None


def test_a_process_that_begins_later_waits_for_the_rest(database: Database):
    database.become_another()
    database.clock.advance(20)
    database.restart()
    quarantine = database.lease().quarantine
    assert quarantine is not None
    assert 39 * SECOND < quarantine.left_us < 41 * SECOND
    database.clock.advance(60)
    database.restart()
    assert database.lease().quarantine is None


def test_a_step_does_not_shorten_it(database: Database):
    database.become_another()
    database.read()
    database.step(1_000)
    quarantine = database.lease().quarantine
    assert quarantine is not None
    assert quarantine.kind == "loss"


def test_tokens_jump_once_for_each_change(database: Database):
    database.become_another()
    database.become_another()
    database.clock.advance(100)
    leases = database.read()
    taken = decide(leases[KEY], Acquire("other", SECOND)).outcome
    fresh = decide(leases[NEW], Acquire("other", SECOND)).outcome
    assert isinstance(taken, Acquired)
    assert isinstance(fresh, Acquired)
    assert (taken.view.token, fresh.view.token) == (2_001, 2_001)
    database.issued = 1
    taken = decide(database.lease(), Acquire("other", SECOND)).outcome
    assert isinstance(taken, Acquired)
    assert taken.view.token == 1_001
    database.issued = 2
    assert database.lease().token_floor == 0


def test_a_jump_does_not_go_beyond_the_last_token(database: Database):
    database.write(held(token=TOKEN_MAX - 10))
    database.become_another()
    database.clock.advance(100)
    assert decide(database.lease(), Acquire("other", SECOND)).outcome == Refused("token_exhausted")
    database.write(replace(held(token=TOKEN_MAX - 10), version=2))
    assert isinstance(decide(database.lease(), Renew("edge-1", TOKEN_MAX - 10, SECOND)).outcome, Renewed)
