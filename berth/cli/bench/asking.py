"""Asking: acquire, renew, release and the calls of sessions, in the mode of the run.

Owns what is sent, and what a reply means for the party, for the tally and for the safety check: each of them
is told of every call. Promises that a party has one call at a time for one lease. When to ask is not decided
here.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import msgspec
import trio

from berth.cli.bench.caller import Caller, Told, code_of
from berth.cli.bench.command import Mode
from berth.cli.bench.party import Party, Session, Tenure, half_of, name_of
from berth.cli.bench.safety import Safety, SessionTime
from berth.cli.bench.tally import Tally
from berth.runtime.clock import MICROSECONDS, Clock
from berth.wire import routes
from berth.wire.shapes import AcquireReply, BatchReply, BatchResult, SessionObject

BATCH_SIZE = 1_000

Verb = Literal["acquire", "renew", "release"]
Answer = AcquireReply | BatchResult | None
"""What a single call or a batch says of one lease; None where there is nothing to say."""

Job = Callable[[], Awaitable[None]]

_OPERATIONS = {"acquire": routes.ACQUIRE, "renew": routes.RENEW, "release": routes.RELEASE}


@dataclass(frozen=True, slots=True)
class _Call:
    """One operation on one lease. `token` is 0 for an acquire."""

    verb: Verb
    party: Party
    lease: int
    token: int
    body: dict[str, object]
    session: SessionTime | None


class Asking:
    """`parties` are the two that compete for every lease."""

    def __init__(
        self,
        caller: Caller,
        safety: Safety,
        clock: Clock,
        *,
        parties: tuple[Party, Party],
        mode: Mode,
        namespace: str,
        ttl_seconds: int,
    ) -> None:
        self.caller = caller
        self.parties = parties
        self.namespace = namespace
        self._mode: Mode = mode
        self._ttl_seconds = ttl_seconds
        self._safety = safety
        self._clock = clock
        self._released_us: dict[int, int] = {}
        self._newest: dict[int, Party] = {}

    @property
    def tally(self) -> Tally:
        return self.caller.tally

    def rival_of(self, party: Party) -> Party:
        one, other = self.parties
        return other if party is one else one

    def may_ask(self, party: Party, lease: int) -> bool:
        """Whether a party that hears that the lease is free should ask for it: the other one had it."""
        return party.speaks_for(lease) and lease not in party.tenures and self._newest.get(lease) is not party

    def is_held(self, party: Party, lease: int) -> bool:
        """Whether the party has the lease, or is silent and its time is not over."""
        if lease not in party.tenures:
            return False
        return party.speaks_for(lease) or self._clock.boot_us() < self._end_us(party, lease)

    async def acquire(self, party: Party, leases: Iterable[int]) -> None:
        """Ask for the leases; in session mode for those of which the party has a session."""
        open_halves = party.sessions.keys() if self._mode == "session" else {0, 1}
        with party.busy_with(lease for lease in leases if half_of(lease) in open_halves) as free:
            await self._all([self._acquire(party, lease) for lease in free])

    async def renew(self, party: Party, leases: Iterable[int]) -> None:
        """Keep those of the leases that the party holds."""
        with party.busy_with(lease for lease in leases if lease in party.tenures) as held:
            await self._all([self._renew(party, lease) for lease in held])

    async def release(self, party: Party, leases: Iterable[int]) -> None:
        """Give up those of the leases that the party holds."""
        with party.busy_with(lease for lease in leases if lease in party.tenures) as held:
            await self._all([self._release(party, lease) for lease in held])

    async def keep_session(self, party: Party, half: int) -> None:
        """Renew the session, or open one where there is none, also after a loss."""
        session = party.sessions.get(half)
        if session is None:
            await self._open_session(party, half)
            return
        told = await self.caller.ask(routes.RENEW_SESSION, {}, id=session.id)
        reply = self._session_reply("session-renew", told, routes.RENEW_SESSION.status)
        if reply is None:
            return
        if reply.alive:
            session.sent_us = told.sent_us
            self._safety.session_alive(session.time, sent_us=told.sent_us, ttl_seconds=self._ttl_seconds)
        else:
            self._safety.session_over(session.time, at_us=told.received_us)
            party.drop_session(half)

    async def end_session(self, party: Party, half: int) -> None:
        session = party.drop_session(half)
        if session is not None:
            self._safety.session_over(session.time, at_us=self._clock.boot_us())
            told = await self.caller.ask(routes.END_SESSION, id=session.id)
            self._judge("session-end", told, routes.END_SESSION.status)

    async def _open_session(self, party: Party, half: int) -> None:
        body = {"holder": party.holder, "ttlSeconds": self._ttl_seconds, "instance": str(half)}
        told = await self.caller.ask(routes.OPEN_SESSION, body)
        reply = self._session_reply("session-open", told, routes.OPEN_SESSION.status)
        if reply is not None and reply.alive:
            session = Session(reply.id, told.sent_us, SessionTime())
            party.sessions[half] = session
            self._safety.session_alive(session.time, sent_us=told.sent_us, ttl_seconds=self._ttl_seconds)

    def _session_reply(self, operation: str, told: Told, status: int) -> SessionObject | None:
        body = self._judge(operation, told, status, SessionObject)
        return body if isinstance(body, SessionObject) else None

    def _acquire(self, party: Party, lease: int) -> _Call:
        session = party.sessions.get(half_of(lease)) if self._mode == "session" else None
        life: dict[str, object] = (
            {"ttlSeconds": self._ttl_seconds} if session is None else {"session": session.id}
        )
        body = {"holder": party.holder, **life}
        return _Call("acquire", party, lease, 0, body, session.time if session else None)

    def _renew(self, party: Party, lease: int) -> _Call:
        token = party.tenures[lease].token
        body = {"holder": party.holder, "fencingToken": token, "ttlSeconds": self._ttl_seconds}
        return _Call("renew", party, lease, token, body, None)

    def _release(self, party: Party, lease: int) -> _Call:
        token = party.tenures.pop(lease).token
        now_us = self._clock.boot_us()
        self._released_us[lease] = now_us
        self._safety.releasing(name_of(lease), token, sent_us=now_us)
        return _Call("release", party, lease, token, {"holder": party.holder, "fencingToken": token}, None)

    async def _all(self, calls: Sequence[_Call]) -> None:
        if self._mode == "batch":
            parts = [calls[at : at + BATCH_SIZE] for at in range(0, len(calls), BATCH_SIZE)]
            await together([partial(self._many, part) for part in parts])
        else:
            await together([partial(self._one, call) for call in calls])

    async def _one(self, call: _Call) -> None:
        operation = _OPERATIONS[call.verb]
        told = await self.caller.ask(operation, call.body, namespace=self.namespace, name=name_of(call.lease))
        if told.reply is None or told.reply.status != operation.status:
            self.tally.bad(call.verb, told.code if told.reply is None else code_of(told.reply))
        elif call.verb == "release":
            self._settle(call, told, None)
        else:
            body = _read(told.reply.body, AcquireReply)
            self._settle(call, told, body) if body else self.tally.bad(call.verb, "unbelievable")

    async def _many(self, calls: Sequence[_Call]) -> None:
        operations = [
            {"op": call.verb, "namespace": self.namespace, "name": name_of(call.lease), **call.body}
            for call in calls
        ]
        told = await self.caller.ask(routes.BATCH, {"operations": operations})
        reply = self._judge("batch", told, routes.BATCH.status, BatchReply)
        results = reply.results if isinstance(reply, BatchReply) and len(reply.results) == len(calls) else ()
        for call, result in zip(calls, results, strict=False):
            if result.status == _OPERATIONS[call.verb].status:
                self._settle(call, told, result)
            else:
                self.tally.bad(call.verb, result.code or f"http_{result.status}")
        for call in calls[len(results) :]:
            self.tally.bad(call.verb, "batch_failed")

    def _judge(self, operation: str, told: Told, status: int, kind: Any = None) -> object:
        """Counts a call that is no lease's own, and gives its reply's body, None for an error."""
        if told.reply is None or told.reply.status != status:
            self.tally.bad(operation, told.code if told.reply is None else code_of(told.reply))
            return None
        body = _read(told.reply.body, kind) if kind else None
        if kind and body is None:
            self.tally.bad(operation, "unbelievable")
            return None
        granted = body.alive if isinstance(body, SessionObject) else True
        self.tally.good(operation, told.received_us - told.sent_us, granted=granted)
        return body

    def _settle(self, call: _Call, told: Told, answer: Answer) -> None:
        """Take in what the server said of one lease."""
        duration_us = told.received_us - told.sent_us
        name = name_of(call.lease)
        if call.verb == "release" or answer is None:
            self.tally.good(call.verb, duration_us, granted=True)
            self._safety.over(name, call.token, received_us=told.received_us)
        elif answer.acquired is not True:
            self.tally.good(call.verb, duration_us, granted=False)
            if call.verb == "renew":
                self._safety.over(name, call.token, received_us=told.received_us)
                call.party.tenures.pop(call.lease, None)
        elif answer.holder != call.party.holder or not _is_token(answer.fencing_token, call.token):
            self.tally.bad(call.verb, "unbelievable")
        else:
            self.tally.good(call.verb, duration_us, granted=True)
            self._granted(call, told, answer.fencing_token)

    def _granted(self, call: _Call, told: Told, token: int) -> None:
        self._safety.held(
            name_of(call.lease),
            call.party.holder,
            token,
            sent_us=told.sent_us,
            received_us=told.received_us,
            ttl_seconds=self._ttl_seconds,
            session=call.session,
        )
        known = call.party.tenures.get(call.lease)
        if known is None or known.token != token:
            self._note_change(call, told)
            self._newest[call.lease] = call.party
        current = call.party.sessions.get(half_of(call.lease))
        if call.session is not None and (current is None or current.time is not call.session):
            return  # lost while the reply was on its way
        call.party.tenures[call.lease] = Tenure(token, told.sent_us)

    def _note_change(self, call: _Call, told: Told) -> None:
        """How long nobody had the lease, from a release or from the end of a silent holder's time."""
        released_us = self._released_us.pop(call.lease, None)
        if released_us is not None:
            self.tally.hand_overs.add(told.received_us - released_us)
        rival = self.rival_of(call.party)
        if call.lease in rival.tenures and not rival.speaks_for(call.lease):
            self.tally.take_overs.add(max(0, told.received_us - self._end_us(rival, call.lease)))
            del rival.tenures[call.lease]

    def _end_us(self, party: Party, lease: int) -> int:
        """When the time of what a party holds is over, if it is not renewed."""
        session = party.sessions.get(half_of(lease))
        sent_us = session.sent_us if session else party.tenures[lease].sent_us
        return sent_us + self._ttl_seconds * MICROSECONDS


def _is_token(token: int, renewed: int) -> bool:
    """Whether a grant may have this token: the one that was renewed, or to an acquire any."""
    return token == renewed if renewed else token > 0


def _read(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


async def together(jobs: Sequence[Job]) -> None:
    """All of them at once; how many requests are in flight is the caller's to bound."""
    if len(jobs) == 1:
        await jobs[0]()
        return
    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(job)
