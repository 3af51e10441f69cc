"""The rules of lease safety, judged on one step of the world: what was, what was asked, what came of it.

They are written from what holders were promised, not from how the core reckons: a tenure by ttl may be acted
on until the last instant promised, a tenure under a session until somebody has written the session's end.
"""

from berth.core.records import Record, Session, Tenure
from berth.core.requests import (
    Acquire,
    Acquired,
    EndFirst,
    Expire,
    ForceRelease,
    NotAcquired,
    Outcome,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    Request,
)
from berth.core.sessions import EndSession, RenewSession, SessionAlive, SessionOutcome, SessionRequest
from tests.core.world import World


def tenures(record: Record | None) -> dict[int, Tenure]:
    return {tenure.token: tenure for tenure in record.tenures} if record else {}


def last_instant(session: Session) -> int:
    assert session.mark is not None
    return session.mark + session.ttl_us


def may_act(world: World, tenure: Tenure) -> bool:
    """Whether the holder may act, or may yet be told by a renewal that it may."""
    if tenure.session is None:
        return world.now <= world.promised_until(tenure.token)
    session = world.session(tenure.session)
    return session is not None and session.ended is None


def is_live(world: World, tenure: Tenure) -> bool:
    """Whether the tenure is its holder's beyond doubt, so that nothing may be refused to it."""
    session = world.session(tenure.session)
    return may_act(world, tenure) and (session is None or world.now <= last_instant(session))


def is_closed(world: World, tenure: Tenure) -> bool:
    """Whether a lock delay still keeps others out after the tenure expired."""
    assert world.record is not None
    delay = world.record.lock_delay_us
    if tenure.session is None:
        return world.now <= world.promised_until(tenure.token) + delay
    session = world.session(tenure.session)
    if session is None or session.ended in ("clean", "forced"):
        return False
    return world.now <= last_instant(session) + delay


def check_step(before: World, request: Request, outcome: Outcome, after: World) -> None:
    """All rules, for a step that read, decided and wrote with nobody between."""
    check_write(before, request, outcome, after)
    _check_terms(before, request, outcome)
    _check_served(before, request, outcome)


def check_write(before: World, request: Request, outcome: Outcome, after: World) -> None:
    """The rules that hold of a write on top of `before`, whenever it was decided."""
    was, now = tenures(before.record), tenures(after.record)
    fresh, gone = now.keys() - was.keys(), was.keys() - now.keys()
    _check_record(before.record, after.record)
    if fresh:
        assert len(fresh) == 1, "one request makes one tenure"
        assert isinstance(request, Acquire), "only an acquire makes a tenure"
        assert isinstance(outcome, Acquired), "a tenure is made for a caller that is told so"
        _check_grant(before, request, now[fresh.pop()])
    for token in gone:
        assert _given_up(was[token], request) or not may_act(before, was[token]), "a live tenure was ended"
    for token in now.keys() & was.keys():
        kept, old = now[token], was[token]
        assert (kept.holder, kept.session) == (old.holder, old.session), "a tenure changed hands"
        assert kept.session or _expires(kept) >= _expires(old), "an expiry moved back"
    if isinstance(outcome, Acquired | Renewed):
        _check_told(before, request, outcome, after)


def _check_record(before: Record | None, after: Record | None) -> None:
    if before is None:
        return
    assert after is not None, "a record is never deleted"
    assert after.token >= before.token, "the highest token was forgotten"
    assert after.version - before.version == (after != before), "each write is one version"


def _expires(tenure: Tenure) -> int:
    assert tenure.mark is not None
    return tenure.mark + tenure.ttl_us


def _check_grant(before: World, request: Acquire, tenure: Tenure) -> None:
    record = before.record
    assert tenure.token == (record.token if record else 0) + 1, "a token was used again or left out"
    assert tenure.holder == request.holder
    standing = [old for old in tenures(record).values() if may_act(before, old) or is_closed(before, old)]
    assert len(standing) < _places(record, request), "granted while others may act or the lease is closed"


