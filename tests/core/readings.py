"""Readings in a few words, for the tables: who holds, under which token, and for how long idle."""

from typing import NamedTuple

import pytest
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.records import Ended, Observed, Quarantine, Record, Session, SessionEnd, SessionSeen, Tenure
from berth.core.requests import Request
from tests.core.world import KEY, told

NOW = 1_000
TTL = 10
SHARED = "at-least-once"


class Hold(NamedTuple):
    tenure: Tenure
    idle: int


def held(holder: str, token: int = 1, idle: int = 0, ttl: int = TTL) -> Hold:
    return Hold(Tenure(holder, token, NOW - 100, ttl, None, mark=7), idle)


def under(session: str, holder: str, token: int = 1) -> Hold:
    return Hold(Tenure(holder, token, NOW - 100, 0, session, mark=7), 500)


def session(
    session_id: str, holder: str, idle: int = 0, ended: SessionEnd | None = None, instance: str = ""
) -> SessionSeen:
    ended_at = None if ended is None else NOW - 1
    return SessionSeen(Session(session_id, 3, holder, instance, TTL, NOW - 100, 7, ended, ended_at), idle)


def never(*sessions: SessionSeen, quarantine: Quarantine | None = None) -> Observed:
    """A lease that nobody ever held."""
    return Observed(KEY, NOW, None, (), {seen.session.id: seen for seen in sessions}, quarantine)


def lease(
    *holds: Hold,
    sessions: tuple[SessionSeen, ...] = (),
    quarantine: Quarantine | None = None,
    token: int = 0,
    clean: bool = True,
    **terms,
) -> Observed:
    """A lease held so, or free: `clean` tells how the last tenure ended. `terms` are those of the record."""
    tenures = tuple(hold.tenure for hold in holds)
    highest = token or max((tenure.token for tenure in tenures), default=1)
    record = Record(KEY, 5, highest, tenures, ended=Ended(NOW - 90, NOW - 50, clean), **terms)
    idles = tuple(hold.idle for hold in holds)
    return replace(never(*sessions, quarantine=quarantine), record=record, idle_us=idles)


def row(name: str, reading: Observed, request: Request, answer: tuple[object, ...], after: str | None = None):
    """One behaviour. `after` names the tenures in the record written (`a1 b2`), None when nothing is."""
    return pytest.param(reading, request, answer, after, id=name)


def check(reading: Observed, request: Request, answer: tuple[object, ...], after: str | None) -> None:
    decision = decide(reading, request)
    assert told(decision.outcome) == answer
    written = decision.write and " ".join(f"{one.holder}{one.token}" for one in decision.write.tenures)
    assert written == after
