"""Batches: many acquires, renewals or releases in few requests, each with a result of its own.

Owns what is asked for, how it is divided into requests, and what each result is. Promises results in the
order asked, that each is judged as the reply of the single call would be, and that what is wrong with one
spoils no other. A result that says "not now" is not asked for again: the caller sees it as it is.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Generic

import msgspec
import trio

from berth.client import believe
from berth.client.answers import Done, Reader, ResultT, judged
from berth.client.bodies import json_of, whole
from berth.client.errors import ApiError, BerthError, Invalid, Unreachable
from berth.client.servers import Call
from berth.client.tries import Tries
from berth.runtime.http import Reply
from berth.wire import routes
from berth.wire.shapes import AcquireReply, BatchAcquire, BatchOperation, BatchRelease, BatchRenew, Semantics

_HEAD, _TAIL = b'{"operations":[', b"]}"
_AT_ONCE = 500
"""How many results are read before other tasks have their turn."""


@dataclass(frozen=True, slots=True)
class Single(Generic[ResultT]):
    """One operation of a batch: what is sent, and how its result is read, as the single call's reply.

    `before` is sent just before it, in the same request; what becomes of that shows in the result.
    """

    operation: routes.Operation
    body: BatchOperation
    read: Reader[ResultT]
    before: BatchOperation | None = None


@dataclass(frozen=True, slots=True)
class AcquireRequest:
    """What `BerthClient.acquire` takes, as one of many.

    `in_place_of` is the token of a tenure of the same holder that is given up for this one, with nobody in
    between: the way from a ttl to a session.
    """

    namespace: str
    name: str
    _: KW_ONLY
    holder: str
    ttl_seconds: int | None = None
    session: str | None = None
    semantics: Semantics | None = None
    max_holders: int | None = None
    lock_delay_seconds: int | None = None
    in_place_of: int | None = None

    def single(self) -> Single[AcquireReply]:
        body = BatchAcquire(
            self.namespace,
            self.name,
            holder=self.holder,
            ttl_seconds=whole(self.ttl_seconds, "ttl_seconds"),
            session=self.session,
            semantics=self.semantics,
            max_holders=self.max_holders,
            lock_delay_seconds=whole(self.lock_delay_seconds, "lock_delay_seconds"),
        )
        before = None
        if self.in_place_of is not None:
            before = BatchRelease(
                self.namespace, self.name, holder=self.holder, fencing_token=self.in_place_of
            )
        return Single(routes.ACQUIRE, body, partial(believe.grant, holder=self.holder), before)


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """What `BerthClient.renew` takes, as one of many."""

    namespace: str
    name: str
    _: KW_ONLY
    holder: str
    fencing_token: int
    ttl_seconds: int

    def single(self) -> Single[AcquireReply]:
        body = BatchRenew(
            self.namespace,
            self.name,
            holder=self.holder,
            fencing_token=self.fencing_token,
            ttl_seconds=whole(self.ttl_seconds, "ttl_seconds"),
        )
        read = partial(believe.grant, holder=self.holder, fencing_token=self.fencing_token)
        return Single(routes.RENEW, body, read)


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """What `BerthClient.release` takes, as one of many."""

    namespace: str
    name: str
    _: KW_ONLY
    holder: str
    fencing_token: int

    def single(self) -> Single[None]:
        body = BatchRelease(self.namespace, self.name, holder=self.holder, fencing_token=self.fencing_token)
        return Single(routes.RELEASE, body, believe.nothing)


Ask = Callable[[Call[list[msgspec.Raw]]], Awaitable[list[msgspec.Raw]]]


async def results(ask: Ask, singles: Sequence[Single[ResultT]]) -> list[ResultT | BerthError]:
    """What each came to, in order. Requests go one after another, each with the deadline of a call."""
    found: dict[int, ResultT | BerthError] = {}
    broken: BerthError | None = None
    for places, body in _requests(singles, found):
        asked = [place for place in places if place is not None]
        if broken is not None:
            found.update(dict.fromkeys(asked, broken))
            continue
        read = partial(believe.batch, count=len(places))
        try:
            told = await ask(Call(routes.BATCH, routes.BATCH.path, read, lambda _, body=body: body))
        except BerthError as fault:
            found.update(dict.fromkeys(asked, fault))
            broken = _of_the_rest(fault)
            continue
        for number, (place, raw) in enumerate(zip(places, told, strict=True), 1):
            if place is not None:
                found[place] = _result(singles[place], raw)
            if number % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
    return [found[place] for place in range(len(singles))]


def _requests(
    singles: Sequence[Single[ResultT]], found: dict[int, ResultT | BerthError]
) -> Iterator[tuple[list[int | None], bytes]]:
    """Bodies that a server takes, and the places of what is in each, None for what has none of its own. What
    cannot be sent is found so."""
    places: list[int | None] = []
    parts: list[bytes] = []
    size = 0
    for place, single in enumerate(singles):
        own: list[int | None] = [place] if single.before is None else [None, place]
        try:
            part = json_of(single.body)
            if single.before is not None:
                part = json_of(single.before) + b"," + part
        except Invalid as refusal:
            found[place] = refusal
            continue
        full = len(_HEAD) + size + len(part) + len(_TAIL) > routes.BATCH_MAX_BYTES
        if parts and (full or len(places) + len(own) > routes.BATCH_MAX):
            yield places, _HEAD + b",".join(parts) + _TAIL
            places, parts, size = [], [], 0
        places += own
        parts.append(part)
        size += len(part) + 1
    if parts:
        yield places, _HEAD + b",".join(parts) + _TAIL


def _of_the_rest(fault: BerthError) -> BerthError | None:
    """What a request's fault means for those after it, which are not sent; None where they are."""
    if isinstance(fault, Invalid):
        return None
    return fault if isinstance(fault, ApiError) else Unreachable(f"not sent, for {fault}")


class _Head(msgspec.Struct):
    status: int


def _result(single: Single[ResultT], raw: msgspec.Raw) -> ResultT | BerthError:
    try:
        status = msgspec.json.decode(raw, type=_Head).status
    except msgspec.MsgspecError:
        status = 0  # which nobody answers
    reply = Reply(status, {"content-type": "application/json"}, bytes(raw))
    answer = judged(reply, operation=single.operation, read=single.read, origin="the server")
    if isinstance(answer, Done):
        return answer.value
    tries = Tries(single.operation)
    try:
        tries.note("the server", answer)
    except BerthError as fault:
        return fault
    return tries.fault()
