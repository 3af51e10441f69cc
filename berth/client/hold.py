"""Hold: work that runs only while a lease is held.

Owns how a lease is got, and the calls that keep its tenure. When it is lost the work is cancelled in time, by
a deadline that counts from before a request was sent, on the machine's fastest clock, less the time that
stopping takes; only when the work has stopped the lease is released. An outcome that is unknown neither
prolongs the tenure nor ends it.

It cannot stop code that does not reach a checkpoint of Trio, nor a process that is paused after its last
`held.check()`: only the target can, by refusing a late token (`berth.client.fencing`).
"""

import os
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from math import inf
from random import Random
from typing import Protocol

import trio
from msgspec import Struct

from berth.client.errors import BerthError, Conflict, LeaseNotAcquired
from berth.client.held import Held, reader_of
from berth.client.keeper import beat, kept, soon
from berth.client.waiting import granted
from berth.core.holding import Holding, Reading, lifetime_us, stop_budget_us
from berth.runtime.clock import MICROSECONDS, Clock, SystemClock
from berth.wire.shapes import AcquireReply, Semantics

LAST_WORD_SECONDS = 1.0
"""How long a cancelled acquire waits for its reply."""


class Leases(Protocol):
    """The calls that holding needs; `BerthClient` has them."""

    async def acquire(
        self,
        namespace: str,
        name: str,
        *,
        holder: str,
        ttl_seconds: int | None = None,
        semantics: Semantics | None = None,
        max_holders: int | None = None,
        lock_delay_seconds: int | None = None,
        wait_seconds: int | None = None,
    ) -> AcquireReply: ...

    async def renew(
        self, namespace: str, name: str, *, holder: str, fencing_token: int, ttl_seconds: int
    ) -> AcquireReply: ...

    async def release(self, namespace: str, name: str, *, holder: str, fencing_token: int) -> None: ...


