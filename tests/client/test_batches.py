"""Batches: how they are divided, and that each result is told and believed as the single call's is."""

import json
from typing import Any

import pytest

from berth.client import (
    AcquireRequest,
    ApiError,
    BerthClient,
    BerthError,
    Conflict,
    Invalid,
    NotAllowed,
    OutcomeUnknown,
    ReleaseRequest,
    RenewRequest,
    Unreachable,
)
from berth.client.servers import ROUNDS
from berth.wire.routes import BATCH, BATCH_MAX, BATCH_MAX_BYTES
from berth.wire.shapes import AcquireReply
from tests.client.scripted import Scripted, Step, answer, grant, hang_up, problem


def told(*results: dict[str, Any]) -> Step:
    return answer(200, {"results": [*results]})


def wanted(*names: str, holder: str = "team/me") -> list[AcquireRequest]:
    return [AcquireRequest("default", name, holder=holder, ttl_seconds=30) for name in names]


def granted(token: int = 7, **more: Any) -> dict[str, Any]:
    return {"status": 200, **grant(token=token, **more)}


def refused(status: int, code: str) -> dict[str, Any]:
    return {"status": status, "error": "because", "code": code}


async def test_each_kind_sends_what_its_single_call_does(client: BerthClient, server: Scripted) -> None:
    server.will(told(granted()), told(granted()), told({"status": 204}))
    shared = AcquireRequest(
        "default", "db", holder="team/me", session="s1", semantics="at-least-once", max_holders=3
    )
    [taken] = await client.acquire_many([shared])
    [kept] = await client.renew_many(
        [RenewRequest("default", "db", holder="team/me", fencing_token=7, ttl_seconds=30)]
    )
    [gone] = await client.release_many([ReleaseRequest("default", "db", holder="team/me", fencing_token=7)])
    assert isinstance(taken, AcquireReply)
    assert isinstance(kept, AcquireReply)
    assert gone is None
    where = {"namespace": "default", "name": "db", "holder": "team/me"}
    assert [request.body for request in server.requests] == [
        {
            "operations": [
                {"op": "acquire", **where, "session": "s1", "semantics": "at-least-once", "maxHolders": 3}
            ]
        },
        {"operations": [{"op": "renew", **where, "fencingToken": 7, "ttlSeconds": 30}]},
        {"operations": [{"op": "release", **where, "fencingToken": 7}]},
    ]
    assert {(request.method, request.target) for request in server.requests} == {("POST", BATCH.path)}


async def test_results_are_in_the_order_asked_and_a_bad_one_spoils_only_itself(
    client: BerthClient, server: Scripted
) -> None:
    server.will(
        told(
            granted(1),
            granted(2, acquired=False, holder="team/other", reason="held"),
            refused(409, "semantics_mismatch"),
            refused(400, "invalid_name"),
            refused(403, "forbidden_holder"),
            refused(503, "store_unavailable"),
            refused(503, "outcome_unknown"),
            refused(429, "quota"),
            refused(500, "internal"),
            granted(4, holder="team/other"),
            granted(0),
            {"status": 200},
            {"error": "no status"},
            granted(5),
        )
    )
    found = await client.acquire_many(wanted(*map(str, range(14))))
    replies = {place: each for place, each in enumerate(found) if isinstance(each, AcquireReply)}
    assert {place: (each.acquired, each.fencing_token) for place, each in replies.items()} == {
        0: (True, 1),
        1: (False, 2),
        13: (True, 5),
    }
    errors = [(place, type(each)) for place, each in enumerate(found) if isinstance(each, BerthError)]
    assert errors == [
        (2, Conflict),
        (3, Invalid),
        (4, NotAllowed),
        (5, Unreachable),
        (6, OutcomeUnknown),
        (7, ApiError),
        *((place, OutcomeUnknown) for place in range(8, 13)),
    ]
    assert isinstance(found[8], BerthError)
    assert found[8].server_defect
    assert isinstance(found[2], ApiError)
    assert (found[2].code, found[2].status, found[2].text) == ("semantics_mismatch", 409, "because")
    assert "granted the lease to" in str(found[9])
    assert len(server.requests) == 1


async def test_what_is_over_one_request_goes_in_several(client: BerthClient, server: Scripted) -> None:
    count = BATCH_MAX + 1
    server.will(told(*[granted()] * BATCH_MAX), told(granted(9)))
    found = await client.acquire_many(wanted(*(f"lease-{number}" for number in range(count))))
    assert len(found) == count
    assert isinstance(found[-1], AcquireReply)
    assert found[-1].fencing_token == 9
    names = [each["name"] for request in server.requests for each in request.body["operations"]]
    assert names == [f"lease-{number}" for number in range(count)]


