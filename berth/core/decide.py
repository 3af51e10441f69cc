"""Decide: what a request makes of a lease. The heart, and the specification of everything around it.

Total, deterministic and pure: the same reading and the same request give the same decision, on every store,
in the server, in the model of the tests and in the checker of histories.

What it promises, whatever the timing: a token is given to one tenure only and grows with each; a caller is
told that it holds the lease only together with a write made for that very request; an exclusive lease gets
no second tenure while one lives. What it does not: it cannot stop a paused holder from acting late.
"""

from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

from berth.core.records import HOLDERS_MAX, TOKEN_MAX, Ended, Observed, Record, Tenure, check_record
from berth.core.requests import (
    Acquire,
    Acquired,
    Decision,
    EndFirst,
    Expire,
    Expired,
    Forced,
    ForceRelease,
    Lost,
    NotAcquired,
    NotExpired,
    Refusal,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
    Request,
)
from berth.core.standing import Life, lives, lives_on_us, opens_in_us, standing, view


def decide(observed: Observed, request: Request) -> Decision:
    """What to write over `observed`, and what to answer once that write has won."""
    match request:
        case Acquire():
            decision = _acquire(observed, request)
        case Renew():
            return decide_renewal(observed, request)
        case Release():
            decision = _release(observed, request)
        case Expire():
            decision = _expire(observed)
        case ForceRelease():
            decision = _force_release(observed, request)
        case _:
            assert_never(request)
    if decision.write is not None:
        check_record(decision.write, observed)
    return decision


def _acquire(observed: Observed, request: Acquire) -> Decision:
    assert (request.session is None) == (request.ttl_us > 0), "by ttl or by session"
    quarantine = observed.quarantine
    if quarantine is not None and quarantine.kind == "loss":
        return Decision(None, Refused("quarantine", quarantine.left_us))
    refusal = _session_refusal(observed, request)
    if refusal is not None:
        return Decision(None, Refused(refusal))
    judged = lives(observed)
    live = [life for life in judged if life.state == "live"]
    if observed.record and live and observed.record.semantics != request.semantics:
        return Decision(None, Refused("semantics_mismatch"))
    for life in live:
        if _same_holder(observed, life.tenure, request):
            return _keep(observed, request, judged, life)
    return _take(observed, request, judged)


def _session_refusal(observed: Observed, request: Acquire) -> Refusal | None:
    if request.session is None:
        return None
    seen = observed.sessions.get(request.session)
    if seen is None or seen.session.ended is not None or seen.idle_us > seen.session.ttl_us:
        return "session_ended"
    return None if seen.session.holder == request.holder else "session_holder_mismatch"


def _same_holder(observed: Observed, tenure: Tenure, request: Acquire) -> bool:
    """Whether the live `tenure` is the caller's. Another instance of a holder is another holder."""
    if tenure.holder != request.holder:
        return False
    if tenure.session is None or request.session is None or tenure.session == request.session:
        return True
    theirs = observed.sessions[tenure.session].session
    ours = observed.sessions[request.session].session
    return theirs.instance == ours.instance


def _keep(observed: Observed, request: Acquire, judged: tuple[Life, ...], mine: Life) -> Decision:
    """The live holder asks again: the tenure and its token stay, the terms are the newest."""
    if mine.tenure.session != request.session:
        by_ttl = mine.tenure.session is None
        return Decision(None, Refused("held_by_ttl" if by_ttl else "held_by_session"))
    assert observed.record is not None
    kept = mine if mine.tenure.session is not None else _renewed(mine, request.ttl_us, observed.at_us)
    judged = tuple(kept if life is mine else life for life in judged)
    write = replace(
        observed.record,
        version=observed.record.version + 1,
        tenures=tuple(life.tenure for life in judged),
        max_holders=request.max_holders,
        lock_delay_us=request.lock_delay_us,
    )
    return Decision(write, _acquired(write, judged, kept, taken=False))


def _take(observed: Observed, request: Acquire, judged: tuple[Life, ...]) -> Decision:
    record = observed.record
    in_the_way = [life for life in judged if life.state != "over"]
    capacity = _capacity(record, request)
    if len(in_the_way) >= capacity:
        return Decision(None, _closed(observed, judged, in_the_way, capacity))
    if request.keep_only:
        return Decision(None, NotAcquired("waiters", standing(record, judged)))
    token = max((record.token if record else 0) + 1, observed.token_floor + 1)
    if token > TOKEN_MAX:
        return Decision(None, Refused("token_exhausted"))
    tenure = Tenure(request.holder, token, observed.at_us, request.ttl_us, request.session)
    taken = _new_life(observed, tenure)
    write = Record(
        observed.key,
        (record.version if record else 0) + 1,
        token,
        (*(life.tenure for life in in_the_way), tenure),
        request.semantics,
        request.max_holders,
        request.lock_delay_us,
        _last_ended(record, [life for life in judged if life.state == "over"]),
    )
    return Decision(write, _acquired(write, (*in_the_way, taken), taken, taken=True))


def _capacity(record: Record | None, request: Acquire) -> int:
    """How many tenures may stand at once. Semantics change only when none does."""
    shared = request.semantics == "at-least-once"
    if shared and (record is None or record.semantics == request.semantics):
        return min(request.max_holders or HOLDERS_MAX, HOLDERS_MAX)
    return 1


