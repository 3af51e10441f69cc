"""Waiting: a lease is asked for until it is granted, at the server wherever it can be.

Owns how long each request waits there, and the pauses between requests. Promises at least one request, none
that waits for more than a third of the ttl, for a grant's deadline counts from before its request, and that
no reply makes a busy loop. What a grant is worth when it comes is the caller's to judge.
"""

from collections.abc import Awaitable, Callable
from math import inf
from random import Random

import trio
from msgspec import UNSET

from berth.client.errors import ApiError, LeaseNotAcquired, OutcomeUnknown, Unreachable
from berth.client.keeper import RETRY_SECONDS, soon
from berth.wire.routes import WAIT_MAX_SECONDS
from berth.wire.shapes import AcquireReply

TRY_SECONDS = 2.0
"""How long the one try is given that is made also by who does not want to wait."""

PAUSE_MIN_SECONDS = 0.05
RETRY_AFTER_MAX_SECONDS = 60.0

Ask = Callable[[int], Awaitable[AcquireReply]]
"""One acquire; it is told for how many seconds the server may wait."""


async def granted(
    ask: Ask, what: str, *, ttl_seconds: int | None, wait_seconds: float, rng: Random
) -> AcquireReply:
    """The reply that grants the lease, which people know as `what`.

    Raises LeaseNotAcquired when `wait_seconds` are over, and at once what no waiting mends.
    """
    give_up = trio.current_time() + wait_seconds
    at_server_seconds = 0  # who is asked first answers at once, so that people learn what they wait for
    while True:
        asked = trio.current_time()
        reply, text, waited, crowded = None, "the server did not answer in time", False, False
        pause_seconds = soon(RETRY_SECONDS, rng)
        try:
            with trio.move_on_after(max(give_up - asked, at_server_seconds + TRY_SECONDS)):
                reply = await ask(at_server_seconds)
        except (Unreachable, OutcomeUnknown, ApiError) as fault:
            text, pause_seconds = str(fault), max(pause_seconds, _asked_pause_seconds(fault))
            crowded = isinstance(fault, ApiError) and fault.code == "too_many_connections"
        if reply is not None:
            if reply.acquired:
                return reply
            text = f"held by {reply.holder}" if reply.holder else f"not free yet ({reply.reason})"
            pause_seconds = soon(_pause_seconds(reply), rng)
            waited = trio.current_time() - asked >= at_server_seconds
        left_seconds = give_up - trio.current_time()
        if left_seconds <= 0:
            raise LeaseNotAcquired(f"{what}: {text}", reply)
        at_server_seconds = 0 if crowded else _at_server_seconds(left_seconds, ttl_seconds)
        if not (waited and at_server_seconds):
            await trio.sleep(min(pause_seconds, left_seconds))


def _at_server_seconds(left_seconds: float, ttl_seconds: int | None) -> int:
    return int(min(left_seconds, WAIT_MAX_SECONDS, inf if ttl_seconds is None else ttl_seconds / 3))


def _asked_pause_seconds(fault: Unreachable | OutcomeUnknown | ApiError) -> float:
    """How long the server wants to be left alone. Raises a refusal that will not change."""
    if not isinstance(fault, ApiError):
        return 0.0
    if fault.retry_after_seconds is None and fault.status != 429:
        raise fault
    return min(fault.retry_after_seconds or 0.0, RETRY_AFTER_MAX_SECONDS)


def _pause_seconds(reply: AcquireReply) -> float:
    """Until it is worth asking again: not before the lease can be free, unless its holder gives up early."""
    left = reply.remaining_seconds if reply.reason in ("held", "") else reply.available_after_seconds
    return RETRY_SECONDS if left is UNSET else min(RETRY_SECONDS, max(PAUSE_MIN_SECONDS, left))
