"""Holding on a mocked clock: its calls, straight into a real lease service, over a network that a test can
spoil.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

import trio
import trio.testing

from berth.client import Conflict, NotFound, OutcomeUnknown, hold
from berth.core.names import Key
from berth.core.requests import Acquire, Acquired, Refused, Release, Renew
from berth.core.sessions import OpenSession
from berth.service.leases import LeaseService
from berth.service.waiters import Waited
from berth.store.memory import MemoryStore
from berth.wire.problems import refusal
from berth.wire.replies import acquire_reply, lease_object, renew_reply, session_reply
from berth.wire.shapes import AcquireReply, LeaseObject, Semantics, SessionObject
from tests.support.clocks import TrioClock
from tests.support.service import opened

KEY = Key("team", "db")
TTL = 12  # budget 3, heartbeat 4; the holder's lifetime is 11.976
Mocked = trio.testing.MockClock
SECOND_US = 1_000_000
T = TypeVar("T")


class NodeClock(TrioClock):
    """A node's clocks: Trio's time, and what a test adds to it."""

    def __init__(self) -> None:
        self.suspended_us = 0
        self.wall_step_us = 0

    def boot_us(self) -> int:
        return super().boot_us() + self.suspended_us

    def raw_us(self) -> int:
        return TrioClock.boot_us(self)

    def wall_us(self) -> int:
        return super().wall_us() + self.wall_step_us


@dataclass
class Weather:
    """What the network does to one call: how long the way takes, there and back, and what gets lost."""

    there_seconds: float = 0.0
    back_seconds: float = 0.0
    lost_there: bool = False
    lost_back: bool = False


class DirectLeases:
    """A client's calls. `weather` is asked before each, by its name; `log` keeps what reached the service."""

    def __init__(
        self, service: LeaseService, weather: Callable[[str], Weather] = lambda _: Weather()
    ) -> None:
        self._service = service
        self.weather = weather
        self._opened = 0
        self.log: list[tuple[float, str]] = []

    async def acquire(
        self,
        namespace: str,
        name: str,
        *,
        holder: str,
        ttl_seconds: int | None = None,
        session: str | None = None,
        semantics: Semantics | None = None,
        max_holders: int | None = None,
        lock_delay_seconds: int | None = None,
        wait_seconds: int | None = None,
    ) -> AcquireReply:
        request = Acquire(
            holder,
            (ttl_seconds or 0) * SECOND_US,
            session,
            semantics=semantics or "at-most-once",
            max_holders=max_holders,
            lock_delay_us=(lock_delay_seconds or 0) * SECOND_US,
        )
        key = Key(namespace, name)
        if wait_seconds:
            return await self._waited(key, request, wait_seconds)
        outcome = await self._call("acquire", lambda: self._service.acquire(key, request))
        return acquire_reply(_granted(outcome))

    async def _waited(self, key: Key, request: Acquire, wait_seconds: int) -> AcquireReply:
        """A wait; a grant is taken back when its reply finds nobody any more, as by the API server."""
        waited: Waited | None = None

        async def wait() -> Waited:
            nonlocal waited
            waited = await self._service.acquire_waiting(key, request, wait_seconds)
            return waited

        try:
            outcome, position = await self._call("wait", wait)
        except trio.Cancelled:
            if waited is not None and isinstance(waited.outcome, Acquired):
                await self._service.give_back(key, waited.outcome)
            raise
        assert outcome is not None
        return acquire_reply(_granted(outcome), position=position)

    async def renew(
        self, namespace: str, name: str, *, holder: str, fencing_token: int, ttl_seconds: int
    ) -> AcquireReply:
        request = Renew(holder, fencing_token, ttl_seconds * SECOND_US)
        outcome = await self._call("renew", lambda: self._service.renew(Key(namespace, name), request))
        return renew_reply(_granted(outcome))

    async def release(self, namespace: str, name: str, *, holder: str, fencing_token: int) -> None:
        request = Release(holder, fencing_token)
        _granted(await self._call("release", lambda: self._service.release(Key(namespace, name), request)))

    async def get_lease(self, namespace: str, name: str) -> LeaseObject:
        observed = await self._call("get", lambda: self._service.get(Key(namespace, name)))
        lease = lease_object(observed)
        if lease is None:
            raise NotFound("never used", status=404, code="not_found")
        return lease

    async def open_session(self, *, holder: str, ttl_seconds: int, instance: str = "") -> SessionObject:
        self._opened += 1
        request = OpenSession(f"{holder}-{self._opened}", holder, instance, ttl_seconds * SECOND_US)
        outcome = await self._call("open", lambda: self._service.open_session(request))
        return session_reply(request.id, outcome)

    async def renew_session(self, session: str) -> SessionObject:
        outcome = await self._call("renew", lambda: self._service.renew_session(session))
        return session_reply(session, outcome)

    async def end_session(self, session: str) -> None:
        await self._call("end", lambda: self._service.end_session(session, "clean"))

    async def _call(self, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        weather = self.weather(what)
        await trio.sleep(weather.there_seconds)
        if weather.lost_there:
            raise OutcomeUnknown("no reply")
        outcome = await ask()
        self.log.append((trio.current_time(), what))
        await trio.sleep(weather.back_seconds)
        if weather.lost_back:
            raise OutcomeUnknown("no reply")
        return outcome


def _granted(outcome: T | Refused) -> T:
    if isinstance(outcome, Refused):
        failure = refusal(outcome)
        raise Conflict(failure.text, status=failure.problem.status, code=failure.code)
    return outcome


def serving() -> AbstractAsyncContextManager[LeaseService]:
    return opened(MemoryStore(TrioClock()))


def holding(leases: DirectLeases, holder: str = "a", **terms: Any) -> Any:
    fields = {"holder": holder, "ttl_seconds": TTL, "instance": "", "clock": NodeClock(), "rng": Random(2)}
    return hold(leases, *KEY, **{**fields, **terms})


async def holder_of(service: LeaseService) -> str | None:
    record = (await service.get(KEY)).record
    return record.tenures[-1].holder if record and record.tenures else None


def cut_off_after(seconds: float, **weather: Any) -> Any:
    """Good weather until then; afterwards what is given, for every call."""
    until = trio.current_time() + seconds
    return lambda _: Weather(**weather) if trio.current_time() >= until else Weather()