def _closed(
    observed: Observed, judged: tuple[Life, ...], in_the_way: list[Life], capacity: int
) -> NotAcquired | EndFirst:
    """Why nobody can follow now. Sessions in doubt are ended only when nothing else is in the way."""
    told = standing(observed.record, judged)
    sure = [life for life in in_the_way if life.state != "doubtful"]
    if sum(life.state == "live" for life in sure) >= capacity:
        return NotAcquired("held", told, due_in_us=_first_to_go_us(sure))
    opens_us = opens_in_us(sure, capacity)
    if opens_us is not None:
        reason = "lock_delay" if observed.quarantine is None else "quarantine"
        return NotAcquired(reason, told, opens_us, _first_to_go_us(sure))
    return EndFirst(_doubtful_sessions(in_the_way))


def decide_renewal(observed: Observed, request: Renew) -> Decision:
    """As `decide`, for what is by far the most asked: it looks at nothing but the tenure itself."""
    record = observed.record
    tenures = record.tenures if record is not None else ()
    for at, tenure in enumerate(tenures):
        holder, token = tenure.holder, tenure.token
        if token != request.token or holder != request.holder:
            continue
        left_us = lives_on_us(observed, at)
        if left_us < 0:
            break
        if tenure.session is not None:
            return Decision(None, Refused("held_by_session"))
        assert record is not None
        # Its expiry never moves back: the reply that shortens it may be lost.
        ttl_us = request.ttl_us if request.ttl_us > left_us else left_us
        acquired_at_us = tenure.acquired_at_us
        kept = Tenure(holder, token, acquired_at_us, ttl_us)
        write = Record(
            record.key,
            record.version + 1,
            record.token,
            (kept,) if len(tenures) == 1 else (*tenures[:at], kept, *tenures[at + 1 :]),
            record.semantics,
            record.max_holders,
            record.lock_delay_us,
            record.ended,
        )
        told = Renewed(holder, token, acquired_at_us, observed.at_us + ttl_us, ttl_us)
        return Decision(write, told)
    return Decision(None, Lost(standing(record, lives(observed))))


def _release(observed: Observed, request: Release) -> Decision:
    record = observed.record
    if record is None or not record.tenures or request.version not in (None, record.version):
        return Decision(None, Released())
    judged = lives(observed)
    for life in judged:
        if (life.tenure.holder, life.tenure.token) == (request.holder, request.token):
            return Decision(_without(observed, judged, [life], clean=True), Released())
    # Among many holders a tenure that is no longer there has ended: a repeated release says so again.
    shared = record.semantics == "at-least-once"
    tokens = [tenure.token for tenure in record.tenures]
    if shared and 0 < request.token <= record.token and request.token not in tokens:
        return Decision(None, Released())
    return Decision(None, Refused("not_holder"))


def _expire(observed: Observed) -> Decision:
    judged = lives(observed)
    over = [life for life in judged if life.state == "over"]
    if over:
        return Decision(_without(observed, judged, over), Expired(tuple(view(life) for life in over)))
    doubtful = _doubtful_sessions(judged)
    if doubtful:
        return Decision(None, EndFirst(doubtful))
    return Decision(None, NotExpired(_first_to_go_us(judged) if judged else None))


def _force_release(observed: Observed, request: ForceRelease) -> Decision:
    if observed.record is None:
        return Decision(None, Refused("not_found"))
    judged = lives(observed)
    for life in judged:
        if life.tenure.token == request.token:
            if life.tenure.session is not None and life.state == "live":
                # Its holder would go on renewing the session, and never hear of it.
                return Decision(None, Refused("held_by_session"))
            told = view(life)
            return Decision(_without(observed, judged, [life], clean=False), Forced(told, told.remaining_us))
    return Decision(None, Refused("stale_token"))


def _first_to_go_us(judged: Sequence[Life]) -> int:
    """When the first of these is over by itself. The boundary instant itself still lives."""
    return min(life.left_us for life in judged) + 1


def _renewed(life: Life, ttl_us: int, at_us: int) -> Life:
    """The tenure renewed. Its expiry never moves back: the reply that shortens it may be lost."""
    longest_us = max(ttl_us, life.left_us)
    tenure = replace(life.tenure, ttl_us=longest_us, mark=None)
    return Life(tenure, "live", longest_us, "expired", at_us + longest_us)


def _new_life(observed: Observed, tenure: Tenure) -> Life:
    if tenure.session is None:
        return Life(tenure, "live", tenure.ttl_us, "expired", observed.at_us + tenure.ttl_us)
    seen = observed.sessions[tenure.session]
    left_us = seen.session.ttl_us - seen.idle_us
    return Life(tenure, "live", left_us, "expired", observed.at_us + left_us)


def _acquired(write: Record, judged: tuple[Life, ...], mine: Life, *, taken: bool) -> Acquired:
    clean = write.ended.clean if write.ended else True
    holders = tuple(view(life) for life in judged if life.state == "live")
    return Acquired(view(mine), clean, write.semantics, holders, taken, write.version)


def _without(
    observed: Observed, judged: tuple[Life, ...], gone: list[Life], clean: bool | None = None
) -> Record:
    """The record without `gone`, which end now (`clean` told) or have ended by themselves (None)."""
    assert observed.record is not None
    if clean is None:
        ended = _last_ended(observed.record, gone)
    else:
        ended = Ended(gone[-1].tenure.acquired_at_us, observed.at_us, clean)
    return replace(
        observed.record,
        version=observed.record.version + 1,
        tenures=tuple(life.tenure for life in judged if life not in gone),
        ended=ended,
    )


def _last_ended(record: Record | None, over: list[Life]) -> Ended | None:
    if over:
        last = over[-1]
        return Ended(last.tenure.acquired_at_us, last.expires_at_us, last.end == "clean")
    return record.ended if record else None


def _doubtful_sessions(judged: Sequence[Life]) -> tuple[str, ...]:
    sessions = (life.tenure.session for life in judged if life.state == "doubtful")
    return tuple(sorted({session for session in sessions if session is not None}))