def new_instance() -> str:
    """What tells this holder from every other that uses the same name: the process, and chance."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def budget_us(ttl_seconds: int, stop_budget_seconds: float | None) -> int:
    """The time kept for stopping: what was asked for, else 5 s, or a quarter of a short ttl.

    Raises ValueError for one that leaves no time to work, or more than there is.
    """
    if stop_budget_seconds is None:
        return stop_budget_us(ttl_seconds * MICROSECONDS)
    asked_us = round(stop_budget_seconds * MICROSECONDS)
    if not 0 <= asked_us < lifetime_us(ttl_seconds * MICROSECONDS):
        raise ValueError(
            f"stop_budget_seconds must be from 0 to less than the ttl, got {stop_budget_seconds}"
        )
    return asked_us


@asynccontextmanager
async def hold(
    leases: Leases,
    namespace: str,
    name: str,
    *,
    holder: str,
    ttl_seconds: int = 30,
    instance: str | None = None,
    wait_seconds: float = inf,
    semantics: Semantics = "at-most-once",
    max_holders: int | None = None,
    lock_delay_seconds: int | None = None,
    stop_budget_seconds: float | None = None,
    on_danger: Callable[[float], None] | None = None,
    clock: Clock | None = None,
    rng: Random | None = None,
) -> AsyncGenerator[Held]:
    """Hold the lease while the body runs.

    Waits for the lease, for ever unless `wait_seconds` says otherwise; then it is LeaseNotAcquired. When the
    lease is lost the body is cancelled, and once it has stopped LeaseLost is raised in its place. The holder
    is `holder:instance`, with an instance of its own unless one is given ("" for none): two holders of one
    name would not exclude each other.

    `stop_budget_seconds` is how long before the tenure's end the body is cancelled: 5 s, or a quarter of a
    short ttl. `on_danger` is called with the seconds that remain when they are less than a heartbeat, a third
    of the ttl, and again only after a renewal went through. An at-least-once lease is lost only when the
    server says so.
    """
    mark = new_instance() if instance is None else instance
    terms = Terms(
        namespace,
        name,
        f"{holder}:{mark}" if mark else holder,
        ttl_seconds,
        semantics,
        max_holders,
        lock_delay_seconds,
        budget_us(ttl_seconds, stop_budget_seconds),
    )
    rng = rng or Random()
    now = reader_of(clock or SystemClock())
    held = await _acquired(leases, terms, wait_seconds, now, rng)
    async with kept(held, _Tenure(leases, terms, held.token), rng=rng, on_danger=on_danger):
        yield held


class Terms(Struct, frozen=True):
    """What is asked for."""

    namespace: str
    name: str
    holder: str
    ttl_seconds: int
    semantics: Semantics
    max_holders: int | None
    lock_delay_seconds: int | None
    budget_us: int


async def _acquired(
    leases: Leases, terms: Terms, wait_seconds: float, now: Callable[[], Reading], rng: Random
) -> Held:
    """Ask until the lease is granted with time left to work; at least once.

    Raises LeaseNotAcquired, and at once what no waiting mends.
    """
    give_up = trio.current_time() + wait_seconds
    sent = now()

    async def ask(at_server_seconds: int) -> AcquireReply:
        nonlocal sent
        sent = now()
        return await _asked(leases, terms, at_server_seconds)

    while True:
        reply = await granted(
            ask,
            f"{terms.namespace}/{terms.name}",
            ttl_seconds=terms.ttl_seconds,
            wait_seconds=max(0.0, give_up - trio.current_time()),
            rng=rng,
        )
        held = _held(terms, reply.fencing_token, sent, now)
        if await _leaves_time(held, _Tenure(leases, terms, held.token), rng):
            return held
        if trio.current_time() >= give_up:
            slow = "the server answers too slowly for the ttl"
            raise LeaseNotAcquired(f"{terms.namespace}/{terms.name}: {slow}", reply)


async def _leaves_time(held: Held, tenure: "_Tenure", rng: Random) -> bool:
    """Whether the work can start. Where the way to the grant has used up most of the time, it is renewed
    first; who is cancelled meanwhile gives it back."""
    fresh_us = lifetime_us(held.holding.ttl_us) - held.holding.budget_us
    try:
        if held.holding.deadline and held.remaining() * MICROSECONDS < fresh_us / 2:
            while held.lost is None:
                if await beat(held, tenure) is not None:
                    break
                await trio.sleep(soon(tenure.heartbeat_seconds / 4, rng))
    except BaseException:
        with trio.move_on_after(LAST_WORD_SECONDS, shield=True):
            await tenure.give_up()
        raise
    return held.lost is None


async def _asked(leases: Leases, terms: Terms, at_server_seconds: int) -> AcquireReply:
    """One acquire. Cancelled under way, it waits a little for the reply and gives a grant back: nobody else
    could, for nobody else has the token. One that waits at the server is not answered just then; left, it is
    the server that takes a grant back."""
    began = trio.current_time()
    reply: AcquireReply | None = None
    fault: BerthError | None = None
    patience = trio.CancelScope(shield=True)

    async def hurry() -> None:
        try:
            await trio.sleep_forever()
        finally:
            patience.deadline = (began if at_server_seconds else trio.current_time()) + LAST_WORD_SECONDS

    through = False
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hurry)
            with patience:
                try:
                    reply = await _ask(leases, terms, at_server_seconds)
                except BerthError as raised:
                    fault = raised
            nursery.cancel_scope.cancel()
        through = True
    finally:
        if not through and reply is not None and reply.acquired:
            with trio.move_on_after(LAST_WORD_SECONDS, shield=True):
                await _Tenure(leases, terms, reply.fencing_token).give_up()
    if fault is not None:
        raise fault
    assert reply is not None
    return reply


async def _ask(leases: Leases, terms: Terms, at_server_seconds: int) -> AcquireReply:
    return await leases.acquire(
        terms.namespace,
        terms.name,
        holder=terms.holder,
        ttl_seconds=terms.ttl_seconds,
        semantics=terms.semantics,
        max_holders=terms.max_holders,
        lock_delay_seconds=terms.lock_delay_seconds,
        wait_seconds=at_server_seconds,
    )


def _held(terms: Terms, token: int, sent: Reading, now: Callable[[], Reading]) -> Held:
    exclusive = terms.semantics == "at-most-once"
    holding = Holding(token, terms.ttl_seconds * MICROSECONDS, terms.budget_us, sent, deadline=exclusive)
    return Held(terms.namespace, terms.name, terms.holder, holding, now)


class _Tenure:
    """The pulse of one tenure."""

    def __init__(self, leases: Leases, terms: Terms, token: int) -> None:
        self.heartbeat_seconds = terms.ttl_seconds / 3
        self._leases = leases
        self._terms = terms
        self._token = token

    async def renew(self) -> bool | None:
        try:
            reply = await self._leases.renew(
                self._terms.namespace,
                self._terms.name,
                holder=self._terms.holder,
                fencing_token=self._token,
                ttl_seconds=self._terms.ttl_seconds,
            )
        except Conflict:
            return False
        except BerthError:
            return None
        return reply.acquired

    async def give_up(self) -> None:
        try:
            await self._leases.release(
                self._terms.namespace,
                self._terms.name,
                holder=self._terms.holder,
                fencing_token=self._token,
            )
        except BerthError:
            pass
