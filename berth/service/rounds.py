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
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from random import Random
from typing import cast

import trio

from berth.core.decide import decide_renewal
from berth.core.names import Key
from berth.core.records import Record, Tenure
from berth.core.requests import EndFirst, Outcome, Renew, Request
from berth.service.asking import (
    NOBODY,
    Answer,
    Change,
    LeaseChange,
    OnRenewals,
    Operation,
    Origin,
    Pending,
    SessionChange,
    Submission,
)
from berth.service.deciding import (
    Decided,
    Round,
    decided_lease,
    decided_session,
    grouped,
    is_of_session,
    sessions_named,
    sessions_to_end,
    target_of,
    unreadable,
)
from berth.store.api import PartlyRead, PartlyWritten, Reading, Store, StoreFault, Write

ROUND_MAX = 5_000
GATHERINGS_MAX = 10
GATHERED_ENOUGH = 256
PENDING_MAX = 50_000
ATTEMPTS_MAX = 12
GIVE_WAY_EVERY = 256
CONTENDED_PAUSE_SECONDS = 0.05


Recall = Callable[[Collection[Key], Collection[str]], Reading]
Failed = Mapping[Key | str, StoreFault]
Groups = dict[Key | str, list[Pending]]


async def readable(
    store: Store, keys: Collection[Key], sessions: Collection[str] = ()
) -> tuple[Reading, Failed]:
    """A reading, and what has no place in it because it cannot be read. Raises StoreFault."""
    try:
        return await store.read(keys, sessions), {}
    except PartlyRead as partly:
        return partly.reading, partly.failed


async def written(store: Store, writes: Sequence[Write]) -> tuple[set[Key | str], Failed]:
    """What of the writes has won, and what could not be made. Raises StoreFault where that is so of all."""
    if not writes:
        return set(), {}
    try:
        return await store.write(writes), {}
    except PartlyWritten as partly:
        return partly.won, partly.failed


