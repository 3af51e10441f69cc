"""Batch: many acquires, renewals and releases at the price of one request and one round.

Owns what happens to each operation before and after the round. Promises that each is checked, allowed and
answered by itself, in the order asked, and that a long batch lets others have their turn.
"""

from collections.abc import Sequence
from typing import cast

import trio
from msgspec.structs import replace

from berth.core.requests import Acquire, NotAcquired, Outcome, Refused
from berth.roles.apiserver.ask import Ask, limited
from berth.roles.apiserver.auth import authorize
from berth.roles.apiserver.observe import label_of
from berth.runtime.log import Logger
from berth.service.leases import LeaseService
from berth.service.limits import Lane
from berth.service.rounds import Answer, Operation
from berth.store.api import StoreFault
from berth.wire import batch, checks
from berth.wire.problems import Failure, refusal
from berth.wire.shapes import BatchAcquire, BatchOperation, BatchRenew, BatchReply, BatchResult

GIVE_WAY_EVERY = 256


class BatchHandlers:
    """The one operation on many leases."""

    def __init__(self, leases: LeaseService, *, bounds: checks.TtlBounds, logger: Logger) -> None:
        self._leases = leases
        self._limits = leases.limits
        self._bounds = bounds
        self._logger = logger

    async def batch(self, ask: Ask) -> object:
        asked: list[Operation | Failure] = []
        for each in await ask.read_body():
            asked.append(each if isinstance(each, Failure) else self._checked(ask, each))
            if len(asked) % GIVE_WAY_EVERY == 0:
                await trio.lowlevel.checkpoint()
        acquires = {at: each.request for at, each in enumerate(asked) if isinstance(each, Operation)}
        holders = {at: request.holder for at, request in acquires.items() if isinstance(request, Acquire)}
        with self._limits.holdings.asking(holders.values()) as may_take:
            full = {at for at, may in zip(holders, may_take, strict=True) if not may}
            for at in full:
                asked[at] = _keeping(cast("Operation", asked[at]))
            return await self._answered(ask, asked, full)

    def _checked(self, ask: Ask, operation: BatchOperation) -> Operation | Failure:
        """The operation as the service takes it, after the checks that the single call makes."""
        try:
            match operation:
                case BatchRenew():
                    request, lane = checks.renew_request(operation, self._bounds), "renew_rate"
                case BatchAcquire():
                    request, lane = checks.acquire_request(operation, self._bounds), "rate"
                case _:
                    request, lane = checks.release_request(operation), "renew_rate"
            authorize(ask.identity, "holder", request.holder)
            key = checks.checked_key(operation.namespace, operation.name)
        except Failure as failure:
            return failure
        wait_seconds = self._limits.rates[cast("Lane", lane)].take(ask.identity.tenant)
        if wait_seconds is not None:
            return limited(self._limits, cast("Lane", lane), wait_seconds)
        return Operation(key, request, ask.origin())

    async def _answered(self, ask: Ask, asked: Sequence[Operation | Failure], full: set[int]) -> BatchReply:
        """Results in the order asked; at the places in `full` the tenant may take no more."""
        answers = iter(await self._leases.many([each for each in asked if isinstance(each, Operation)]))
        results: list[BatchResult] = []
        for at, each in enumerate(asked):
            if isinstance(each, Failure):
                results.append(batch.failed(each))
            else:
                results.append(self._result(ask, next(answers), full=at in full))
            if len(results) % GIVE_WAY_EVERY == 0:
                await trio.lowlevel.checkpoint()
        return BatchReply(results)

    def _result(self, ask: Ask, answer: Answer, *, full: bool) -> BatchResult:
        match answer:
            case Exception():
                return batch.failed(self._fault(ask, answer))
            case Refused():
                failure = refusal(answer)
                ask.entry.count(failure.problem.label)
                return batch.failed(failure)
            case NotAcquired(reason="waiters") if full:
                return batch.failed(limited(self._limits, "leases"))
            case _:
                ask.entry.count(label_of(cast("Outcome", answer)))
                return batch.result(cast("batch.Told", answer))

    def _fault(self, ask: Ask, fault: Exception) -> Failure:
        ask.entry.count("error")
        ask.entry.error = str(fault) if isinstance(fault, StoreFault) else f"{type(fault).__name__}: {fault}"
        if isinstance(fault, StoreFault):
            return Failure("store_unavailable" if fault.outcome_known else "outcome_unknown")
        self._logger.error("operation failed", request_id=ask.entry.request_id, exc_info=fault)
        return Failure("internal")


def _keeping(operation: Operation) -> Operation:
    return operation._replace(request=replace(cast("Acquire", operation.request), keep_only=True))
