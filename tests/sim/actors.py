"""Actors: those who want leases, each with the real client in a process of its own.

Owns what their work does: it asks before each effect, it may need all of the time that is kept for stopping,
and it ends by itself, by the loss of the lease, or because its caller wants it to. The ledger is told of
every instant in which it is active.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from random import Random
from typing import TypeVar, cast

import trio

from berth.client import BerthClient, BerthError, hold, hold_session
from berth.client.held import Deadline
from berth.client.hold_session import HeldSession
from berth.core.holding import Reading, elapsed_us, lifetime_us, stop_budget_us
from berth.core.names import Key
from berth.runtime.clock import MICROSECONDS
from tests.sim.channel import SimChannel
from tests.sim.engine import Process
from tests.sim.hosts import Host
from tests.sim.ledger import Ledger, Span
from tests.sim.network import Network
from tests.sim.plan import WAIT_AT_MOST_SECONDS

T = TypeVar("T")


@dataclass(frozen=True)
class Terms:
    """On what terms an actor takes a lease."""

    key: Key
    ttl_seconds: int = 4
    lock_delay_seconds: int | None = None
    instance: str | None = None
    """None: another one for each hold."""
    work_seconds: float = 6.0
    places: int = 1


class Actor:
    """One process that wants something of the servers, again and again."""

    def __init__(
        self,
        host: Host,
        *,
        network: Network,
        ledger: Ledger,
        rng: Random,
        urls: list[str],
        steady: bool,
    ) -> None:
        self.host = host
        self.caller = f"{host.name}/{len(host.former)}"
        """The holder that this process calls itself where it has one name for all its tenures."""
        self.steady = steady
        self.process: Process = host.process
        self.ledger = ledger
        self.rng = rng
        self._count = 0
        self.leaving = trio.Event()
        """Set when nobody is to begin anything new."""
        self.client = BerthClient(
            urls,
            api_key=f"key-{host.name}",
            timeout_seconds=rng.choice((2.0, 4.0)),
            rng=rng,
            channel=SimChannel(network, host.process),
        )

    @property
    def name(self) -> str:
        return self.host.name

    def now(self) -> Reading:
        clock = self.host.clock
        return Reading(clock.boot_us(), clock.raw_us(), clock.wall_us())

    def instance(self) -> str:
        """One that no other process has, and the same in every run of the seed."""
        self._count += 1
        return f"{self.process.name}.{self.rng.getrandbits(32):08x}.{self._count}"

    def who(self) -> str:
        """The holder for the next tenure.

        Where tokens start again with the server, one name for all tenures would not be enough: a late
        request of before could name a tenure of after.
        """
        return self.caller if self.steady else f"{self.name}/{self.instance()}"

    async def again_and_again(self, once: Callable[[], Awaitable[None]]) -> None:
        """Until it is to leave; what goes wrong with the calls is no reason to give up."""
        while not self.leaving.is_set():
            try:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._leave, scope)
                        await once()
                        nursery.cancel_scope.cancel()
            except* BerthError as group:
                self.ledger.note(self.name, "raises", *[type(fault).__name__ for fault in group.exceptions])
            await trio.sleep(self.rng.uniform(0.0, 1.5))

    async def _leave(self, scope: trio.CancelScope) -> None:
        await self.leaving.wait()
        scope.cancel()

    async def work(
        self, key: Key, who: str, token: int, deadline: Deadline, seconds: float, stop_seconds: float
    ) -> None:
        """Work for a while, then take a while to stop; cancelled, take a while to stop."""
        span = self.ledger.begin(key, who, token, self.process)
        try:
            with trio.move_on_after(seconds):
                await self._effects(span, deadline)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(stop_seconds)
            span.stop()

    async def _effects(self, span: Span, deadline: Deadline) -> None:
        while True:
            deadline.check()
            span.touch()
            await trio.sleep(self.rng.uniform(0.2, 1.0))

    def stop_seconds(self, ttl_seconds: int) -> float:
        """All of the budget, or a part of it."""
        budget_seconds = stop_budget_us(ttl_seconds * MICROSECONDS) / MICROSECONDS
        return budget_seconds * self.rng.choice((1.0, 1.0, self.rng.random()))


async def hold_lease(actor: Actor, terms: Terms) -> None:
    """`hold`, once: until the work is done, or is lost, or somebody else is to have a turn."""
    rng = actor.rng
    with trio.move_on_after(rng.uniform(0.3, 4) * terms.work_seconds):
        async with hold(
            actor.client,
            *terms.key,
            holder=f"{actor.name}/hold",
            instance=actor.instance() if terms.instance is None else terms.instance,
            ttl_seconds=terms.ttl_seconds,
            wait_seconds=rng.choice((float("inf"), 10.0)),
            semantics="at-most-once" if terms.places == 1 else "at-least-once",
            max_holders=None if terms.places == 1 else terms.places,
            lock_delay_seconds=terms.lock_delay_seconds,
            clock=actor.host.clock,
            rng=rng,
        ) as held:
            seconds = rng.uniform(0.2, 2) * terms.work_seconds
            stop_seconds = actor.stop_seconds(terms.ttl_seconds)
            if terms.places == 1:
                await actor.work(terms.key, held.holder, held.token, held, seconds, stop_seconds)
            else:
                actor.ledger.active_at[terms.key] = trio.current_time()
                await trio.sleep(seconds)


async def hold_many(actor: Actor, terms: list[Terms], ttl_seconds: int) -> None:
    """`hold_session`, once, with leases coming and going under it."""
    rng = actor.rng
    with trio.move_on_after(rng.uniform(1, 6) * terms[0].work_seconds):
        async with (
            hold_session(
                actor.client,
                holder=actor.name,
                ttl_seconds=ttl_seconds,
                instance=actor.instance(),
                clock=actor.host.clock,
                rng=rng,
            ) as session,
            trio.open_nursery() as nursery,
        ):
            for each in terms:
                nursery.start_soon(_lease_under, actor, session, each, ttl_seconds)


async def _lease_under(actor: Actor, session: HeldSession, terms: Terms, ttl_seconds: int) -> None:
    key, rng = terms.key, actor.rng
    while True:
        session.check()
        try:
            reply = await session.acquire(
                *key, lock_delay_seconds=terms.lock_delay_seconds, wait_seconds=rng.choice((None, 1, 3))
            )
        except BerthError:
            session.check()
            await trio.sleep(rng.uniform(0.2, 1.0))
            continue
        if reply.acquired:
            who, token = f"{actor.name}@{session.id[:8]}", reply.fencing_token
            seconds = rng.uniform(0.2, 2) * terms.work_seconds
            await actor.work(key, who, token, session, seconds, actor.stop_seconds(ttl_seconds))
            with suppress(BerthError):
                await session.release(*key, fencing_token=token)
        await trio.sleep(rng.uniform(0.1, 1.0))


async def call_plainly(actor: Actor, terms: Terms, ttls_seconds: tuple[int, ...]) -> None:
    """acquire, renew now and then by changing ttls, release; once.

    Holds to what the manual tells who does it by hand: the ttl counts from before the call, an expiry never
    moves back, and an outcome that is unknown changes nothing. There is no time for stopping: it needs none.
    """
    rng, who = actor.rng, actor.who()
    sent, ttl_seconds = actor.now(), rng.choice(ttls_seconds)
    reply = await actor.client.acquire(
        *terms.key,
        holder=who,
        ttl_seconds=ttl_seconds,
        lock_delay_seconds=terms.lock_delay_seconds,
        wait_seconds=rng.choice((None, None, 1, WAIT_AT_MOST_SECONDS)),
    )
    grants = [(sent, ttl_seconds)]
    if not reply.acquired or left_us(grants, actor.now()) <= 0:
        return
    span = actor.ledger.begin(terms.key, who, reply.fencing_token, actor.process)
    try:
        with trio.move_on_after(rng.uniform(0.2, 2) * terms.work_seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_renew_plainly, actor, terms.key, span, ttls_seconds, grants)
                while (span_us := left_us(grants, actor.now())) > 0:
                    span.touch()
                    await trio.sleep(min(0.3, span_us / MICROSECONDS))
                nursery.cancel_scope.cancel()
    finally:
        span.stop()
    with suppress(BerthError):
        await actor.client.release(*terms.key, holder=who, fencing_token=span.token)


async def _renew_plainly(
    actor: Actor, key: Key, span: Span, ttls_seconds: tuple[int, ...], grants: list[tuple[Reading, int]]
) -> None:
    while True:
        await trio.sleep(actor.rng.uniform(0.2, 0.5) * min(ttls_seconds))
        sent, ttl_seconds = actor.now(), actor.rng.choice(ttls_seconds)
        try:
            reply = await actor.client.renew(
                *key, holder=span.who, fencing_token=span.token, ttl_seconds=ttl_seconds
            )
        except BerthError:
            continue
        if not reply.acquired:
            grants.clear()
            return
        if left_us(grants, actor.now()) > 0:
            grants.append((sent, ttl_seconds))


def left_us(grants: list[tuple[Reading, int]], now: Reading) -> int:
    return max(
        (lifetime_us(ttl_seconds * MICROSECONDS) - elapsed_us(sent, now) for sent, ttl_seconds in grants),
        default=0,
    )


async def collected(items: AsyncIterator[T]) -> list[T]:
    """All of them; whoever is cancelled in between closes what he began."""
    async with aclosing(cast("AsyncGenerator[T]", items)) as closing:
        return [item async for item in closing]


async def administer(actor: Actor, keys: list[Key], *, by_force: list[Key]) -> None:
    """Look around, and end a tenure or a session by force now and then."""
    rng, client = actor.rng, actor.client
    await trio.sleep(rng.uniform(1, 6))
    what = rng.random()
    if what < 0.3:
        for lease in await collected(client.list_leases()):
            await client.verify(lease.namespace, lease.name, fencing_token=max(1, lease.fencing_token))
    elif what < 0.7:
        key = rng.choice(by_force)
        lease = await client.get_lease(*key)
        if lease.state == "held":
            await client.force_release(*key, fencing_token=lease.fencing_token, reason="simulated")
    elif what < 0.85:
        sessions = [session for session in await collected(client.list_sessions()) if session.alive]
        if sessions:
            await client.end_session(rng.choice(sessions).id)
    else:
        await client.get_lease(*rng.choice(keys))
