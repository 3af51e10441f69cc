"""Rounds: read, decide, write, for everything that was asked while the round before was in flight.

Owns the retry loop over a store and the group commit: one round is one read and one write, however many
requests it carries. Promises, because each of these was found to be needed for safety:

- a round is closed before its read is sent, so nobody is judged by a time before his own arrival;
- a lost compare-and-swap is decided again on a fresh read, never written again;
- no answer of a round leaves before the round's writes are known to have won;
- the round that ends a session takes none of its leases; the next one does.

Requests for one key act in the order in which they were asked, one after the other. It keeps no state of
leases between rounds, and it does not know what a request is for.
"""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple, cast

import trio
from msgspec.structs import replace

from berth.core.decide import Turn, decide_in_turn
from berth.core.names import Key
from berth.core.records import Record, Session, SessionSeen
from berth.core.requests import Acquire, EndFirst, Outcome, Request
from berth.core.sessions import EndSession, SessionOutcome, SessionRequest, decide_session
from berth.store.api import Reading, Store, StoreFault, Write

ROUND_MAX = 5_000
GATHERINGS_MAX = 10
GATHERED_ENOUGH = 256
PENDING_MAX = 50_000
ATTEMPTS_MAX = 12
GIVE_WAY_EVERY = 256
CONTENDED_PAUSE_SECONDS = 0.05


class Origin(NamedTuple):
    """On whose behalf something is asked: for the audit log."""

    tenant: str = ""
    request_id: str = ""
    reason: str = ""


NOBODY = Origin()


class Operation(NamedTuple):
    """A request and what it is for: a lease's key, or a session's id."""

    target: Key | str
    request: Request | SessionRequest
    origin: Origin = NOBODY


Answer = Outcome | SessionOutcome | Exception


class LeaseChange(NamedTuple):
    """A lease write that has won: what each operation made of the lease, and the record now stored."""

    record: Record
    turns: Sequence[Turn]
    origins: Sequence[Origin]


class SessionChange(NamedTuple):
    """A session write that has won."""

    session: Session
    origin: Origin


Change = LeaseChange | SessionChange


