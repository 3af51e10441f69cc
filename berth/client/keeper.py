"""Keeper: keeps alive what is held, cancels the work in time when it is lost, gives it up last.

Owns the order of things: work, stop, give up, and never give up before the work has stopped. Promises that a
deadline counts from before the request that won it, and that what is unknown changes nothing. What is asked
of the server, for a lease or for a session, is its `Pulse`.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Protocol

import trio

from berth.client.errors import LeaseLost
from berth.client.held import Deadline
from berth.core.holding import Reading, elapsed_us, refused, renewed
from berth.runtime.clock import MICROSECONDS
from berth.runtime.supervise import alongside

LOOK_SECONDS = 1.0
"""Trio's clock stands still in suspend: the deadline is looked at by the other clocks at least this often."""

GIVE_UP_SECONDS = 5.0
RETRY_SECONDS = 1.0
"""The longest pause before what failed or is unknown is tried again."""


class Pulse(Protocol):
    """The calls that keep something alive."""

    heartbeat_seconds: float

    async def renew(self) -> bool | None:
        """Whether the server renewed, or says that it is over; None when that is not known."""
        ...

    async def give_up(self) -> None:
        """Give it up. What goes wrong is kept quiet: then it expires by itself."""
        ...


@asynccontextmanager
async def kept(
    held: Deadline, pulse: Pulse, *, rng: Random, on_danger: Callable[[float], None] | None
) -> AsyncGenerator[None]:
    """Keep `held` alive while the body runs, cancel the body when it is lost, then give it up.

    Raises LeaseLost once the body has stopped, if it was lost; what the body raised counts before that, and
    so does what `on_danger` raised, which cancels the body too.
    """
    failure: Exception | None = None
    work = trio.CancelScope()

    def warn(remaining_seconds: float) -> None:
        nonlocal failure
        try:
            if on_danger is not None:
                on_danger(remaining_seconds)
        except Exception as raised:  # noqa: BLE001 - raised again below, once the work has stopped
            failure = raised
            work.cancel()

    tasks = (partial(_keep_alive, held, pulse, rng), partial(_watch, held, pulse, work, warn))
    try:
        async with alongside(*tasks):
            with work:
                yield
    finally:
        # The work has stopped: now, and not before, somebody else may have it.
        if held.loss != "refused":
            with trio.move_on_after(GIVE_UP_SECONDS, shield=True):
                await pulse.give_up()
    if failure is not None:
        raise failure
    if held.loss is not None:
        raise LeaseLost(held.what, held.loss)


async def _keep_alive(held: Deadline, pulse: Pulse, rng: Random) -> None:
    """Renew until the server refuses. It goes on while the work is being stopped: that may take time."""
    since_sent_us = elapsed_us(held.holding.sent, held.now())
    pause_seconds = max(0.0, pulse.heartbeat_seconds - since_sent_us / MICROSECONDS)
    while held.loss != "refused":
        await trio.sleep(pause_seconds)
        alive = await beat(held, pulse)
        if alive is None:
            pause_seconds = soon(min(RETRY_SECONDS, pulse.heartbeat_seconds / 4), rng)
        else:
            pause_seconds = pulse.heartbeat_seconds


async def beat(held: Deadline, pulse: Pulse) -> bool | None:
    """Renew once, and take up what the server says."""
    sent = held.now()
    alive: bool | None = None
    with trio.move_on_after(pulse.heartbeat_seconds):
        alive = await pulse.renew()
    if alive:
        held.heard(renewed(held.holding, sent, held.now()))
    elif alive is False:
        held.heard(refused(held.holding))
    return alive


async def _watch(held: Deadline, pulse: Pulse, work: trio.CancelScope, warn: Callable[[float], None]) -> None:
    """Cancel the work when it is lost, and warn before, once for each renewal that is missed."""
    warned_of: Reading | None = None
    while held.lost is None:
        remaining_seconds = held.remaining()
        if remaining_seconds < pulse.heartbeat_seconds and warned_of != held.holding.sent:
            warned_of = held.holding.sent
            warn(remaining_seconds)
        # With nothing left and nothing lost there is no deadline, and no hurry.
        with trio.move_on_after(min(LOOK_SECONDS, remaining_seconds or LOOK_SECONDS)):
            await held.news.wait()
    work.cancel()


def soon(seconds: float, rng: Random) -> float:
    """Not everybody at the same moment."""
    return seconds * rng.uniform(0.5, 1.0)
