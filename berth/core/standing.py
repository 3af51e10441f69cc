"""Standing: which tenures of a lease live, by what the store saw, and how that is told.

Owns the one judgement about time: a tenure lives up to and including the instant at which its idle time
equals its ttl, and not beyond. Promises nothing about who may take what: that is `decide`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from berth.core.records import Observed, Record, SessionEnd, SessionSeen, Tenure
from berth.core.requests import Standing, View

State = Literal["live", "closed", "doubtful", "over"]


class Life(NamedTuple):
    """A tenure and what has become of it.

    live: its holder may act. closed: it has ended, and nobody may follow for `left_us` (lock delay, or
    quarantine). doubtful: its session looks expired and must be ended before anybody follows. over: it has
    ended. `end` tells how it ends, or would.
    """

    tenure: Tenure
    state: State
    left_us: int
    end: SessionEnd
    expires_at_us: int


def lives(observed: Observed) -> tuple[Life, ...]:
    """The lease's tenures in the order of their tokens, each judged."""
    record = observed.record
    if record is None:
        return ()
    assert len(observed.idle_us) == len(record.tenures), "one idle time per tenure"
    return tuple(
        _quarantined(_life(tenure, idle_us, record.lock_delay_us, observed), observed)
        for tenure, idle_us in zip(record.tenures, observed.idle_us, strict=True)
    )


def lives_on_us(observed: Observed, at: int) -> int:
    """How long the tenure at this place lives on; negative when it has ended. As `lives`, for one."""
    record = observed.record
    assert record is not None
    tenure, idle_us = record.tenures[at], observed.idle_us[at]
    if tenure.session is None:
        return tenure.ttl_us - idle_us
    life = _life(tenure, idle_us, record.lock_delay_us, observed)
    return life.left_us if life.state == "live" else -1


def _life(tenure: Tenure, idle_us: int, lock_delay_us: int, observed: Observed) -> Life:
    if tenure.session is not None:
        return _life_by_session(tenure, lock_delay_us, observed.sessions, observed.at_us)
    left_us = tenure.ttl_us - idle_us
    state = _timed(left_us, lock_delay_us, "over")
    return Life(tenure, state, _until(state, left_us, lock_delay_us), "expired", observed.at_us + left_us)


def _life_by_session(
    tenure: Tenure, lock_delay_us: int, sessions: Mapping[str, SessionSeen], at_us: int
) -> Life:
    seen = sessions.get(tenure.session or "")
    if seen is None:
        return Life(tenure, "over", 0, "expired", at_us)
    session = seen.session
    ended_at_us = session.ended_at_us if session.ended_at_us is not None else at_us
    if session.ended in ("clean", "forced"):
        return Life(tenure, "over", 0, session.ended, ended_at_us)
    left_us = session.ttl_us - seen.idle_us
    if session.ended == "expired":
        # It has expired, though this reading may know of less idle time than the one that ended it. That time
        # goes on counting, so the lock delay is measured from the expiry.
        left_us = min(left_us, -1)
        state = _timed(left_us, lock_delay_us, "over")
        return Life(tenure, state, _until(state, left_us, lock_delay_us), "expired", ended_at_us)
    state = _timed(left_us, lock_delay_us, "doubtful")
    return Life(tenure, state, _until(state, left_us, lock_delay_us), "expired", at_us + left_us)


def _timed(left_us: int, lock_delay_us: int, after: State) -> State:
    if left_us >= 0:
        return "live"
    return "closed" if left_us + lock_delay_us >= 0 else after


def _until(state: State, left_us: int, lock_delay_us: int) -> int:
    if state == "live":
        return left_us
    return left_us + lock_delay_us if state == "closed" else 0


def _quarantined(life: Life, observed: Observed) -> Life:
    """While time is in doubt, what has only expired stays closed. What was given up, or ended, does not."""
    if observed.quarantine is None or life.state == "live" or life.end != "expired":
        return life
    return life._replace(state="closed", left_us=max(life.left_us, observed.quarantine.left_us))


def view(life: Life) -> View:
    tenure = life.tenure
    remaining_us = life.left_us if life.state == "live" else 0
    return View(
        tenure.holder, tenure.token, tenure.acquired_at_us, life.expires_at_us, remaining_us, tenure.session
    )


def standing(record: Record | None, judged: tuple[Life, ...]) -> Standing:
    """The lease as a refused caller is told of it."""
    if record is None:
        return Standing()
    if judged:
        live = [life for life in judged if life.state == "live"]
        return Standing(record.token, view((live or judged)[-1]))
    assert record.ended is not None
    return Standing(record.token, None, record.ended.acquired_at_us, record.ended.ended_at_us)


def live_views(observed: Observed) -> tuple[View, ...]:
    """Those who may act now, oldest token first."""
    return tuple(view(life) for life in lives(observed) if life.state == "live")


def opens_in_us(judged: Sequence[Life], capacity: int) -> int | None:
    """When a place is free among `capacity`, if only ended tenures that are still closed must go for it.

    None when there is a place already, or when it takes more than time.
    """
    taken = sum(life.state != "over" for life in judged)
    waits_us = sorted(life.left_us for life in judged if life.state == "closed")
    must_go = taken - capacity
    return waits_us[must_go] if 0 <= must_go < len(waits_us) else None


def closed_for_us(observed: Observed) -> int | None:
    """How long nobody can take a lease that is not held, or None when it is held or can be taken."""
    judged = lives(observed)
    if observed.record is None or any(life.state == "live" for life in judged):
        return None
    if observed.quarantine is not None and observed.quarantine.kind == "loss":
        return observed.quarantine.left_us
    shared = observed.record.semantics == "at-least-once"
    capacity = observed.record.max_holders if shared else 1
    return None if capacity is None else opens_in_us(judged, capacity)