class _Submission:
    """What one caller asked together; he waits until every answer is in."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.answers: list[Answer | None] = [None] * len(operations)
        self.missing = len(operations)
        self.done = trio.Event()
        self.abandoned = False

    def settle(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self.missing -= 1
        if not self.missing:
            self.done.set()


class _Pending:
    __slots__ = ("attempts", "index", "operation", "submission")

    def __init__(self, operation: Operation, submission: _Submission, index: int) -> None:
        self.operation = operation
        self.submission = submission
        self.index = index
        self.attempts = 0

    def settle(self, answer: Answer) -> None:
        self.submission.settle(self.index, answer)


class _Decided(NamedTuple):
    """What a round makes of one target: the write it needs, if any, and the answers that wait for it."""

    group: list[_Pending]
    write: Write | None
    answers: Sequence[Answer]
    turns: Sequence[Turn] = ()


class Rounds:
    """The one way to change anything in a store. `run` must be running while anybody waits."""

    def __init__(
        self, store: Store, *, rng: Random, on_change: Callable[[Change], None], gather_seconds: float = 0
    ) -> None:
        """`on_change` is told of each write that has won, before its answers leave.

        `gather_seconds` is for stores where a write is dear: a round waits for further callers as long as one
        comes within so much of another, if the round before it had more than one.
        """
        self._store = store
        self._rng = rng
        self._on_change = on_change
        self._gather_seconds = gather_seconds
        self._pending: deque[_Pending] = deque()
        self._asked = trio.Event()
        self._company = False

    async def submit(self, operations: Sequence[Operation]) -> list[Answer]:
        """Carry the operations out, those for one target in order. The answers are in the order asked.

        A fault is an answer too: a `StoreFault`, or the exception that a defect raised. A caller who is
        cancelled withdraws what no round has taken up yet.
        """
        if len(self._pending) + len(operations) > PENDING_MAX:
            fault = StoreFault("too many requests are waiting for the store", outcome_known=True)
            return [fault] * len(operations)
        if not operations:
            return []
        submission = _Submission(operations)
        self._pending.extend(_Pending(each, submission, at) for at, each in enumerate(operations))
        self._asked.set()
        try:
            await submission.done.wait()
        finally:
            submission.abandoned = True
        return cast("list[Answer]", submission.answers)

    async def ask(self, target: Key, request: Request, origin: Origin = NOBODY) -> Outcome:
        """One request for one lease. Raises what went wrong with the store."""
        (answer,) = await self.submit([Operation(target, request, origin)])
        if isinstance(answer, Exception):
            raise answer
        return cast("Outcome", answer)

    async def run(self) -> None:
        """Carry rounds out, one after the other, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._asked.wait()
                await self._gather()
                taken = self._close_round()
                if taken:
                    await self._round(taken, nursery)
                    alone = taken[0].submission is taken[-1].submission
                    self._company = not alone or bool(self._pending)

    async def _gather(self) -> None:
        """Let those come along who are on their way. A caller who is alone waits for nobody."""
        if not self._gather_seconds or not self._company:
            return
        for _ in range(GATHERINGS_MAX):
            before = len(self._pending)
            if before >= GATHERED_ENOUGH:
                return
            await trio.sleep(self._gather_seconds)
            if len(self._pending) <= before:
                return

    def _close_round(self) -> list[_Pending]:
        """What the next round carries; what was asked together stays together."""
        taken: list[_Pending] = []
        while self._pending:
            first = self._pending[0]
            if len(taken) >= ROUND_MAX and first.submission is not taken[-1].submission:
                break
            taken.append(self._pending.popleft())
        if not self._pending:
            self._asked = trio.Event()
        return [pending for pending in taken if not pending.submission.abandoned]

    async def _round(self, taken: list[_Pending], nursery: trio.Nursery) -> None:
        try:
            decided = await self._decide(_by_target(taken))
            writes = [each.write for each in decided if each.write is not None]
            won = await self._store.write(writes) if writes else set[Key | str]()
        except Exception as fault:  # noqa: BLE001 - whatever it is, those who wait are told, and the next round runs
            for pending in taken:
                pending.settle(fault)
            return
        for each in decided:
            self._conclude(each, won, nursery)

    async def _decide(self, groups: dict[Key | str, list[_Pending]]) -> list[_Decided]:
        keys = [target for target in groups if isinstance(target, Key)]
        reading = await self._store.read(keys, _sessions_named(groups))
        decided: list[_Decided] = []
        ending: set[str] = set()
        for count, (target, group) in enumerate(groups.items(), 1):
            if isinstance(target, Key):
                each = _decide_lease(reading, target, group)
                ending.update(_sessions_to_end(each.answers))
            else:
                each = _decide_session(reading, target, group)
            decided.append(each)
            if count % GIVE_WAY_EVERY == 0:
                await trio.lowlevel.checkpoint()
        decided.extend(_decide_session(reading, session, []) for session in sorted(ending - groups.keys()))
        return decided

    def _conclude(self, decided: _Decided, won: set[Key | str], nursery: trio.Nursery) -> None:
        """Tell the answers if the write behind them won, and ask again for what is still open."""
        group, write, answers, turns = decided
        if write is not None and _target(write) not in won:
            self._again(group, nursery)
            return
        told = answers[:-1] if answers and isinstance(answers[-1], EndFirst) else answers
        if isinstance(write, Record):
            origins = [pending.operation.origin for pending in group]
            self._on_change(LeaseChange(write, turns, origins))
        elif write is not None:
            self._on_change(SessionChange(write, group[-1].operation.origin if group else NOBODY))
        for pending, answer in zip(group, told, strict=False):
            pending.settle(answer)
        self._again(group[len(told) :], nursery)

    def _again(self, group: list[_Pending], nursery: trio.Nursery) -> None:
        """Queue a target's requests for the next round, in their order and before whoever came later."""
        open_still: list[_Pending] = []
        for pending in group:
            pending.attempts += 1
            if pending.attempts < ATTEMPTS_MAX:
                open_still.append(pending)
            else:
                pending.settle(StoreFault("too many writers contend for one lease", outcome_known=True))
        if open_still and open_still[0].attempts > 2:
            nursery.start_soon(self._queue_later, open_still)
        else:
            self._queue_first(open_still)

    async def _queue_later(self, group: list[_Pending]) -> None:
        """Writers elsewhere keep winning: step back for a moment, each for another."""
        await trio.sleep(self._rng.uniform(0, CONTENDED_PAUSE_SECONDS))
        self._queue_first(group)

    def _queue_first(self, group: list[_Pending]) -> None:
        if group:
            self._pending.extendleft(reversed(group))
            self._asked.set()


def _by_target(taken: list[_Pending]) -> dict[Key | str, list[_Pending]]:
    groups: dict[Key | str, list[_Pending]] = {}
    for pending in taken:
        groups.setdefault(pending.operation.target, []).append(pending)
    return groups


def _sessions_named(groups: dict[Key | str, list[_Pending]]) -> set[str]:
    """The sessions that requests name; those that records refer to come with the reading by themselves."""
    named = {target for target in groups if isinstance(target, str)}
    for group in groups.values():
        for pending in group:
            request = pending.operation.request
            if isinstance(request, Acquire) and request.session is not None:
                named.add(request.session)
    return named


def _sessions_to_end(answers: Sequence[Answer]) -> tuple[str, ...]:
    last = answers[-1] if answers else None
    return last.sessions if isinstance(last, EndFirst) else ()


def _decide_lease(reading: Reading, key: Key, group: list[_Pending]) -> _Decided:
    observed = reading.leases[key]
    requests = [cast("Request", pending.operation.request) for pending in group]
    try:
        write, turns = decide_in_turn(observed, requests)
    except Exception as defect:  # noqa: BLE001 - a defect shown by one lease is answered to it alone
        return _Decided(group, None, [defect] * len(group))
    return _Decided(group, write, [turn.outcome for turn in turns], turns)


def _decide_session(reading: Reading, session: str, group: list[_Pending]) -> _Decided:
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
    return _Decided(group, write, answers)


def _target(write: Write) -> Key | str:
    return write.key if isinstance(write, Record) else write.id
