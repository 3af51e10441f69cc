"""Operating: what an operator does by its tenures, as an actor of the simulation.

Owns the work under each lease: it runs while the lease is held and takes its time to stop, all of the budget
often. What it has won is recorded, and outlives its process. The ledger is told of every instant in which it
is active, and once in a while judges by what the tenures say of themselves.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import trio
from msgspec.structs import replace

from berth.client import BerthError
from berth.client.tenures import Held, LeaseId, Lost, Tenures, Terms
from berth.core.holding import stop_budget_us
from berth.core.names import Key
from berth.runtime.clock import MICROSECONDS
from berth.runtime.supervise import open_service_nursery
from tests.sim.actors import Actor
from tests.sim.ledger import Span
from tests.sim.logs import SimLogger


@dataclass
class Site:
    """What of an operator outlives its processes: the status of its leases."""

    terms: dict[Key, Terms]
    recorded: dict[Key, int] = field(default_factory=dict)
    work_seconds: float = 8.0
    stops_slowly: bool = False
    """Whether stopping takes all of the budget each time."""
    other_ttls: tuple[int, ...] = ()
    """What the ttl of a lease is changed to now and then."""
    may_leave: bool = False
    """Whether a lease that was lost may be wanted no more."""
    left: set[Key] = field(default_factory=set)
    """Wanted no more, and stopped."""


def terms_of(ttl_seconds: int, lock_delay_seconds: int | None = None) -> Terms:
    budget_us = stop_budget_us(ttl_seconds * MICROSECONDS)
    return Terms(ttl_seconds, ttl_seconds / 3, "at-most-once", lock_delay_seconds or 0, budget_us)


async def operate(actor: Actor, site: Site) -> None:
    """Until it is cancelled; then it gives up in order what it holds."""
    news: dict[LeaseId, trio.Event] = {}
    tenures = Tenures(
        actor.client,
        instance=f"uid-{actor.name}",
        clock=actor.host.clock,
        rng=Random(actor.rng.getrandbits(32)),
        logger=SimLogger(actor.ledger),
        on_change=lambda lease: news[lease].set(),
    )
    async with open_service_nursery() as running:
        running.start_soon(tenures.run)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_release_orphans, tenures, site)
                for key in site.terms:
                    lease = LeaseId(*key, actor.name)
                    news[lease] = trio.Event()
                    if key in site.left:
                        continue
                    work = _Work(actor, site, tenures, news, lease)
                    nursery.start_soon(work.reconcile_for_ever)
        finally:
            with trio.CancelScope(shield=True):
                with trio.move_on_after(5):
                    await tenures.end_sessions()
            running.cancel_scope.cancel()


async def _release_orphans(tenures: Tenures, site: Site) -> None:
    """What a process before has stopped, and perhaps not given up any more."""
    while True:
        await trio.sleep(1)
        for lease, token in tenures.orphans().items():
            assert Key(lease.namespace, lease.name) in site.left
            with suppress(BerthError):
                await tenures.release(lease, token)


class _Work:
    """One lease, and what runs under it."""

    def __init__(
        self,
        actor: Actor,
        site: Site,
        tenures: Tenures,
        news: dict[LeaseId, trio.Event],
        lease: LeaseId,
    ) -> None:
        self._actor = actor
        self._rng = actor.rng
        self._site = site
        self._tenures = tenures
        self._news = news
        self._lease = lease
        self._key = Key(lease.namespace, lease.name)
        self._terms = site.terms[self._key]
        self._span: Span | None = None
        self._tired_at = 0.0

    async def reconcile_for_ever(self) -> None:
        self._tenures.want(self._lease, self._terms, self._site.recorded.get(self._key, 0))
        try:
            while self._key not in self._site.left:
                self._news[self._lease] = trio.Event()
                await self._reconcile()
                with trio.move_on_after(self._rng.uniform(0.2, 1.0)):
                    await self._news[self._lease].wait()
        finally:
            with trio.CancelScope(shield=True):
                self._tenures.unwant(self._lease)
                await self._give_up()

    async def _reconcile(self) -> None:
        match self._tenures.standing(self._lease):
            case Held(token=token):
                if self._span is None:
                    self._begin(token)
                self._effect()
                if trio.current_time() > self._tired_at:
                    await self._give_up()
            case Lost() if self._site.may_leave and self._rng.random() < 0.25:
                self._tenures.unwant(self._lease)
                await self._stop()
                self._site.recorded.pop(self._key, None)
                self._site.left.add(self._key)
                self._tenures.again(self._lease)
            case Lost():
                await self._stop()
                if self._rng.random() < 0.7:
                    await self._release()
                self._tenures.again(self._lease)
            case _:
                self._tenures.want(self._lease, self._terms)
        if self._site.other_ttls and self._rng.random() < 0.02:
            self._terms = replace(self._terms, ttl_seconds=self._rng.choice(self._site.other_ttls))
            self._site.terms[self._key] = self._terms
            if self._key not in self._site.left:
                self._tenures.want(self._lease, self._terms)

    def _begin(self, token: int) -> None:
        self._site.recorded[self._key] = token
        self._tired_at = trio.current_time() + self._rng.uniform(0.2, 3) * self._site.work_seconds
        who = f"{self._actor.name}@{self._actor.process.name}"
        if self._tenures.remaining_seconds(self._lease) > 0:
            self._span = self._actor.ledger.begin(self._key, who, token, self._actor.process)

    def _effect(self) -> None:
        if self._span is not None and self._tenures.remaining_seconds(self._lease) > 0:
            self._span.touch()

    async def _stop(self) -> None:
        budget_seconds = self._terms.budget_us / MICROSECONDS
        if self._span is not None:
            share = 1.0 if self._site.stops_slowly else self._rng.choice((1.0, 1.0, self._rng.random()))
            await trio.sleep(budget_seconds * share)
            self._span.stop()
            self._span = None

    async def _give_up(self) -> None:
        await self._stop()
        await self._release()

    async def _release(self) -> None:
        token = self._site.recorded.get(self._key, 0)
        if token:
            with suppress(BerthError):
                await self._tenures.release(self._lease, token)
                del self._site.recorded[self._key]
