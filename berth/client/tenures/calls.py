"""Calls: what of the client is needed to keep tenures; `BerthClient` has it."""

from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from berth.client.batches import AcquireRequest, ReleaseRequest
from berth.client.errors import BerthError
from berth.client.watching import Watchable
from berth.wire.shapes import AcquireReply, SessionObject


class Calls(Watchable, Protocol):
    async def acquire_many(self, requests: Iterable[AcquireRequest]) -> list[AcquireReply | BerthError]: ...

    async def release_many(self, requests: Iterable[ReleaseRequest]) -> list[BerthError | None]: ...

    async def open_session(self, *, holder: str, ttl_seconds: int, instance: str = "") -> SessionObject: ...

    async def renew_session(self, session: str) -> SessionObject: ...

    async def end_session(self, session: str) -> None: ...

    def list_sessions(
        self, *, holder: str | None = None, instance: str | None = None
    ) -> AsyncIterator[SessionObject]: ...
