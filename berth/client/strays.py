"""Strays: leases that a late request has taken under a session, and that nobody knows of.

Owns which leases a session's holder may have taken without being told. By a ttl such a tenure ends soon;
under a session it would stand for as long as that. So for a while after each request the lease is looked
at, and given back if it is the session's and not the holder's.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

import trio

from berth.client.errors import BerthError
from berth.wire.shapes import LeaseObject

LATE_SECONDS = 60.0
"""So long after it was given up a request may still arrive."""

WATCHED_MAX = 10_000

Key = tuple[str, str]


class Calls(Protocol):
    async def get_lease(self, namespace: str, name: str) -> LeaseObject: ...

    async def release(self, namespace: str, name: str, *, holder: str, fencing_token: int) -> None: ...


class Asking:
    """One request for a lease. `held` says afterwards whether the holder has it; None: that is not known."""

    held: bool | None = None


class Strays:
    """The leases that `holder` has asked for under `session`, other than those that it holds."""

    def __init__(self, calls: Calls, session: str, holder: str) -> None:
        self._calls = calls
        self._session = session
        self._holder = holder
        self._until: dict[Key, float] = {}
        self._held: set[Key] = set()
        self._asked: dict[Key, int] = {}
        """How many requests for a watched lease have begun; who looks meanwhile may see what they made."""
        self._under_way: list[Key] = []

    @contextmanager
    def asking(self, namespace: str, name: str) -> Generator[Asking]:
        """Around a request to take the lease or to give it up."""
        key, asking = (namespace, name), Asking()
        self._asked[key] = self._asked.get(key, 0) + 1
        self._under_way.append(key)
        try:
            yield asking
        finally:
            self._under_way.remove(key)
            if asking.held is not None:
                (self._held.add if asking.held else self._held.discard)(key)
            self._until[key] = trio.current_time() + LATE_SECONDS
            if len(self._until) > WATCHED_MAX:
                self._forget(next(iter(self._until)))

    async def give_back(self) -> None:
        """Look at each lease that may have been taken by mistake. What goes wrong is tried again later."""
        for key, until in list(self._until.items()):
            if key in self._held or key in self._under_way:
                continue
            asked = self._asked.get(key)
            try:
                lease = await self._calls.get_lease(*key)
                for tenure in lease.holders:
                    if tenure.session == self._session and asked == self._asked.get(key):
                        token = tenure.fencing_token
                        await self._calls.release(*key, holder=self._holder, fencing_token=token)
            except BerthError:
                continue
            if trio.current_time() > until and key not in self._under_way:
                self._forget(key)

    def _forget(self, key: Key) -> None:
        self._until.pop(key, None)
        self._asked.pop(key, None)
