"""Keeping: the sessions that keep the tenures alive.

Owns which sessions there are: what a process before has left is gone on with, one is opened where there is
none, and each is renewed once a heartbeat for as long as something hangs on it. An outcome that is unknown is
asked for again soon, and changes nothing.
"""

from collections.abc import Iterator

import trio

from berth.client.errors import ApiError, BerthError, Unreachable
from berth.client.keeper import RETRY_SECONDS, soon
from berth.client.tenures.book import Book
from berth.client.tenures.calls import Calls
from berth.client.tenures.pauses import asked_pause_seconds
from berth.client.tenures.resuming import Resuming
from berth.client.tenures.seeing import Seeing
from berth.client.tenures.session import Group, Session
from berth.client.watching import list_whole
from berth.core.holding import elapsed_us
from berth.runtime.clock import MICROSECONDS
from berth.runtime.log import Logger
from berth.runtime.retry import backoff_seconds

FIRST_PAUSE_SECONDS = 0.2
PAUSE_MAX_SECONDS = 5.0

ADOPTED_SECONDS = 60.0
"""So long a session that a process before has left is kept for leases that are wanted later."""


class Keeping:
    """`run` must be running for anything to be held."""

    def __init__(self, client: Calls, book: Book, seeing: Seeing, *, instance: str, logger: Logger) -> None:
        self._client = client
        self._book = book
        self._seeing = seeing
        self._instance = instance
        self._logger = logger
        self._resuming = Resuming(client, book, instance=instance)

    async def run(self) -> None:
        """See to every group that there is, and will be."""
        begun: set[tuple[str, int]] = set()
        async with trio.open_nursery() as nursery:
            while True:
                grown = self._book.grown
                for key, group in self._book.groups.items():
                    if key not in begun:
                        begun.add(key)
                        nursery.start_soon(self._keep_group, group, nursery)
                await grown.wait()

    async def end_idle(self) -> None:
        """End the sessions under which nothing is held or wanted. What goes wrong is logged: they expire."""
        idle = [session for session in self._book.sessions.values() if not self._book.needs(session)]
        try:
            leases = (await list_whole(self._client)).items if idle else []
            used = {tenure.session for lease in leases for tenure in lease.holders}
            for session in idle:
                if session.id not in used:
                    await self._client.end_session(session.id)
                    if not session.gone.is_set():
                        self._book.over(session)
        except BerthError as fault:
            self._logger.warning("a session was not ended, and will expire", error=str(fault))

    async def _keep_group(self, group: Group, nursery: trio.Nursery) -> None:
        """See that there is a session while something is wanted."""
        pauses = self._pauses()
        while True:
            wanted = group.wanted
            if not self._book.wants(group):
                await wanted.wait()
                continue
            began = trio.current_time()
            try:
                session = await self._session(group, nursery)
            except BerthError as fault:
                self._book.no_session(group, str(fault))
                await trio.sleep(max(next(pauses), asked_pause_seconds(fault)))
                continue
            self._book.opened(session, group)
            await session.gone.wait()
            if trio.current_time() - began > PAUSE_MAX_SECONDS:
                pauses = self._pauses()
            else:
                await trio.sleep(next(pauses))

    async def _session(self, group: Group, nursery: trio.Nursery) -> Session:
        """One that there is already, or a new one."""
        for session in await self._resuming.left_by_others(group):
            self._logger.info("session resumed", session=session.id, holder=session.holder)
            nursery.start_soon(self._keep, session)
        for session in self._book.sessions.values():
            if (session.holder, session.ttl_seconds) == (group.holder, group.ttl_seconds):
                return session
        sent = self._book.now()
        opened = await self._client.open_session(
            holder=group.holder, ttl_seconds=group.ttl_seconds, instance=self._instance
        )
        self._logger.info("session opened", session=opened.id, holder=group.holder)
        session = Session(opened.id, group.holder, group.ttl_seconds, sent)
        nursery.start_soon(self._keep, session)
        return session

    async def _keep(self, session: Session) -> None:
        """Renew it until it is over, or nobody needs it any more."""
        began = trio.current_time()
        failures, least_pause_seconds = 0, 0.0
        while not session.gone.is_set():
            hurry = session.hurry
            session.heartbeat_seconds = self._book.heartbeat_seconds(session)
            soon_seconds = soon(min(RETRY_SECONDS, session.heartbeat_seconds / 4), self._book.rng)
            await trio.sleep(max(soon_seconds, least_pause_seconds))
            if not failures:
                since_sent_seconds = elapsed_us(session.sent, self._book.now()) / MICROSECONDS
                with trio.move_on_after(max(0.0, session.heartbeat_seconds - since_sent_seconds)):
                    await hurry.wait()
            if session.gone.is_set():
                return
            if trio.current_time() > began + ADOPTED_SECONDS and not self._book.needs(session):
                self._book.dropped(session)
                return
            fault = await self._beat(session, failures)
            failures = 0 if fault is None else failures + 1
            least_pause_seconds = 0.0
            if fault is not None:
                least_pause_seconds = min(asked_pause_seconds(fault), session.heartbeat_seconds)

    async def _beat(self, session: Session, failures: int) -> BerthError | None:
        """Renew once, and take up what the server says. What is answered is why that is not known."""
        sent = self._book.now()
        alive: bool | None = None
        fault: BerthError = Unreachable(f"no answer within {session.heartbeat_seconds:g} s")
        with trio.move_on_after(session.heartbeat_seconds) as patience:
            try:
                alive = (await self._client.renew_session(session.id)).alive
            except BerthError as raised:
                fault = raised
        if session.gone.is_set():
            return None
        if alive:
            self._book.renewed(session, sent, confirm=self._seeing.is_deaf(session.heartbeat_seconds))
            return None
        if alive is False:
            self._logger.warning("session lost", session=session.id, holder=session.holder)
            self._book.over(session)
            return None
        if failures or patience.cancelled_caught or isinstance(fault, ApiError):
            self._book.silent(session, str(fault))
        return fault

    def _pauses(self) -> Iterator[float]:
        return backoff_seconds(
            self._book.rng, first_seconds=FIRST_PAUSE_SECONDS, cap_seconds=PAUSE_MAX_SECONDS
        )
