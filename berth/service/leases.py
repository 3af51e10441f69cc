"""Leases: the service over a store, as the roles use it.

Owns the wiring of store, rounds, register, waiters, feed, audit and sweeper, and the reads that change
nothing. It knows neither HTTP nor who is allowed what.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from random import Random
from typing import NamedTuple, cast

from msgspec.structs import replace

from berth.core.names import Key
from berth.core.ownership import Ownership
from berth.core.records import Observed, SessionEnd
from berth.core.requests import (
    Acquire,
    Acquired,
    Forced,
    ForceRelease,
    Lost,
    NotAcquired,
    Refused,
    Release,
    Released,
    Renew,
    Renewed,
)
from berth.core.sessions import EndSession, OpenSession, RenewSession, SessionOutcome, SessionRequest
from berth.runtime.clock import Clock
from berth.runtime.log import Logger
from berth.runtime.supervise import open_service_nursery
from berth.service.asking import NOBODY, Answer, Change, Operation, Origin, SessionChange
from berth.service.audit import Audit
from berth.service.feed import Feed
from berth.service.limits import Limits
from berth.service.others import Others
from berth.service.register import Register
from berth.service.renewing import WORTH_IT, AllRenewed, Renewing
from berth.service.rounds import Recall, Rounds
from berth.service.sweeper import Sweeper, Sweeping
from berth.service.waiters import Waited, Waiters
from berth.store.api import Reading, SharedStore, Store

SESSION_HOLDERS_MAX = 10_000


class Page(NamedTuple):
    """`after` is where the next page begins, None when there is none."""

    items: list[Observed]
    after: Key | None


class LeaseService:
    """Everything a role may do with leases. Made by `open_leases`. Every call may raise `StoreFault`.

    `feed` has every change of ownership, `limits` what a tenant may ask for; who asks keeps to them. An
    `origin` says on whose behalf something is asked.
    """

    def __init__(
        self,
        store: Store,
        rounds: Rounds,
        renewing: Renewing,
        waiters: Waiters,
        feed: Feed,
        limits: Limits,
    ) -> None:
        self._store = store
        self._rounds = rounds
        self._renewing = renewing
        self._waiters = waiters
        self.feed = feed
        self.limits = limits
        self._session_holders: dict[str, str] = {}

    async def acquire(
        self, key: Key, request: Acquire, origin: Origin = NOBODY
    ) -> Acquired | NotAcquired | Refused:
        asked = self._behind_waiters(key, request)
        return cast("Acquired | NotAcquired | Refused", await self._rounds.ask(key, asked, origin))

    async def acquire_waiting(
        self, key: Key, request: Acquire, wait_seconds: float, origin: Origin = NOBODY
    ) -> Waited:
        """As `acquire`, but wait in line for the lease. Cancelled, it leaves no grant behind."""
        return await self._waiters.acquire(key, request, wait_seconds, origin)

    async def give_back(self, key: Key, granted: Acquired, origin: Origin = NOBODY) -> None:
        """Release a grant that could not be told to whoever asked for it."""
        await self._waiters.give_back(key, granted, origin)

    async def many(self, operations: Sequence[Operation]) -> list[Answer]:
        """Carry out many operations in one round, those on one lease in order; a fault is an answer too."""
        if self._waiters.any:
            operations = [self._behind(each) for each in operations]
        return await self._rounds.submit(operations)

    async def renew_many(self, asked: Mapping[Key, Renew]) -> AllRenewed | list[Answer]:
        """As `many`, for renewals of as many leases: a large number of them is a round of its own."""
        if len(asked) < WORTH_IT:
            return await self._rounds.submit([Operation(key, request) for key, request in asked.items()])
        return await self._renewing.renew(asked)

    def _behind(self, operation: Operation) -> Operation:
        if isinstance(operation.request, Acquire) and isinstance(operation.target, Key):
            return replace(operation, request=self._behind_waiters(operation.target, operation.request))
        return operation

    def end_waiting(self) -> None:
        """The server stops: who waits or watches is let go, and nobody does so from now on."""
        self._waiters.end()
        self.feed.end()

    def _behind_waiters(self, key: Key, request: Acquire) -> Acquire:
        """Who does not wait takes nothing from those who do."""
        return replace(request, keep_only=True) if self._waiters.waited_for(key) else request

    async def renew(self, key: Key, request: Renew, origin: Origin = NOBODY) -> Renewed | Lost | Refused:
        return cast("Renewed | Lost | Refused", await self._rounds.ask(key, request, origin))

    async def release(self, key: Key, request: Release, origin: Origin = NOBODY) -> Released | Refused:
        return cast("Released | Refused", await self._rounds.ask(key, request, origin))

    async def force_release(
        self, key: Key, request: ForceRelease, origin: Origin = NOBODY
    ) -> Forced | Refused:
        return cast("Forced | Refused", await self._rounds.ask(key, request, origin))

    async def open_session(self, request: OpenSession) -> SessionOutcome:
        return await self._ask_session(request.id, request)

    async def renew_session(self, session: str) -> SessionOutcome:
        return await self._ask_session(session, RenewSession())

    async def end_session(self, session: str, how: SessionEnd, origin: Origin = NOBODY) -> SessionOutcome:
        return await self._ask_session(session, EndSession(how), origin)

    async def session_holder(self, session: str) -> str | None:
        """Whose session it is, None where there is none. It never changes, so it is kept once known."""
        holder = self._session_holders.get(session)
        if holder is None:
            seen = (await self._store.read((), [session])).sessions.get(session)
            if seen is None:
                return None
            holder = seen.session.holder
            if len(self._session_holders) >= SESSION_HOLDERS_MAX:
                self._session_holders.clear()
            self._session_holders[session] = holder
        return holder

    async def get_session(self, session: str) -> Reading:
        """A reading that holds the session, if there is one."""
        return await self._store.read((), [session])

    async def sessions(self, after: str | None, limit: int) -> Reading:
        """A reading of at most `limit` sessions beyond `after`, in the order of their ids."""
        return await self._store.sessions(after, limit)

    async def _ask_session(
        self, session: str, request: SessionRequest, origin: Origin = NOBODY
    ) -> SessionOutcome:
        (answer,) = await self._rounds.submit([Operation(session, request, origin)])
        if isinstance(answer, Exception):
            raise answer
        return cast("SessionOutcome", answer)

    async def get(self, key: Key) -> Observed:
        return (await self._store.read([key])).leases[key]

    async def page(self, namespace: str | None, after: Key | None, limit: int) -> Page:
        """At most `limit` leases beyond `after`, of one namespace or of all."""
        if namespace is not None:
            start = Key(namespace, "")
            after = start if after is None else max(after, start)
        items: list[Observed] = []
        # One more than asked for tells whether there is a next page.
        async with aclosing(self._store.scan(after, limit + 1)) as leases:
            async for observed in leases:
                if namespace not in (None, observed.key.namespace):
                    break
                items.append(observed)
        more = len(items) > limit
        return Page(items[:limit], items[limit - 1].key if more else None)

    async def ping(self) -> None:
        await self._store.ping()


class _Telling:
    """Who hears of what the register has found and of the changes it has seen."""

    def __init__(self, audit: Audit, feed: Feed, limits: Limits) -> None:
        self._audit = audit
        self._feed = feed
        self._limits = limits
        self.others: Others | None = None

    def found(self, observed: Observed) -> None:
        self._limits.holdings.note_found(observed)
        if self.others is not None:
            self.others.note_found(observed)

    def changed_here(self, change: Ownership, origin: Origin) -> None:
        """Asked of this server, and so in its audit."""
        self._audit.tell(change, origin)
        if self.others is not None:
            self.others.note(change)
        self.changed(change)

    def changed(self, change: Ownership) -> None:
        self._limits.holdings.note(change)
        self._feed.tell(change)


@asynccontextmanager
async def open_leases(
    store: Store,
    *,
    clock: Clock,
    rng: Random,
    logger: Logger,
    audit: Logger,
    sweeping: Sweeping,
    limits: Limits,
    encode: Callable[[Ownership, str], bytes],
    gather_seconds: float = 0,
    shared: SharedStore | None = None,
    recall: Recall | None = None,
) -> AsyncGenerator[LeaseService]:
    """The service; its tasks run as long as the body does and end after it.

    `encode` makes the line in which a change is told to watchers, from the change and its revision. For
    `gather_seconds` and `recall` see `Rounds`. `shared` is the store where other servers may write to it as
    well.
    """

    def on_write(change: Change) -> None:
        register.note(change)
        if isinstance(change, SessionChange):
            sweeper.note_session(change.session)

    feed = Feed(incarnation=clock.wall_us(), encode=encode)
    telling = _Telling(Audit(audit), feed, limits)
    rounds = Rounds(
        store,
        rng=rng,
        on_change=on_write,
        on_renewals=lambda renewed, tenures: register.note_renewals(renewed, tenures),
        gather_seconds=gather_seconds,
        recall=recall,
    )
    renewing = Renewing(store, rounds, recall=recall)
    sweeper = Sweeper(store, rounds, clock=clock, logger=logger, sweeping=sweeping)
    waiters = Waiters(rounds, look=lambda key, in_us: register.look(key, in_us))
    register = Register(
        store,
        clock=clock,
        logger=logger,
        on_found=telling.found,
        on_change=telling.changed_here,
        on_opening=waiters.wake,
        on_left_over=sweeper.note_ended,
        is_writing=lambda target: rounds.is_writing(target) or renewing.is_writing(target),
        recall=recall,
    )
    if shared is not None:
        telling.others = Others(shared, register, logger=logger, on_change=telling.changed, recall=recall)
    async with open_service_nursery() as nursery:
        if telling.others is not None:
            nursery.start_soon(telling.others.run)
        nursery.start_soon(rounds.run)
        nursery.start_soon(register.run)
        nursery.start_soon(sweeper.run)
        yield LeaseService(store, rounds, renewing, waiters, feed, limits)
        nursery.cancel_scope.cancel()
