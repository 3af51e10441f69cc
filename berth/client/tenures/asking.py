"""Asking: leases are asked for and given up, many at once.

Owns when a request is sent, and what each answer means. Promises that what comes due at about the same time
goes in one request, that nothing is asked for while a release of it may yet arrive, and that what cannot be
had now is left alone until something is heard of it.
"""

from collections.abc import Sequence

import trio
from msgspec import UNSET
from msgspec.structs import replace

from berth.client.batches import AcquireRequest, ReleaseRequest
from berth.client.errors import ApiError, BerthError, Conflict, Unreachable
from berth.client.tenures.book import Book
from berth.client.tenures.calls import Calls
from berth.client.tenures.entry import Entry
from berth.client.tenures.pauses import asked_pause_seconds
from berth.client.tenures.session import Session
from berth.client.tenures.terms import Terms
from berth.runtime.supervise import alongside
from berth.wire.shapes import AcquireReply

GATHER_SECONDS = 0.003
"""How long what comes due is gathered for one request."""

AT_ONCE = 4
"""How many requests are under way at most: one that is not answered holds up the others no more than that."""

AGAIN_SECONDS = (1.0, 5.0)
"""When to ask again for what cannot be had now, from and to, where the server does not say."""


class Asking:
    """`run` must be running for anything to be asked for or given up."""

    def __init__(self, client: Calls, book: Book) -> None:
        self._client = client
        self._book = book
        self._limit = trio.CapacityLimiter(AT_ONCE)
        self._waiting: dict[Entry, list[Answer]] = {}

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                sooner = self._book.agenda.sooner
                ready, next_at = self._book.agenda.take()
                if not ready:
                    with trio.move_on_at(next_at):
                        await sooner.wait()
                    await trio.sleep(GATHER_SECONDS)
                    continue
                self._begin([entry for entry in ready if not entry.asking], nursery)

    def answer_to_release(self, entry: Entry) -> "Answer":
        """What will become of giving up all that is to be given up of the entry."""
        answer = Answer()
        self._waiting.setdefault(entry, []).append(answer)
        return answer

    def _begin(self, ready: list[Entry], nursery: trio.Nursery) -> None:
        ending = [entry for entry in ready if entry.ending]
        by_session: dict[str, tuple[Session, list[Entry]]] = {}
        for entry in ready:
            if entry.to_be_asked and (session := self._book.session_to_ask(entry)) is not None:
                by_session.setdefault(session.id, (session, []))[1].append(entry)
        if ending:
            self._under_way(ending)
            nursery.start_soon(self._end, ending)
        for session, entries in by_session.values():
            self._under_way(entries)
            nursery.start_soon(self._ask, session, entries)

    def _under_way(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            entry.asking, entry.news = True, False

    async def _end(self, entries: list[Entry]) -> None:
        """Give up what is to be given up."""
        ending = [(entry, token) for entry in entries for token in sorted(entry.ending)]
        async with self._limit:
            answers = await self._client.release_many(
                ReleaseRequest(
                    entry.lease.namespace, entry.lease.name, holder=entry.lease.holder, fencing_token=token
                )
                for entry, token in ending
            )
        faults: dict[Entry, BerthError] = {}
        for (entry, token), fault in zip(ending, answers, strict=True):
            if fault is None or isinstance(fault, Conflict):
                self._book.ended(entry, [token])
            else:
                faults[entry] = fault
        for entry in entries:
            if (fault := faults.get(entry)) is not None:
                self._book.ask(entry, self._again_seconds(fault))
            if fault is not None or not entry.ending:
                for answer in self._waiting.pop(entry, ()):
                    answer.give(fault)
            self._book.asked(entry)

    async def _ask(self, session: Session, entries: list[Entry]) -> None:
        """Ask for what is wanted, or see that it is held still."""
        asked = [(entry, _terms(entry), entry.in_place_of) for entry in entries]
        async with self._limit:
            for entry in entries:
                entry.asked_at = trio.current_time()
            replies = await self._replies(session, [_request(*each, session) for each in asked])
        again_seconds = self._book.rng.uniform(*AGAIN_SECONDS)
        for (entry, terms, in_place_of), reply in zip(asked, replies, strict=True):
            entry.asked_at = trio.current_time()
            if isinstance(reply, BerthError):
                self._failed(entry, session, reply, again_seconds)
            elif reply.acquired:
                self._book.granted(entry, reply, session, terms, in_place_of)
            else:
                self._denied(entry, reply, again_seconds)
            self._book.asked(entry)

    async def _replies(
        self, session: Session, requests: list[AcquireRequest]
    ) -> Sequence[AcquireReply | BerthError]:
        """The answers; once the session is gone none is waited for."""
        replies: Sequence[AcquireReply | BerthError] = [Unreachable("the session is over")] * len(requests)
        with trio.CancelScope() as scope:

            async def leave() -> None:
                await session.gone.wait()
                scope.cancel()

            async with alongside(leave):
                replies = await self._client.acquire_many(requests)
        return replies

    def _denied(self, entry: Entry, reply: AcquireReply, again_seconds: float) -> None:
        reason = reply.reason or "held"
        self._book.denied(entry, reply.holder, reason)
        if reason != "held":
            told = reply.available_after_seconds
            self._book.ask(entry, again_seconds if told is UNSET else max(0.05, min(told, 60.0)))

    def _failed(self, entry: Entry, session: Session, fault: BerthError, again_seconds: float) -> None:
        if session.gone.is_set():
            self._book.ask(entry)
            return
        if isinstance(fault, Conflict) and fault.code == "session_ended":
            self._book.stall(entry, session)
            return
        if isinstance(fault, Conflict) and fault.code == "held_by_ttl" and not entry.by_ttl:
            entry.by_ttl = True
            if entry.in_place_of is not None:
                self._book.ask(entry)
                return
        if isinstance(fault, Conflict):
            holder = entry.lease.holder if fault.code.startswith("held_by") else ""
            self._book.denied(entry, holder, fault.code)
        elif isinstance(fault, ApiError) and fault.code == "quarantine" and entry.tenure is None:
            self._book.denied(entry, "", fault.code)
        else:
            self._book.troubled(entry, str(fault))
        self._book.ask(entry, max(again_seconds, asked_pause_seconds(fault)))

    def _again_seconds(self, fault: BerthError) -> float:
        return max(self._book.rng.uniform(*AGAIN_SECONDS), asked_pause_seconds(fault))


class Answer:
    """What became of a release, once `known`."""

    def __init__(self) -> None:
        self.known = trio.Event()
        self.fault: BerthError | None = None

    def give(self, fault: BerthError | None) -> None:
        self.fault = fault
        self.known.set()


def _terms(entry: Entry) -> Terms:
    """What to ask for."""
    return replace(entry.terms, semantics="at-most-once" if entry.exclusive else "at-least-once")


def _request(entry: Entry, terms: Terms, in_place_of: int | None, session: Session) -> AcquireRequest:
    return AcquireRequest(
        entry.lease.namespace,
        entry.lease.name,
        holder=entry.lease.holder,
        session=session.id,
        semantics=terms.semantics,
        lock_delay_seconds=terms.lock_delay_seconds or None,
        in_place_of=in_place_of,
    )
