"""Hold session: many leases that live and end together, at the cost of one renewal.

Owns the life of one session from opening to end, and the leases acquired under it. All of them have the
session's deadline: from the sending of its last renewal that was granted, or of its opening. An acquire under
it moves nothing. When the session is lost the work is cancelled, and everything under it is lost with it.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Protocol

import trio

from berth.client.errors import BerthError
from berth.client.held import Deadline, reader_of
from berth.client.hold import budget_us, new_instance
from berth.client.keeper import kept
from berth.client.strays import Strays
from berth.core.holding import Holding, Reading
from berth.runtime.clock import MICROSECONDS, Clock, SystemClock
from berth.runtime.supervise import alongside
from berth.wire.shapes import AcquireReply, LeaseObject, Semantics, SessionObject


class Sessions(Protocol):
    """The calls that holding a session needs; `BerthClient` has them."""

    async def open_session(self, *, holder: str, ttl_seconds: int, instance: str = "") -> SessionObject: ...

    async def renew_session(self, session: str) -> SessionObject: ...

    async def end_session(self, session: str) -> None: ...

    async def acquire(
        self,
        namespace: str,
        name: str,
        *,
        holder: str,
        session: str | None = None,
        semantics: Semantics | None = None,
        max_holders: int | None = None,
        lock_delay_seconds: int | None = None,
        wait_seconds: int | None = None,
    ) -> AcquireReply: ...

    async def release(self, namespace: str, name: str, *, holder: str, fencing_token: int) -> None: ...

    async def get_lease(self, namespace: str, name: str) -> LeaseObject: ...


class HeldSession(Deadline):
    """A session that is held, and the leases under it. Its deadline is theirs."""

    def __init__(
        self, sessions: Sessions, opened: SessionObject, holding: Holding, now: Callable[[], Reading]
    ) -> None:
        super().__init__(f"session {opened.id}", holding, now)
        self.id = opened.id
        self.holder = opened.holder
        self._sessions = sessions
        self._strays = Strays(sessions, opened.id, opened.holder)

    async def acquire(
        self,
        namespace: str,
        name: str,
        *,
        semantics: Semantics | None = None,
        max_holders: int | None = None,
        lock_delay_seconds: int | None = None,
        wait_seconds: int | None = None,
    ) -> AcquireReply:
        """Take a lease under the session; see `BerthClient.acquire`. LeaseLost: the session is."""
        self.check()
        with self._strays.asking(namespace, name) as asking:
            reply = await self._sessions.acquire(
                namespace,
                name,
                holder=self.holder,
                session=self.id,
                semantics=semantics,
                max_holders=max_holders,
                lock_delay_seconds=lock_delay_seconds,
                wait_seconds=wait_seconds,
            )
            asking.held = reply.acquired
        self.check()
        return reply

    async def release(self, namespace: str, name: str, *, fencing_token: int) -> None:
        """Give one lease up. Whoever does this has stopped what ran under it."""
        with self._strays.asking(namespace, name) as asking:
            asking.held = False  # whatever comes of it, for nothing runs under it any more
            await self._sessions.release(namespace, name, holder=self.holder, fencing_token=fencing_token)

    async def take_in_strays(self) -> None:
        """Give back, for as long as it runs, what a late request has taken and nobody holds."""
        while True:
            await trio.sleep(self.holding.ttl_us / MICROSECONDS / 3)
            await self._strays.give_back()


@asynccontextmanager
async def hold_session(
    sessions: Sessions,
    *,
    holder: str,
    ttl_seconds: int = 30,
    instance: str | None = None,
    stop_budget_seconds: float | None = None,
    on_danger: Callable[[float], None] | None = None,
    clock: Clock | None = None,
    rng: Random | None = None,
) -> AsyncGenerator[HeldSession]:
    """Hold a session while the body runs, and end it after: then all leases under it are free.

    The arguments are `hold`'s. `instance` tells this process from others of the same holder. What cannot be
    opened raises what `BerthClient.open_session` raises; LeaseLost is raised once the body has stopped.
    """
    now = reader_of(clock or SystemClock())
    sent = now()
    opened = await sessions.open_session(
        holder=holder,
        ttl_seconds=ttl_seconds,
        instance=new_instance() if instance is None else instance,
    )
    holding = Holding(0, ttl_seconds * MICROSECONDS, budget_us(ttl_seconds, stop_budget_seconds), sent)
    held = HeldSession(sessions, opened, holding, now)
    pulse = _SessionPulse(sessions, opened.id, ttl_seconds / 3)
    async with (
        kept(held, pulse, rng=rng or Random(), on_danger=on_danger),
        alongside(held.take_in_strays),
    ):
        yield held


class _SessionPulse:
    """The pulse of one session."""

    def __init__(self, sessions: Sessions, session: str, heartbeat_seconds: float) -> None:
        self.heartbeat_seconds = heartbeat_seconds
        self._sessions = sessions
        self._session = session

    async def renew(self) -> bool | None:
        try:
            return (await self._sessions.renew_session(self._session)).alive
        except BerthError:
            return None

    async def give_up(self) -> None:
        try:
            await self._sessions.end_session(self._session)
        except BerthError:
            pass
