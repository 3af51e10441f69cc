"""Hold: work that runs only while a lease is held.

Owns the order of things: acquire, work, stop, release, and never release before the work has stopped. When
the lease is lost the work is cancelled in time, by a deadline that counts from before a request was sent, on
the machine's fastest clock, less the time that stopping takes. An outcome that is unknown neither prolongs
the tenure nor ends it.

It cannot stop code that does not reach a checkpoint of Trio, nor a process that is paused after its last
`held.check()`: only the target can, by refusing a late token (`berth.client.fencing`).
"""

import os
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from math import inf
from random import Random

import trio

from berth.client.errors import LeaseLost
from berth.client.held import Held, Terms
from berth.client.keeper import Keeper, Leases
from berth.core.holding import stop_budget_us
from berth.runtime.clock import MICROSECONDS, Clock, SystemClock
from berth.runtime.supervise import open_service_nursery
from berth.wire.shapes import Semantics


def new_instance() -> str:
    """What tells this holder from every other that uses the same name: the process, and chance."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


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
    budget_seconds = stop_budget_us(ttl_seconds * MICROSECONDS) / MICROSECONDS
    terms = Terms(
        namespace,
        name,
        f"{holder}:{mark}" if mark else holder,
        ttl_seconds,
        semantics,
        max_holders,
        lock_delay_seconds,
        budget_seconds if stop_budget_seconds is None else stop_budget_seconds,
    )
    keeper = Keeper(leases, terms, clock or SystemClock(), rng or Random(), on_danger)
    held = await keeper.acquire(wait_seconds)
    failure: Exception | None = None
    work = trio.CancelScope()
    async with open_service_nursery() as nursery:
        nursery.start_soon(keeper.keep_alive, held)
        nursery.start_soon(keeper.watch, held, work)
        try:
            with work:
                yield held
        except Exception as raised:  # noqa: BLE001 - raised again below, out of the nursery's group
            failure = raised
        finally:
            # The work has stopped: now, and not before, somebody else may have the lease.
            nursery.cancel_scope.cancel()
            await keeper.release(held)
    if failure is not None:
        raise failure
    if held.loss is not None:
        raise LeaseLost(namespace, name, held.loss)