class Rounds:
    """The one way to change anything in a store. `run` must be running while anybody waits."""

    def __init__(
        self,
        store: Store,
        *,
        rng: Random,
        on_change: Callable[[Change], None],
        on_renewals: OnRenewals,
        gather_seconds: float = 0,
        recall: Recall | None = None,
    ) -> None:
        """`on_change` is told of each write that has won, before its answers leave; `on_renewals` of a
        round's renewals at once. `recall` is a `RememberingStore`'s.

        `gather_seconds` is for stores where a write is dear: a round waits for further callers as long as one
        comes within so much of another, if the round before it had more than one.
        """
        self._store = store
        self._rng = rng
        self._on_change = on_change
        self.on_renewals = on_renewals
        self._gather_seconds = gather_seconds
        self._recall = recall
        self._pending: deque[Pending] = deque()
        self._asked = trio.Event()
        self._company = False
        self._taken: list[Pending] = []
        self._under_way: Container[Key | str] = ()
        self._over = False

    async def submit(self, operations: Sequence[Operation]) -> list[Answer]:
        """Carry the operations out, those for one target in order. The answers are in the order asked.

        A fault is an answer too: a `StoreFault`, or the exception that a defect raised. A caller who is
        cancelled withdraws what no round has taken up yet.
        """
        if self._over or len(self._pending) + len(operations) > PENDING_MAX:
            text = "the server is stopping" if self._over else "too many requests are waiting for the store"
            return [StoreFault(text, outcome_known=True)] * len(operations)
        if not operations:
            return []
        submission = Submission(len(operations))
        self._pending.extend(Pending(each, submission, at) for at, each in enumerate(operations))
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
        """Carry rounds out, one after the other, until cancelled. At its end nobody is left waiting."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    await self._asked.wait()
                    await self._gather()
                    self._taken = self._close_round()
                    if self._taken:
                        await self._round(self._taken, nursery)
                        alone = self._taken[0].submission is self._taken[-1].submission
                        self._company = not alone or bool(self._pending)
                        self._taken = []
        finally:
            self._over = True
            for pending in (*self._taken, *self._pending):
                if pending.submission.answers[pending.index] is None:
                    pending.settle(StoreFault("the server is stopping", outcome_known=False))
            self._pending.clear()

    def is_writing(self, target: Key | str) -> bool:
        """Whether a round is under way that may change this."""
        return target in self._under_way

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

    def _close_round(self) -> list[Pending]:
        """What the next round carries; what was asked together stays together."""
        taken: list[Pending] = []
        while self._pending:
            first = self._pending[0]
            if len(taken) >= ROUND_MAX and first.submission is not taken[-1].submission:
                break
            taken.append(self._pending.popleft())
        if not self._pending:
            self._asked = trio.Event()
        return [pending for pending in taken if not pending.submission.abandoned]

    async def _round(self, taken: list[Pending], nursery: trio.Nursery) -> None:
        this = grouped(taken)
        self._under_way = this.groups
        try:
            await self._decide(this)
            won, failed = await written(self._store, this.writes)
        except Exception as fault:  # noqa: BLE001 - whatever it is, those who wait are told
            self._under_way = ()
            for pending in taken:
                pending.settle(fault)
            return
        await self._conclude(this, None if len(won) == len(this.writes) else won, failed, nursery)
        self._under_way = ()

    async def _decide(self, this: Round) -> None:
        groups = this.groups
        if self._recall is not None:
            # What has lost to somebody else is decided by a fresh read.
            first = {target: group for target, group in groups.items() if not group[0].attempts}
            remembered = self._recall([key for key in first if type(key) is Key], sessions_named(first))
            decided = first.keys() - await self._decide_by(remembered, this, first, recalled=True)
            groups = {target: group for target, group in groups.items() if target not in decided}
        if groups:
            keys = [key for key in groups if type(key) is Key]
            reading, failed = await readable(self._store, keys, sessions_named(groups))
            if failed:
                unread = unreadable(groups, failed)
                this.decided.extend(unread.values())
                groups = {target: group for target, group in groups.items() if target not in unread}
            await self._decide_by(reading, this, groups)
        this.writes.extend(each.write for each in this.decided if each.write is not None)

    async def _decide_by(
        self, reading: Reading, this: Round, groups: Groups, *, recalled: bool = False
    ) -> set[Key | str]:
        """Decide what the reading is good for; what it is not good for."""
        leases = reading.leases
        ending: set[str] = set()
        others: set[Key | str] = set()
        for count, (target, group) in enumerate(groups.items()):
            if count % GIVE_WAY_EVERY == GIVE_WAY_EVERY - 1:
                await trio.lowlevel.checkpoint()
            if type(target) is Key:
                if recalled and target not in leases:
                    others.add(target)
                    continue
                observed = leases[target]
                request = group[0].operation.request
                if type(request) is Renew and len(group) == 1 and len(observed.idle_us) == 1:
                    decision = decide_renewal(observed, request)
                    if recalled and decision.write is None:
                        others.add(target)
                        continue
                    this.alone.append((group[0], decision))
                    if decision.write is not None:
                        this.writes.append(decision.write)
                    continue
                each = decided_lease(observed, group)
            else:
                each = decided_session(reading, cast("str", target), group)
            if recalled and each.write is None:
                others.add(target)
                continue
            if type(target) is Key:
                ending.update(sessions_to_end(each.answers))
            this.decided.append(each)
        for session in sorted(ending - this.groups.keys()):
            this.decided.append(decided_session(reading, session, []))
        return others

    async def _conclude(
        self, this: Round, won: set[Key | str] | None, failed: Failed, nursery: trio.Nursery
    ) -> None:
        """Tell the answers whose writes have won (None: all have), and ask again for what is still open."""
        renewed: list[Key] = []
        tenures: list[Tenure] = []
        for count, (pending, decision) in enumerate(this.alone):
            if count % GIVE_WAY_EVERY == GIVE_WAY_EVERY - 1:
                await trio.lowlevel.checkpoint()
            write = decision.write
            if write is not None:
                if won is not None and write.key not in won:
                    self._lost([pending], failed.get(write.key), nursery)
                    continue
                renewed.append(write.key)
                tenures.append(write.tenures[0])
            pending.settle(decision.outcome)
        if renewed:
            self.on_renewals(renewed, tenures)
        # What was made of leases is told before what was made of sessions, on which they may hang.
        for count, each in enumerate(sorted(this.decided, key=is_of_session)):
            if count % GIVE_WAY_EVERY == GIVE_WAY_EVERY - 1:
                await trio.lowlevel.checkpoint()
            if each.write is not None and won is not None and target_of(each.write) not in won:
                self._lost(each.group, failed.get(target_of(each.write)), nursery)
            else:
                self._tell(each, nursery)

    def _lost(self, group: list[Pending], fault: StoreFault | None, nursery: trio.Nursery) -> None:
        """A write that has not won: somebody else's has, or it could not be made."""
        if fault is None:
            self._again(group, nursery)
            return
        for pending in group:
            pending.settle(fault)

    def _tell(self, decided: Decided, nursery: trio.Nursery) -> None:
        group, write, answers = decided.group, decided.write, decided.answers
        if isinstance(write, Record):
            origins = [pending.operation.origin for pending in group]
            self._on_change(LeaseChange(write, decided.turns, origins))
        elif write is not None:
            self._on_change(SessionChange(write, group[-1].operation.origin if group else NOBODY))
        told = answers[:-1] if answers and isinstance(answers[-1], EndFirst) else answers
        for pending, answer in zip(group, told, strict=False):
            pending.settle(answer)
        if told:
            self._queue_first(group[len(told) :])
        else:
            self._again(group, nursery)

    def _again(self, group: list[Pending], nursery: trio.Nursery) -> None:
        """Queue a target's requests for the next round, in their order and before whoever came later."""
        open_still: list[Pending] = []
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

    async def _queue_later(self, group: list[Pending]) -> None:
        """Writers elsewhere keep winning: step back for a moment, each for another."""
        try:
            await trio.sleep(self._rng.uniform(0, CONTENDED_PAUSE_SECONDS))
        finally:
            self._queue_first(group)

    def _queue_first(self, group: list[Pending]) -> None:
        if group:
            self._pending.extendleft(reversed(group))
            self._asked.set()
