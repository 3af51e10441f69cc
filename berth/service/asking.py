"""Asking: what may be asked of the rounds, what is answered, and what is told of a write that has won."""

from collections.abc import Callable, Collection, Sequence

import trio
from msgspec import Struct

from berth.core.in_turn import Turn
from berth.core.names import Key
from berth.core.records import Record, Session, Tenure
from berth.core.requests import Outcome, Request
from berth.core.sessions import SessionOutcome, SessionRequest


class Origin(Struct, frozen=True, gc=False):
    """On whose behalf something is asked: for the audit log."""

    tenant: str = ""
    request_id: str = ""
    reason: str = ""


NOBODY = Origin()


class Operation(Struct, frozen=True, gc=False):
    """A request and what it is for: a lease's key, or a session's id."""

    target: Key | str
    request: Request | SessionRequest
    origin: Origin = NOBODY


Answer = Outcome | SessionOutcome | Exception


class LeaseChange(Struct, frozen=True, gc=False):
    """A lease write that has won: what each operation made of the lease, for whom, and the record now
    stored.
    """

    record: Record
    turns: Sequence[Turn]
    origins: Sequence[Origin]


class SessionChange(Struct, frozen=True, gc=False):
    """A session write that has won."""

    session: Session
    origin: Origin


Change = LeaseChange | SessionChange


OnRenewals = Callable[[Collection[Key], Sequence[Tenure]], None]
"""Told of leases whose only tenure was renewed, and nothing else about them: it lives for its ttl now."""


class Submission:
    """What one caller asked together; he waits until every answer is in."""

    def __init__(self, count: int) -> None:
        self.answers: list[Answer | None] = [None] * count
        self.missing = count
        self.done = trio.Event()
        self.abandoned = False


class Pending(Struct, gc=False):
    """One operation of a submission, until it is answered."""

    operation: Operation
    submission: Submission
    index: int
    attempts: int = 0

    def settle(self, answer: Answer) -> None:
        submission = self.submission
        submission.answers[self.index] = answer
        submission.missing -= 1
        if not submission.missing:
            submission.done.set()
