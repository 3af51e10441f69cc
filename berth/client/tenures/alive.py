"""Alive: sessions that are kept alive by who does not decide, for now, what becomes of their leases.

Owns their renewals and nothing else: no session is opened, and no lease is asked for or released. Promises a
renewal each heartbeat, for as long as the server says that the session is alive.
"""

from collections.abc import Collection
from typing import NamedTuple

import trio

from berth.client.errors import BerthError
from berth.client.keeper import RETRY_SECONDS
from berth.client.tenures.calls import Calls
from berth.runtime.log import Logger


class Kept(NamedTuple):
    """A session to keep, and how often."""

    id: str
    heartbeat_seconds: float


async def keep_alive(client: Calls, sessions: Collection[Kept], *, logger: Logger) -> None:
    """Until all of them are over, or it is cancelled: then they are left as they are."""
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(_keep, client, session, logger)


async def _keep(client: Calls, session: Kept, logger: Logger) -> None:
    while True:
        pause_seconds = min(RETRY_SECONDS, session.heartbeat_seconds / 4)
        with trio.move_on_after(session.heartbeat_seconds):
            try:
                alive = (await client.renew_session(session.id)).alive
            except BerthError as fault:
                logger.warning("session not renewed yet", session=session.id, error=str(fault))
            else:
                if not alive:
                    logger.warning("session lost", session=session.id)
                    return
                pause_seconds = session.heartbeat_seconds
        await trio.sleep(pause_seconds)
