"""The real lease service over a given store, on Trio's clock, with nothing logged and no limits unless
asked.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

from berth.runtime.clock import Clock
from berth.runtime.log import Logger, Logs
from berth.service.leases import LeaseService, open_leases
from berth.service.limits import Limits, LimitSettings
from berth.service.rounds import Recall
from berth.service.sweeper import Sweeping
from berth.store.api import SharedStore, Store
from berth.wire.replies import watch_line
from tests.support.clocks import TrioClock


@asynccontextmanager
async def opened(
    store: Store,
    *,
    clock: Clock | None = None,
    audit: Logger | None = None,
    sweeping: Sweeping = Sweeping(0, 0),  # noqa: B008 - a constant
    limits: Limits | None = None,
    gather_seconds: float = 0,
    recall: Recall | None = None,
    shared: SharedStore | None = None,
) -> AsyncGenerator[LeaseService]:
    clock = clock or TrioClock()
    logger = Logs("error").logger("test")
    async with open_leases(
        store,
        clock=clock,
        rng=Random(1),
        logger=logger,
        audit=audit or logger,
        sweeping=sweeping,
        limits=limits or Limits(LimitSettings(), now_us=clock.boot_us, refused=lambda _: None),
        encode=watch_line,
        gather_seconds=gather_seconds,
        recall=recall,
        shared=shared,
    ) as leases:
        yield leases