def _places(record: Record | None, request: Acquire) -> float:
    if request.semantics == "at-most-once" or (record and record.semantics == "at-most-once"):
        return 1
    return float("inf") if request.max_holders is None else request.max_holders


def _given_up(tenure: Tenure, request: Request) -> bool:
    if isinstance(request, Release):
        return (tenure.holder, tenure.token) == (request.holder, request.token)
    return isinstance(request, ForceRelease) and request.token == tenure.token


def _check_told(before: World, request: Request, outcome: Acquired | Renewed, after: World) -> None:
    assert isinstance(request, Acquire | Renew)
    assert before.record != after.record, "told that it holds, without a write"
    mine = tenures(after.record)[(outcome.view if isinstance(outcome, Acquired) else outcome).token]
    assert mine.holder == request.holder, "told of another's tenure"
    assert mine.session or _expires(mine) >= after.promised_until(mine.token), "promised more than is stored"
    if isinstance(request, Renew):
        assert mine.token == request.token, "renewed under another token"


def _check_terms(before: World, request: Request, outcome: Outcome) -> None:
    """What is granted is granted in time: before the expiry, and under a session that lives."""
    if isinstance(request, Renew) and isinstance(outcome, Renewed):
        assert is_live(before, tenures(before.record)[request.token]), "renewed after the expiry"
    if isinstance(request, Acquire) and isinstance(outcome, Acquired) and request.session is not None:
        session = before.session(request.session)
        assert session is not None
        assert session.ended is None, "granted under an ended session"
        assert before.now <= last_instant(session), "granted under an expired session"


def _check_served(before: World, request: Request, outcome: Outcome) -> None:
    """Nothing is refused without a reason: the other half of every rule."""
    all_before = tenures(before.record).values()
    match request, outcome:
        case Renew(holder, token), Renewed():
            assert any((old.holder, old.token) == (holder, token) for old in all_before)
        case Renew(holder, token), _:
            for old in all_before:
                refused = (old.holder, old.token) == (holder, token) and is_live(before, old)
                assert not refused or old.session, "a live holder's renewal was refused"
        case Release(holder, token), Refused():
            mine = [(old.holder, old.token) for old in all_before]
            assert mine, "a release of a free lease was refused"
            assert (holder, token) not in mine, "a release by its holder was refused"
        case Release(), _:
            assert isinstance(outcome, Released)
        case Acquire(), NotAcquired(reason="waiters"):
            assert request.keep_only, "one who may take was told to wait"
        case Acquire(), NotAcquired():
            standing = [old for old in all_before if is_live(before, old) or is_closed(before, old)]
            assert len(standing) >= _places(before.record, request), "a free lease was refused"
        case Acquire() | Expire(), EndFirst(sessions):
            for session_id in sessions:
                session = before.session(session_id)
                assert session is not None
                assert session.ended is None, "an ended session is to be ended"
                assert before.now > last_instant(session), "a live session is to be ended"
        case _:
            pass


def check_session_step(
    before: World, session_id: str, request: SessionRequest, outcome: SessionOutcome, after: World
) -> None:
    """A session is kept by its renewals until it expires, and ends once."""
    session, now = before.session(session_id), after.session(session_id)
    alive = session is not None and session.ended is None and before.now <= last_instant(session)
    match request:
        case RenewSession():
            assert isinstance(outcome, SessionAlive) == alive, "renewed when over, or refused when alive"
            assert not alive or (now and now.mark == after.now), "told that it is renewed, without a mark"
        case EndSession("expired"):
            assert isinstance(outcome, SessionAlive) == alive, "a live session expired"
        case EndSession():
            assert not isinstance(outcome, SessionAlive), "a session outlived its end"
        case _:
            assert isinstance(outcome, SessionAlive)
    assert session is None or session.ended is None or now == session, "an ended session changed"
