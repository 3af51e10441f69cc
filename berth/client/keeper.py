"""Keeper: gets one tenure, keeps it alive, watches its deadline, gives it up.

Owns the calls and the pauses between them. Promises that a deadline counts from before the request that won
it, that what is unknown changes nothing, and that the work is cancelled in time. Who waits for the work to
stop before the release is `hold`.
"""

from collections.abc import Callable
from random import Random
from typing import Protocol

import trio
from msgspec import UNSET

from berth.client.errors import BerthError, Conflict, LeaseNotAcquired, OutcomeUnknown, Unreachable
from berth.client.held import Held, Terms
from berth.core.holding import Holding, Reading, refused, renewed
from berth.runtime.clock import MICROSECONDS, Clock
from berth.wire.shapes import AcquireReply, Semantics

LOOK_SECONDS = 1.0
"""Trio's clock stands still in suspend: the deadline is looked at by the other clocks at least this often."""

RELEASE_SECONDS = 5.0
RETRY_SECONDS = 1.0
"""The longest pause before a renewal whose outcome is unknown, or an acquire that failed, is tried again."""


class Leases(Protocol):
    """The calls that holding needs; `BerthClient` has them."""

    async def acquire(
        self,
        namespace: str,
        name: str,
        *,
        holder: str,
        ttl_seconds: int,
        semantics: Semantics | None,
        max_holders: int | None,
        lock_delay_seconds: int | None,
    ) -> AcquireReply: ...

    async def renew(
        self, namespace: str, name: str, *, holder: str, fencing_token: int, ttl_seconds: int
    ) -> AcquireReply: ...

    async def release(self, namespace: str, name: str, *, holder: str, fencing_token: int) -> None: ...


class Keeper:
    """The calls and tasks behind one `Held`."""

    def __init__(
        self,
        leases: Leases,
        terms: Terms,
        clock: Clock,
        rng: Random,
        on_danger: Callable[[float], None] | None,
    ) -> None:
        self._leases = leases
        self._terms = terms
        self._clock = clock
        self._rng = rng
        self._on_danger = on_danger

    async def acquire(self, wait_seconds: float) -> Held:
        """Ask until the lease is granted with time left to work; at least once.

        Raises LeaseNotAcquired, and at once what no waiting mends.
        """
        give_up = trio.current_time() + wait_seconds
        while True:
            sent = self._now()
            try:
                reply = await self._ask()
                text = f"held by {reply.holder}" if reply.holder else f"not free yet ({reply.reason})"
                pause_seconds = self._pause_seconds(reply)
            except (Unreachable, OutcomeUnknown) as fault:
                reply, text, pause_seconds = None, str(fault), RETRY_SECONDS
            if reply is not None and reply.acquired:
                held = self._held(reply.fencing_token, sent)
                if held.lost is None:
                    return held
                # The reply took so long that nothing is left: ask again, as the live holder.
                text, pause_seconds = "the server answers too slowly for the ttl", 0.0
            if trio.current_time() >= give_up:
                raise LeaseNotAcquired(f"{self._terms.namespace}/{self._terms.name}: {text}", reply)
            await trio.sleep(min(self._soon(pause_seconds), max(0.0, give_up - trio.current_time())))

    async def keep_alive(self, held: Held) -> None:
        """Renew until the server refuses. It goes on while the work is being stopped: that may take time."""
        pause_seconds = self._terms.heartbeat_seconds
        while held.loss != "refused":
            await trio.sleep(pause_seconds)
            sent = self._now()
            granted = await self._renew(held)
            if granted is None:
                pause_seconds = self._soon(min(RETRY_SECONDS, self._terms.heartbeat_seconds / 4))
            elif granted:
                held.heard(renewed(held.holding, sent, self._now()))
                pause_seconds = self._terms.heartbeat_seconds
            else:
                held.heard(refused(held.holding))

    async def watch(self, held: Held, work: trio.CancelScope) -> None:
        """Cancel the work when the lease is lost, and warn before."""
        warned_of: Reading | None = None
        while held.lost is None:
            remaining_seconds = held.remaining()
            sent = held.holding.sent
            if remaining_seconds < self._terms.heartbeat_seconds and warned_of != sent:
                warned_of = sent
                if self._on_danger is not None:
                    self._on_danger(remaining_seconds)
            with trio.move_on_after(min(LOOK_SECONDS, max(remaining_seconds, 0.001))):
                await held.news.wait()
        work.cancel()

    async def release(self, held: Held) -> None:
        """Give the lease up if it may still be ours; if that fails it expires by itself."""
        if held.loss == "refused":
            return
        with trio.move_on_after(RELEASE_SECONDS, shield=True):
            try:
                await self._leases.release(
                    self._terms.namespace,
                    self._terms.name,
                    holder=self._terms.holder,
                    fencing_token=held.token,
                )
            except BerthError:
                pass

    async def _ask(self) -> AcquireReply:
        terms = self._terms
        return await self._leases.acquire(
            terms.namespace,
            terms.name,
            holder=terms.holder,
            ttl_seconds=terms.ttl_seconds,
            semantics=terms.semantics,
            max_holders=terms.max_holders,
            lock_delay_seconds=terms.lock_delay_seconds,
        )

    async def _renew(self, held: Held) -> bool | None:
        """Whether the server renewed, or refused; None when that is not known."""
        with trio.move_on_after(self._terms.heartbeat_seconds):
            try:
                reply = await self._leases.renew(
                    self._terms.namespace,
                    self._terms.name,
                    holder=self._terms.holder,
                    fencing_token=held.token,
                    ttl_seconds=self._terms.ttl_seconds,
                )
            except Conflict:
                return False
            except BerthError:
                return None
            return reply.acquired
        return None

    def _held(self, token: int, sent: Reading) -> Held:
        terms = self._terms
        holding = Holding(
            token,
            terms.ttl_seconds * MICROSECONDS,
            round(terms.budget_seconds * MICROSECONDS),
            sent,
            deadline=terms.semantics == "at-most-once",
        )
        return Held(terms, holding, self._now)

    def _pause_seconds(self, reply: AcquireReply) -> float:
        """Until it is worth asking again: not before the holder's time is over, unless it gives up early."""
        left = reply.remaining_seconds
        return RETRY_SECONDS if left is UNSET else min(RETRY_SECONDS, max(0.01, left))

    def _soon(self, seconds: float) -> float:
        """Not everybody at the same moment."""
        return seconds * self._rng.uniform(0.5, 1.0)

    def _now(self) -> Reading:
        return Reading(self._clock.boot_us(), self._clock.raw_us(), self._clock.wall_us())
