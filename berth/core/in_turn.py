"""In turn: several requests for one lease, decided one after the other, and carried by one write.

Pure, as `decide`, whose word it takes for each. Promises that what comes out is what would have come out of
as many writes, but for the version.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.records import Observed, Record
from berth.core.requests import Acquired, EndFirst, Outcome, Renewed, Request


class Turn(NamedTuple):
    """What one of several requests came to, and the lease as it stood before and after it."""

    before: Observed
    outcome: Outcome
    after: Observed


def decide_in_turn(observed: Observed, requests: Sequence[Request]) -> tuple[Record | None, list[Turn]]:
    """Decide several requests for one lease, each on what those before it made; one write carries them all.

    There are as many turns as could be decided: after an `EndFirst` the rest waits with it.
    """
    base_version = observed.record.version if observed.record else 0
    write: Record | None = None
    turns: list[Turn] = []
    for request in requests:
        decision = decide(observed, request)
        before = observed
        if decision.write is not None:
            write = decision.write
            observed = _after(observed, write)
        turns.append(Turn(before, decision.outcome, observed))
        if isinstance(decision.outcome, EndFirst):
            break
    if write is not None and len(turns) > 1:
        write = replace(write, version=base_version + 1)
        turns = _of_one_write(turns, write.version)
    return write, turns


def _of_one_write(turns: Sequence[Turn], version: int) -> list[Turn]:
    """Turns that one write carries: its version is told to whoever was the last to hear of a tenure."""
    told: set[int] = set()
    result: list[Turn] = []
    for turn in reversed(turns):
        outcome = turn.outcome
        if isinstance(outcome, Acquired):
            last = outcome.view.token not in told
            turn = turn._replace(outcome=replace(outcome, version=version if last else 0))
            told.add(outcome.view.token)
        elif isinstance(outcome, Renewed):
            told.add(outcome.token)
        result.append(turn)
    return result[::-1]


def _after(observed: Observed, write: Record) -> Observed:
    """The reading as it will be once `write` has won: what it renews has been idle for no time."""
    idle_by_token = (
        {
            tenure.token: idle_us
            for tenure, idle_us in zip(observed.record.tenures, observed.idle_us, strict=True)
        }
        if observed.record
        else {}
    )
    idle_us = tuple(0 if tenure.mark is None else idle_by_token[tenure.token] for tenure in write.tenures)
    return replace(observed, record=write, idle_us=idle_us)
