"""Batches: many operations in one body, each judged by itself.

Owns the reading of a batch and the results it is answered with. Promises that an operation which is not
what it must be spoils only itself; only a body that is no list of objects, or holds too many, is refused as
a whole.
"""

from collections.abc import Iterable
from functools import partial
from typing import TypeVar

import msgspec

from berth.core.instants import rfc3339
from berth.core.records import Tenure
from berth.core.requests import Acquired, Lost, NotAcquired, Released, Renewed
from berth.wire.checks import UNREADABLE, body_failure
from berth.wire.problems import Failure
from berth.wire.replies import acquire_reply, renew_reply
from berth.wire.routes import BATCH_MAX
from berth.wire.shapes import BatchBody, BatchOperation, BatchResult

T = TypeVar("T")

Told = Acquired | NotAcquired | Renewed | Lost | Released
"""What an operation of a batch can come to."""

ANSWERED = partial(BatchResult, 200)
_DONE = BatchResult(204)


class _RawBatch(msgspec.Struct, forbid_unknown_fields=True):
    operations: list[msgspec.Raw]


_decode_batch = msgspec.json.Decoder(BatchBody).decode
_decode_raw_batch = msgspec.json.Decoder(_RawBatch).decode
_decode_operation = msgspec.json.Decoder(BatchOperation).decode


def operations(raw: bytes) -> list[BatchOperation | Failure]:
    """The operations in a body, each as it is meant or as the failure that it is."""
    try:
        return _few_enough([*_decode_batch(raw).operations])
    except UNREADABLE:
        return _one_by_one(raw)


def _few_enough(operations: list[T]) -> list[T]:
    if len(operations) > BATCH_MAX:
        raise Failure("invalid_body", f"a batch holds at most {BATCH_MAX} operations")
    return operations


def _one_by_one(raw: bytes) -> list[BatchOperation | Failure]:
    try:
        raws = _few_enough(_decode_raw_batch(raw).operations)
    except UNREADABLE as error:
        raise body_failure(error) from error
    if not all(bytes(each[:1]) == b"{" for each in map(memoryview, raws)):
        raise Failure("invalid_body", "invalid json body: every operation must be a JSON object")
    return [_operation(each) for each in raws]


def _operation(raw: msgspec.Raw) -> BatchOperation | Failure:
    try:
        return _decode_operation(raw)
    except UNREADABLE as error:
        return body_failure(error)


def result(outcome: Told) -> BatchResult:
    match outcome:
        case Renewed() | Lost():
            return renew_reply(outcome, ANSWERED)
        case Acquired() | NotAcquired():
            return acquire_reply(outcome, ANSWERED)
        case Released():
            return _DONE


def renewed(tenures: Iterable[Tenure], at_us: int) -> list[BatchResult]:
    """What came of many renewals at `at_us`: those for one ttl share their expiry."""
    results: list[BatchResult] = []
    known_us, expires_at = 0, ""
    for each in tenures:
        if each.ttl_us != known_us:
            known_us = each.ttl_us
            expires_at = rfc3339(at_us + known_us)
        acquired_at = rfc3339(each.acquired_at_us)
        results.append(BatchResult(200, True, expires_at, acquired_at, each.holder, each.token))
    return results


def failed(failure: Failure) -> BatchResult:
    return BatchResult(failure.problem.status, error=failure.text, code=failure.code)