async def test_no_request_is_larger_than_a_server_takes(client: BerthClient, server: Scripted) -> None:
    requests = wanted(*["db"] * 1000, holder="h" * 5000)
    server.will(*[problem(401, "unauthenticated")] * 3)
    await client.acquire_many(requests)
    [request] = server.requests
    fitting = len(request.body["operations"])
    one_more = len(json.dumps(request.body["operations"][0], separators=(",", ":"))) + 1
    assert len(request.raw_body) <= BATCH_MAX_BYTES < len(request.raw_body) + one_more
    assert 0 < fitting < 1000


async def test_one_that_is_too_large_by_itself_is_refused_by_itself(
    client: BerthClient, server: Scripted
) -> None:
    large = AcquireRequest("default", "db", holder="h" * BATCH_MAX_BYTES, ttl_seconds=30)
    server.will(told(granted(1)), problem(413, "body_too_large"), told(granted(2)))
    found = await client.acquire_many([*wanted("a"), large, *wanted("b")])
    assert [type(each) for each in found] == [AcquireReply, Invalid, AcquireReply]


async def test_what_cannot_be_sent_is_refused_and_the_others_are_sent(
    client: BerthClient, server: Scripted
) -> None:
    server.will(told(granted(1), granted(2)))
    found = await client.acquire_many([*wanted("a"), *wanted("b", holder="\udcff"), *wanted("c")])
    assert [type(each) for each in found] == [AcquireReply, Invalid, AcquireReply]
    with pytest.raises(TypeError, match="ttl_seconds is whole seconds"):
        await client.renew_many(
            [RenewRequest("default", "db", holder="me", fencing_token=1, ttl_seconds=2.5)]  # type: ignore[arg-type]
        )


async def test_nothing_to_do_asks_nobody(client: BerthClient, server: Scripted) -> None:
    assert await client.release_many([]) == []
    assert not server.requests


async def test_a_batch_is_sent_again_like_the_calls_in_it(client: BerthClient, server: Scripted) -> None:
    server.will(hang_up, problem(503, "store_unavailable"), told(granted()))
    [reply] = await client.acquire_many(wanted("db"))
    assert isinstance(reply, AcquireReply)
    assert len({request.raw_body for request in server.requests}) == 1


@pytest.mark.parametrize(
    "bad", [answer(200, b"<html>"), told(), told(granted(), granted()), answer(200, {"results": "none"})]
)
async def test_a_reply_that_is_no_batchs_leaves_all_of_it_unknown(
    client: BerthClient, server: Scripted, bad: Step
) -> None:
    server.will(*[bad] * ROUNDS)
    [fault] = await client.acquire_many(wanted("db"))
    assert isinstance(fault, OutcomeUnknown)


@pytest.mark.parametrize(
    ("step", "kinds"),
    [
        (problem(401, "unauthenticated"), (NotAllowed, NotAllowed)),
        (problem(503, "shutting_down"), (Unreachable, Unreachable)),
        (problem(429, "rate_limited"), (ApiError, ApiError)),
        (hang_up, (OutcomeUnknown, Unreachable)),
    ],
)
async def test_after_a_request_that_failed_the_others_are_not_sent(
    client: BerthClient, server: Scripted, step: Step, kinds: tuple[type, type]
) -> None:
    server.will(*[step] * ROUNDS)
    found = await client.acquire_many(wanted(*["db"] * (BATCH_MAX + 1)))
    assert (type(found[0]), type(found[-1])) == kinds
    assert {len(request.body["operations"]) for request in server.requests} == {BATCH_MAX}


async def test_a_tenure_that_is_given_up_for_another_goes_with_it(
    client: BerthClient, server: Scripted
) -> None:
    over = [AcquireRequest("default", "db", holder="team/me", session="s1", in_place_of=6)]
    server.will(
        told(granted(1), refused(409, "stale_token"), granted(7)),
        told(*[{"status": 204}, granted(7)] * (BATCH_MAX // 2)),
        told({"status": 204}, granted(8)),
    )
    found = await client.acquire_many([*wanted("other"), *over])
    assert [each.fencing_token for each in found if isinstance(each, AcquireReply)] == [1, 7]
    where = {"namespace": "default", "name": "db", "holder": "team/me"}
    sent = server.requests[0].body["operations"]
    assert sent[1:] == [
        {"op": "release", **where, "fencingToken": 6},
        {"op": "acquire", **where, "session": "s1"},
    ]
    found = await client.acquire_many(over * (BATCH_MAX // 2 + 1))
    tokens = [each.fencing_token for each in found if isinstance(each, AcquireReply)]
    assert tokens == [7] * (BATCH_MAX // 2) + [8], "no request ends between the two"
