"""Leases: the service over a store, as the roles use it.

Owns the wiring of store, rounds and sweeper, and the reads that change nothing. It knows neither HTTP nor
who is asking.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from random import Random
from typing import NamedTuple, cast

from berth.core.names import Key
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
from berth.service.rounds import Change, Operation, Rounds
from berth.service.sweeper import Sweeper, Sweeping
from berth.store.api import Reading, Store

SESSION_HOLDERS_MAX = 10_000


class Page(NamedTuple):
    """`after` is where the next page begins, None when there is none."""

    items: list[Observed]
    after: Key | None


class LeaseService:
    """Everything a role may do with leases. Made by `open_leases`. Every call may raise `StoreFault`."""

    def __init__(self, store: Store, rounds: Rounds, clock: Clock) -> None:
        self._store = store
        self._rounds = rounds
        self._incarnation = clock.wall_us()
        self._changes = 0
        self._session_holders: dict[str, str] = {}

    async def acquire(self, key: Key, request: Acquire) -> Acquired | NotAcquired | Refused:
        return cast("Acquired | NotAcquired | Refused", await self._rounds.ask(key, request))

    async def renew(self, key: Key, request: Renew) -> Renewed | Lost | Refused:
        return cast("Renewed | Lost | Refused", await self._rounds.ask(key, request))

    async def release(self, key: Key, request: Release) -> Released | Refused:
        return cast("Released | Refused", await self._rounds.ask(key, request))

    async def force_release(self, key: Key, request: ForceRelease) -> Forced | Refused:
        return cast("Forced | Refused", await self._rounds.ask(key, request))

    async def open_session(self, request: OpenSession) -> SessionOutcome:
        return await self._ask_session(request.id, request)

    async def renew_session(self, session: str) -> SessionOutcome:
        return await self._ask_session(session, RenewSession())

    async def end_session(self, session: str, how: SessionEnd) -> SessionOutcome:
        return await self._ask_session(session, EndSession(how))

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

    async def _ask_session(self, session: str, request: SessionRequest) -> SessionOutcome:
        (answer,) = await self._rounds.submit([Operation(session, request)])
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

    @property
    def revision(self) -> str:
        """Sorts as text, grows with every change, and is this process's own."""
        return f"{self._incarnation:016x}-{self._changes:016x}"

    def note(self, change: Change) -> None:
        """A lease was written."""
        del change
        self._changes += 1


@asynccontextmanager
async def open_leases(
    store: Store, *, clock: Clock, rng: Random, logger: Logger, sweeping: Sweeping
) -> AsyncGenerator[LeaseService]:
    """The service; its tasks run as long as the body does and end after it."""
    listeners: list[Callable[[Change], None]] = []

    def on_change(change: Change) -> None:
        for listener in listeners:
            listener(change)

    rounds = Rounds(store, rng=rng, on_change=on_change)
    service = LeaseService(store, rounds, clock)
    listeners.append(service.note)
    async with open_service_nursery() as nursery:
        nursery.start_soon(rounds.run)
        if sweeping.interval_seconds > 0:
            sweeper = Sweeper(store, rounds, clock=clock, logger=logger, sweeping=sweeping)
            listeners.append(sweeper.note)
            nursery.start_soon(sweeper.run)
        yield service
        nursery.cancel_scope.cancel()
