"""Ownership: what became of who holds a lease.

Pure. From a lease before and after a request it tells who came and who went, in order. Renewals and refusals
tell nothing, and neither does a holder who keeps what it has.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

from msgspec import Struct

from berth.core.records import Observed, SessionEnd
from berth.core.requests import Acquired, Forced, Outcome, Released
from berth.core.standing import Life, live_views, lives

Kind = Literal["acquired", "released", "expired", "forced"]

_BY_END: dict[SessionEnd, Kind] = {"clean": "released", "expired": "expired", "forced": "forced"}


class Ownership(Struct, frozen=True, gc=False):
    """One change of who holds a lease, and the lease as it stands after it.

    For `acquired`, `before` is the tenure that was the newest until then, as far as the record still has
    it, and `clean` says whether that one ended by its holder's own act.
    """

    kind: Kind
    holder: str
    token: int
    after: Observed
    before_holder: str = ""
    before_token: int = 0
    clean: bool | None = None


def ownership(before: Observed, outcome: Outcome, after: Observed) -> Iterator[Ownership]:
    """What a request that came to `outcome` changed, in the order in which it happened."""
    if after is before:
        return
    assert after.record is not None
    kept = {tenure.token for tenure in after.record.tenures}
    for life in lives(before):
        if life.tenure.token not in kept:
            yield _gone(life, _kind_by(outcome) or _BY_END[life.end], after)
    record = before.record
    if isinstance(outcome, Acquired) and outcome.taken:
        newest = record.tenures[-1].holder if record and record.tenures else ""
        yield Ownership(
            "acquired",
            outcome.view.holder,
            outcome.view.token,
            after,
            newest,
            record.token if record else 0,
            outcome.clean_handover,
        )


def differences(held: Mapping[int, str], observed: Observed) -> Iterator[Ownership]:
    """What somebody else has changed since `held` (holders by token) was all that was known of the lease."""
    live = {view.token: view.holder for view in live_views(observed)}
    gone: dict[int, Life] = {life.tenure.token: life for life in lives(observed)}
    ended = observed.record.ended if observed.record is not None else None
    for token, holder in sorted(held.items()):
        if token not in live:
            life = gone.get(token)
            kind = (
                _BY_END[life.end] if life is not None else "released" if ended and ended.clean else "expired"
            )
            yield Ownership(kind, holder, token, observed)
    for token, holder in live.items():
        if token not in held:
            yield Ownership("acquired", holder, token, observed)


def ended_by_now(observed: Observed, told: Collection[int]) -> Iterator[Ownership]:
    """What time, or the end of a session, has ended by now, but for the tokens `told` of already."""
    for life in lives(observed):
        if life.state != "live" and life.tenure.token not in told:
            yield _gone(life, _BY_END[life.end], observed)


def _kind_by(outcome: Outcome) -> Kind | None:
    match outcome:
        case Released():
            return "released"
        case Forced():
            return "forced"
        case _:
            return None


def _gone(life: Life, kind: Kind, after: Observed) -> Ownership:
    return Ownership(kind, life.tenure.holder, life.tenure.token, after)
