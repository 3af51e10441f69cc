"""More actors: one that holds many leases by batches, and one that watches."""

from dataclasses import dataclass, field

import trio
from msgspec import UNSET, UnsetType

from berth.client import AcquireRequest, Conflict, Interrupted, ReleaseRequest, RenewRequest, follow
from berth.core.holding import Reading
from berth.core.names import Key
from berth.runtime.clock import MICROSECONDS
from berth.wire.shapes import LeaseList, LeaseObject
from tests.sim.actors import Actor, left_us
from tests.sim.ledger import Span

LOOK_US = 300_000


@dataclass
class Batch:
    """Leases that one caller keeps together: who is active, and since when each is granted."""

    ttl_seconds: int
    spans: dict[Key, Span] = field(default_factory=dict)
    grants: dict[Key, list[tuple[Reading, int]]] = field(default_factory=dict)

    def began(self, key: Key, span: Span, sent: Reading) -> None:
        self.spans[key] = span
        self.grants[key] = [(sent, self.ttl_seconds)]

    def look(self, now: Reading) -> float:
        """Work on where there is time, and stop where there is none; stopping takes no time.

        Answers after how many seconds to look again.
        """
        again_us = LOOK_US
        for key in [*self.spans]:
            key_us = left_us(self.grants[key], now)
            if key_us > 0:
                self.spans[key].touch()
                again_us = min(again_us, key_us)
            else:
                self.spans.pop(key).stop()
        return again_us / MICROSECONDS


async def call_in_batches(actor: Actor, keys: tuple[Key, ...], ttl_seconds: int, work_seconds: float) -> None:
    """Acquire, renew and release all at once; once."""
    rng, client, who, batch = actor.rng, actor.client, actor.who(), Batch(ttl_seconds)
    sent = actor.now()
    replies = await client.acquire_many(
        AcquireRequest(*key, holder=who, ttl_seconds=ttl_seconds) for key in keys
    )
    tokens: dict[Key, int] = {}
    for key, reply in zip(keys, replies, strict=True):
        if isinstance(reply, Exception) or not reply.acquired:
            continue
        tokens[key] = reply.fencing_token
        if left_us([(sent, ttl_seconds)], actor.now()) > 0:
            span = actor.ledger.begin(key, who, reply.fencing_token, actor.process)
            batch.began(key, span, sent)
    try:
        with trio.move_on_after(rng.uniform(0.2, 2) * work_seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_renew_all, actor, batch)
                while batch.spans:  # noqa: ASYNC110 - each look says when the next is due
                    await trio.sleep(batch.look(actor.now()))
                nursery.cancel_scope.cancel()
    finally:
        for span in batch.spans.values():
            span.stop()
    while tokens:
        released = await client.release_many(
            ReleaseRequest(*key, holder=who, fencing_token=token) for key, token in tokens.items()
        )
        known = [key for key, answer in zip(tokens, released, strict=True) if _is_known(answer)]
        for key in known:
            del tokens[key]
        await trio.sleep(rng.uniform(0.1, 0.5))


def _is_known(answer: object) -> bool:
    return answer is None or isinstance(answer, Conflict)


async def _renew_all(actor: Actor, batch: Batch) -> None:
    while True:
        await trio.sleep(batch.ttl_seconds / 3)
        sent = actor.now()
        held = dict(batch.spans)
        replies = await actor.client.renew_many(
            RenewRequest(*key, holder=span.who, fencing_token=span.token, ttl_seconds=batch.ttl_seconds)
            for key, span in held.items()
        )
        for key, reply in zip(held, replies, strict=True):
            if isinstance(reply, Exception) or key not in batch.spans:
                continue
            if not reply.acquired:
                batch.grants[key].clear()
            elif left_us(batch.grants[key], actor.now()) > 0:
                batch.grants[key].append((sent, batch.ttl_seconds))


class Onlooker:
    """What one who follows the leases knows of them."""

    def __init__(self) -> None:
        self.leases: dict[Key, LeaseObject] = {}
        self.in_doubt = True

    async def look_on(self, actor: Actor) -> None:
        self.in_doubt = True
        async with follow(actor.client, "sim", rng=actor.rng) as sightings:
            async for sighting in sightings:
                actor.ledger.note(actor.name, "sees", _in_short(sighting))
                match sighting:
                    case LeaseList(items=items):
                        self.leases = {Key(lease.namespace, lease.name): lease for lease in items}
                        self.in_doubt = False
                    case Interrupted():
                        self.in_doubt = True
                    case _:
                        self._take(actor, sighting.object)

    def _take(self, actor: Actor, lease: LeaseObject | UnsetType) -> None:
        """What a change made of the lease; a bookmark tells of none."""
        self.in_doubt = False
        if lease is not UNSET:
            self.leases[Key(lease.namespace, lease.name)] = lease
            actor.ledger.seen["a change that was watched"] += 1


def _in_short(sighting: object) -> str:
    match sighting:
        case LeaseList(items=items):
            return " ".join(f"{lease.name}:{lease.state}:{lease.fencing_token}" for lease in items)
        case Interrupted(fault=fault):
            return f"nothing: {type(fault).__name__}"
        case _:
            return " ".join(str(getattr(sighting, name, "")) for name in ("type", "revision"))
