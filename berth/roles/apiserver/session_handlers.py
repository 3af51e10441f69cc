"""Session handlers: what the operations on sessions do.

A session is renewed and ended by its holder's tenant; an admin may end any. One that is over, or was never
there, is told as a loss and not as an error.
"""

import re
import secrets

from berth.core.records import SessionSeen
from berth.core.sessions import SessionAlive
from berth.roles.apiserver import paging
from berth.roles.apiserver.ask import Ask, Handler
from berth.service.leases import LeaseService
from berth.wire import checks, replies, routes
from berth.wire.problems import Failure
from berth.wire.shapes import SessionBody, SessionList, SessionObject

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class SessionHandlers:
    """The operations on sessions, by id."""

    def __init__(self, leases: LeaseService, *, bounds: checks.TtlBounds) -> None:
        self._leases = leases
        self._bounds = bounds
        self.by_operation: dict[str, Handler] = {
            routes.OPEN_SESSION.id: self._open,
            routes.RENEW_SESSION.id: self._renew,
            routes.END_SESSION.id: self._end,
            routes.GET_SESSION.id: self._get,
            routes.LIST_SESSIONS.id: self._list,
        }

    async def _open(self, ask: Ask) -> object:
        body: SessionBody = await ask.read_body()
        request = checks.session_request(secrets.token_hex(16), body, self._bounds)
        ask.authorize(request.holder)
        outcome = await self._leases.open_session(request)
        assert isinstance(outcome, SessionAlive)
        return replies.session_reply(request.id, outcome)

    async def _renew(self, ask: Ask) -> object:
        await ask.read_body()
        session = ask.parts["id"]
        holder = await self._holder(session)
        ask.authorize(holder)
        if holder is None:
            return SessionObject(session, False, reason="unknown")
        return replies.session_reply(session, await self._leases.renew_session(session))

    async def _end(self, ask: Ask) -> object:
        session = ask.parts["id"]
        holder = await self._holder(session)
        admin = ask.identity.role == "admin"
        ask.authorize(None if admin else holder)
        if holder is not None:
            clean = ask.identity.speaks_for(holder)
            await self._leases.end_session(session, "clean" if clean else "forced", ask.origin())
        return None

    async def _get(self, ask: Ask) -> object:
        ask.authorize()
        session = ask.parts["id"]
        reading = await self._leases.get_session(session) if _ID.fullmatch(session) else None
        seen = reading.sessions.get(session) if reading else None
        if reading is None or seen is None:
            raise Failure("not_found", "there is no such session")
        return replies.session_object(seen, reading.at_us)

    async def _list(self, ask: Ask) -> object:
        """A page holds what matches among so many sessions; it may hold less than asked for, and go on."""
        ask.authorize()
        limit, after = paging.limit(ask.query), paging.after(ask.query)
        reading = await self._leases.sessions(after, limit + 1)
        page = list(reading.sessions.values())
        more = len(page) > limit
        wanted = {name: text for name in ("holder", "instance") if (text := ask.query.get(name)) is not None}
        items = [
            replies.session_object(seen, reading.at_us) for seen in page[:limit] if _matches(seen, wanted)
        ]
        return SessionList(items, paging.token(page[limit - 1].session.id) if more else "")

    async def _holder(self, session: str) -> str | None:
        return await self._leases.session_holder(session) if _ID.fullmatch(session) else None


def _matches(seen: SessionSeen, wanted: dict[str, str]) -> bool:
    return all(getattr(seen.session, name) == text for name, text in wanted.items())
