"""Resuming: what a process before has left at the server, and this one goes on with.

Owns the search for it, once for each holder. A session of the same holder and instance is ours; it counts
from the sending of the first renewal that this process makes of it.
"""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import trio

from berth.client.tenures.book import Book
from berth.client.tenures.calls import Calls
from berth.client.tenures.session import Group, Session
from berth.client.tenures.terms import LeaseId
from berth.client.watching import list_whole
from berth.wire.shapes import SessionObject


class Resuming:
    def __init__(self, client: Calls, book: Book, *, instance: str) -> None:
        self._client = client
        self._book = book
        self._instance = instance
        self._holders: dict[str, trio.Lock] = {}
        self._done: set[str] = set()

    async def left_by_others(self, group: Group) -> list[Session]:
        """The sessions to go on with, for the first group of a holder: those under which leases of the holder
        are, the one with most of them first; else one of the group's ttl. They are in the book from then on.
        """
        async with self._holders.setdefault(group.holder, trio.Lock()):
            if group.holder in self._done:
                return []
            left = await self._alive(group.holder)
            leases: dict[LeaseId, str] = {}
            if [each.ttl_seconds for each in left] not in ([], [group.ttl_seconds]):
                leases = await self._leases(group.holder, {each.id for each in left})
            counts = Counter(leases.values())
            left.sort(key=lambda each: -counts[each.id])
            used = [each for each in left if counts[each.id]]
            if not any(each.ttl_seconds == group.ttl_seconds for each in used):
                used += [each for each in left if each.ttl_seconds == group.ttl_seconds][:1]
            resumed = [session for each in used if (session := await self._renewed(each)) is not None]
            for session in resumed:
                self._book.opened(session, None)
            for lease, session_id in leases.items():
                if session_id in self._book.sessions:
                    self._book.where[lease] = self._book.sessions[session_id]
            self._done.add(group.holder)
            return resumed

    async def _alive(self, holder: str) -> list[SessionObject]:
        listed = self._client.list_sessions(holder=holder, instance=self._instance)
        async with aclosing(cast("AsyncGenerator[SessionObject]", listed)) as sessions:
            return [each async for each in sessions if each.alive]

    async def _leases(self, holder: str, sessions: set[str]) -> dict[LeaseId, str]:
        return {
            LeaseId(lease.namespace, lease.name, holder): tenure.session
            for lease in (await list_whole(self._client)).items
            for tenure in lease.holders
            if tenure.holder == holder and tenure.session in sessions
        }

    async def _renewed(self, left: SessionObject) -> Session | None:
        sent = self._book.now()
        renewed = await self._client.renew_session(left.id)
        if not renewed.alive or not isinstance(left.ttl_seconds, int):
            return None
        return Session(left.id, left.holder, left.ttl_seconds, sent)
