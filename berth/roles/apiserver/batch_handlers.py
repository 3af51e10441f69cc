"""Batch: many acquires, renewals and releases at the price of one request and one round.

Owns what happens to each operation before and after the round. Promises that each is checked, allowed and
answered by itself, in the order asked, and that a long batch lets others have their turn.
"""

from collections.abc import Collection, Sequence
from typing import cast

import trio
from msgspec.structs import replace

from berth.core.names import Key
from berth.core.requests import Acquire, Acquired, NotAcquired, Outcome, Refused, Release, Renew
from berth.roles.apiserver.ask import Ask, limited, note_bounds
from berth.roles.apiserver.auth import authorize
from berth.roles.apiserver.observe import label_of
from berth.runtime.log import Logger
from berth.service.asking import Answer, Operation
from berth.service.leases import LeaseService
from berth.service.limits import Lane
from berth.service.renewing import AllRenewed
from berth.store.api import StoreFault
from berth.wire import batch, checks
from berth.wire.problems import Failure, refusal
from berth.wire.shapes import BatchAcquire, BatchOperation, BatchRenew, BatchReply, BatchResult

GIVE_WAY_EVERY = 256
HOLDERS_TOLD_MAX = 10_000
"""So many holders of shared leases are told in one reply; after that a grant is told without the others."""


_Checked = tuple[Key, Acquire | Renew | Release | Failure]
"""An operation as the service takes it, or the failure that it is, of no lease in particular."""

_Operations = Sequence[BatchOperation | Failure]

_NOWHERE = Key("", "")


class BatchHandlers:
    """The one operation on many leases."""

    def __init__(self, leases: LeaseService, *, bounds: checks.TtlBounds, logger: Logger) -> None:
        self._leases = leases
        self._limits = leases.limits
        self._bounds = bounds
        self._logger = logger

    async def batch(self, ask: Ask) -> object:
        operations = await ask.read_body()
        renewals = await self._renewals(ask, operations)
        if renewals is not None:
            told = await self._leases.renew_many(renewals)
            if isinstance(told, AllRenewed):
                return await _renewed(ask, told)
            return await self._answered(ask, told)
        asked = await self._checked(ask, operations)
        holders = {at: request.holder for at, (_, request) in enumerate(asked) if type(request) is Acquire}
        with self._limits.holdings.asking(holders.values()) as may_take:
            full = {at for at, may in zip(holders, may_take, strict=True) if not may}
            return await self._answered(ask, await self._carried_out(ask, asked, full), full)

    async def _renewals(self, ask: Ask, operations: _Operations) -> dict[Key, Renew] | None:
        """Nothing but renewals with which nothing is wrong; None where each is to be looked at by itself."""
        if self._limits.rated or not ask.identity.has_role("holder"):
            return None
        renewals: dict[Key, Renew] = {}
        for start in range(0, len(operations), GIVE_WAY_EVERY):
            if start:
                await trio.lowlevel.checkpoint()
            part = operations[start : start + GIVE_WAY_EVERY]
            if not checks.renew_requests(part, self._bounds, ask.identity.speaks_for, renewals):
                return None
        return renewals if len(renewals) == len(operations) else None

    async def _checked(self, ask: Ask, operations: _Operations) -> list[_Checked]:
        """The operations as the service takes them, after the checks that the single calls make."""
        asked: list[_Checked] = []
        for at, each in enumerate(operations):
            asked.append((_NOWHERE, each) if isinstance(each, Failure) else self._checked_one(ask, each))
            if at % GIVE_WAY_EVERY == GIVE_WAY_EVERY - 1:
                await trio.lowlevel.checkpoint()
        return asked

    def _checked_one(self, ask: Ask, operation: BatchOperation) -> _Checked:
        identity = ask.identity
        lane: Lane = "renew_rate"
        try:
            match operation:
                case BatchRenew():
                    request = checks.renew_request(operation, self._bounds)
                case BatchAcquire():
                    request, lane = checks.acquire_request(operation, self._bounds), "rate"
                case _:
                    request = checks.release_request(operation)
            if not identity.anybody:
                authorize(identity, "holder", request.holder)
            key = checks.checked_key(operation.namespace, operation.name)
        except Failure as failure:
            note_bounds(self._limits, failure)
            return _NOWHERE, failure
        if self._limits.rated:
            wait_seconds = self._limits.rates[lane].take(identity.tenant)
            if wait_seconds is not None:
                return _NOWHERE, limited(self._limits, lane, wait_seconds)
        return key, request

    async def _carried_out(self, ask: Ask, asked: list[_Checked], full: set[int]) -> list[Answer | Failure]:
        """What came of each; at the places in `full` the tenant may take no more."""
        origin = ask.origin()
        operations = [
            Operation(key, replace(request, keep_only=True) if at in full else request, origin)
            for at, (key, request) in enumerate(asked)
            if not isinstance(request, Failure)
        ]
        answers = iter(await self._leases.many(operations))
        return [request if isinstance(request, Failure) else next(answers) for _, request in asked]

    async def _answered(
        self, ask: Ask, answers: Sequence[Answer | Failure], full: Collection[int] = ()
    ) -> BatchReply:
        """Results in the order asked."""
        results: list[BatchResult] = []
        holders_told = 0
        for at, answer in enumerate(answers):
            if isinstance(answer, Acquired):
                holders_told += len(answer.holders)
                if holders_told > HOLDERS_TOLD_MAX:
                    answer = replace(answer, holders=())
            results.append(self._result(ask, answer, full=at in full))
            if at % GIVE_WAY_EVERY == GIVE_WAY_EVERY - 1:
                await trio.lowlevel.checkpoint()
        return BatchReply(results)

    def _result(self, ask: Ask, answer: Answer | Failure, *, full: bool) -> BatchResult:
        match answer:
            case Failure():
                return batch.failed(answer)
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
            return Failure("store_unavailable" if fault.outcome_known else "outcome_unknown", fault.told)
        self._logger.error("operation failed", request_id=ask.entry.request_id, exc_info=fault)
        return Failure("internal")


async def _renewed(ask: Ask, all_renewed: AllRenewed) -> BatchReply:
    """As `_answered`, where every operation was a renewal and every lease was renewed."""
    results: list[BatchResult] = []
    tenures = all_renewed.tenures
    for start in range(0, len(tenures), GIVE_WAY_EVERY):
        if start:
            await trio.lowlevel.checkpoint()
        results += batch.renewed(tenures[start : start + GIVE_WAY_EVERY], all_renewed.at_us)
    ask.entry.count("renewed", len(tenures))
    return BatchReply(results)
