"""Deciding: what one round carries, and what it makes of what it has read.

Pure functions over a round's requests and its reading; who reads and writes is `rounds`.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from berth.core.in_turn import Turn, decide_in_turn
from berth.core.names import Key
from berth.core.records import Observed, Record, Session, SessionSeen
from berth.core.requests import Acquire, Decision, EndFirst, Request
from berth.core.sessions import EndSession, SessionRequest, decide_session
from berth.service.asking import Answer, Pending
from berth.store.api import Reading, StoreFault, Write

TURNS_MAX = 256
"""So many requests for one lease are decided in one round, for they are decided in one go."""


class Decided(Struct, frozen=True, gc=False):
    """What a round makes of one target: the write it needs, if any, and the answers that wait for it."""

    group: list[Pending]
    write: Write | None
    answers: Sequence[Answer]
    turns: Sequence[Turn] = ()


class Round(Struct):
    """All that one round carries.

    `alone` are renewals that nobody else asks beside, on leases of one tenure: nearly all that is ever
    asked. They are decided as everything is, and told with less ado.
    """

    groups: dict[Key | str, list[Pending]]
    decided: list[Decided] = []
    alone: list[tuple[Pending, Decision]] = []
    writes: list[Write] = []


def grouped(taken: list[Pending]) -> Round:
    """The requests by what they are for."""
    groups: dict[Key | str, list[Pending]] = {}
    for pending in taken:
        target = pending.operation.target
        group = groups.get(target)
        if group is None:
            groups[target] = [pending]
        else:
            group.append(pending)
    return Round(groups)


def sessions_named(groups: Mapping[Key | str, list[Pending]]) -> set[str]:
    """The sessions that the requests name. Those that records refer to come with a reading anyway."""
    named: set[str] = set()
    for target, group in groups.items():
        if type(target) is str:
            named.add(target)
            continue
        for pending in group:
            request = pending.operation.request
            if type(request) is Acquire and request.session is not None:
                named.add(request.session)
    return named


def unreadable(
    groups: Mapping[Key | str, list[Pending]], failed: Mapping[Key | str, StoreFault]
) -> dict[Key | str, Decided]:
    """Those for whom something could not be read that they are, or name: it is answered to them alone."""
    found: dict[Key | str, Decided] = {}
    for target, group in groups.items():
        about = (target, *sessions_named({target: group}))
        fault = next((failed[each] for each in about if each in failed), None)
        if fault is not None:
            found[target] = Decided(group, None, [fault] * len(group))
    return found


def sessions_to_end(answers: Sequence[Answer]) -> tuple[str, ...]:
    last = answers[-1] if answers else None
    return last.sessions if isinstance(last, EndFirst) else ()


def decided_lease(observed: Observed, group: list[Pending]) -> Decided:
    # Each turn looks at all who hold the lease.
    limit = max(1, TURNS_MAX // (1 + len(observed.idle_us) // 16))
    try:
        write, turns = decide_in_turn(
            observed, [cast("Request", pending.operation.request) for pending in group[:limit]]
        )
    except Exception as defect:  # noqa: BLE001 - a defect shown by one lease is answered to it alone
        return Decided(group, None, [defect] * len(group))
    return Decided(group, write, [turn.outcome for turn in turns], turns)


def decided_session(reading: Reading, session: str, group: list[Pending]) -> Decided:
    """What the group makes of the session, or, for nobody in particular, its end if it has expired."""
    seen = base = reading.sessions.get(session)
    requests = [cast("SessionRequest", pending.operation.request) for pending in group]
    write: Session | None = None
    answers: list[Answer] = []
    for request in requests or [EndSession("expired")]:
        decision = decide_session(seen, reading.at_us, request)
        answers.append(decision.outcome)
        if decision.write is not None:
            write = decision.write
            idle_us = seen.idle_us if seen is not None and write.mark is not None else 0
            seen = SessionSeen(write, idle_us)
    if write is not None:
        write = replace(write, version=(base.session.version if base else 0) + 1)
    return Decided(group, write, answers)


def is_of_session(decided: Decided) -> bool:
    return isinstance(decided.write, Session)


def target_of(write: Write) -> Key | str:
    return write.key if isinstance(write, Record) else write.id
