"""Watch: changes of ownership as they happen, as JSON lines, for as long as the caller reads.

Owns the rhythm of a stream: a bookmark first, then whatever happens, and a bookmark at least every so
often. It ends after a bookmark when the server stops, and breaks off when the caller has read too slowly
for what was kept.
"""

from collections.abc import Callable

import trio

from berth.roles.apiserver.ask import Ask, Lines, limited
from berth.runtime.asgi import CutOff
from berth.service.feed import Cursor, Feed
from berth.service.leases import LeaseService
from berth.wire import replies
from berth.wire.problems import Failure
from berth.wire.routes import BOOKMARK_SECONDS

_YES_NO = {"": False, "false": False, "0": False, "true": True, "1": True}


def wanted(ask: Ask) -> bool:
    """Whether a list is to be watched."""
    text = ask.query.get("watch", "")
    if text not in _YES_NO:
        raise Failure("invalid_body", "watch must be true or false")
    asked = {name for name in ("limit", "continue", "revision") if ask.query.get(name)}
    if _YES_NO[text] and asked - {"revision"}:
        raise Failure("invalid_body", "limit and continue do not go with watch: list first, then watch")
    if not _YES_NO[text] and "revision" in asked:
        raise Failure("invalid_body", "revision goes with watch=true only")
    return _YES_NO[text]


class WatchHandlers:
    """Watching. `count` is told of each stream that begins (1) and ends (-1)."""

    def __init__(self, leases: LeaseService, *, count: Callable[[int], None]) -> None:
        self._leases = leases
        self._count = count

    async def watch(self, ask: Ask, namespace: str | None) -> Lines:
        """Changes in `namespace`, or in all. Permission and names have been checked."""
        ask.entry.route += "?watch=true"
        limits, feed = self._leases.limits, self._leases.feed
        if not ask.entry.closing.enter_context(limits.watching.one(ask.identity.tenant)):
            raise limited(limits, "watching")
        if feed.ended:
            raise Failure("shutting_down")
        cursor = feed.open(namespace, ask.query.get("revision") or None)
        if cursor is None:
            raise Failure("revision_too_old")
        self._count(1)
        ask.entry.closing.callback(self._count, -1)
        return Lines(_Watch(feed, cursor))


class _Watch:
    """The lines of one watch, in chunks."""

    def __init__(self, feed: Feed, cursor: Cursor) -> None:
        self._feed = feed
        self._cursor = cursor
        self._begun = False
        self._over = False

    def __aiter__(self) -> "_Watch":
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        if not self._begun:
            self._begun = True
            return self._bookmark()
        lines: list[bytes] = []
        with trio.move_on_after(BOOKMARK_SECONDS):
            while not lines and not self._feed.exhausted(self._cursor):
                more = await self._feed.more(self._cursor)
                if more is None:
                    raise CutOff("the reader is too slow")
                lines = more
        self._over = not lines and self._feed.exhausted(self._cursor)
        return b"".join(lines) or self._bookmark()

    def _bookmark(self) -> bytes:
        return replies.bookmark_line(self._feed.revision_of(self._cursor))
