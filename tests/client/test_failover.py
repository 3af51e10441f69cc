"""Several servers are one service: which is asked next, after what, and for which calls."""

import pytest
import trio
from trio.testing import MockClock

from berth.client import ApiError, Conflict, NotAllowed, OutcomeUnknown, Unreachable
from berth.client.servers import ROUNDS
from tests.client.conftest import Connect, Start
from tests.client.scripted import Scripted, Stall, Step, answer, granted, hang_up, problem
from tests.client.test_believing import Ask, acquire, force_release, get_lease, release, renew

LEASE = {
    "namespace": "default",
    "name": "db",
    "state": "free",
    "semantics": "at-most-once",
    "fencingToken": 7,
    "holders": [],
}
SUCCESS: dict[Ask, Step] = {
    acquire: granted(),
    renew: granted(),
    release: answer(204),
    force_release: answer(200, {"released": {"holder": "x", "fencingToken": 7}, "mayActForSeconds": 0}),
    get_lease: answer(200, LEASE),
}
NOTHING_DONE = {
    "store_unavailable": problem(503, "store_unavailable"),
    "shutting_down": problem(503, "shutting_down"),
    "rate_limited": problem(429, "rate_limited"),
}


@pytest.fixture
async def other(start: Start) -> Scripted:
    return await start()


@pytest.mark.parametrize("ask", SUCCESS)
async def test_a_server_that_is_not_there_is_passed_over(
    server: Scripted, nobody: str, connect: Connect, ask: Ask
) -> None:
    client = await connect(nobody, server)
    server.will(SUCCESS[ask])
    await ask(client)
    assert len(server.requests) == 1


@pytest.mark.parametrize("said", NOTHING_DONE)
@pytest.mark.parametrize("ask", SUCCESS)
async def test_every_call_goes_on_where_nothing_was_done(
    server: Scripted, other: Scripted, connect: Connect, ask: Ask, said: str
) -> None:
    client = await connect(server, other)
    server.will(NOTHING_DONE[said])
    other.will(SUCCESS[ask])
    await ask(client)
    assert (len(server.requests), len(other.requests)) == (1, 1)


@pytest.mark.parametrize("unclear", [hang_up, problem(503, "outcome_unknown"), answer(502, b"")])
@pytest.mark.parametrize("ask", [ask for ask in SUCCESS if ask is not force_release])
async def test_a_call_that_is_safe_to_repeat_goes_on_after_an_unknown_outcome(
    server: Scripted, other: Scripted, connect: Connect, ask: Ask, unclear: Step
) -> None:
    client = await connect(server, other)
    server.will(unclear)
    other.will(SUCCESS[ask])
    await ask(client)
    assert server.requests[0].raw_body == other.requests[0].raw_body


async def test_a_forced_release_is_never_sent_again_after_an_unknown_outcome(
    server: Scripted, other: Scripted, connect: Connect
) -> None:
    client = await connect(server, other)
    server.will(hang_up)
    with pytest.raises(OutcomeUnknown):
        await force_release(client)
    assert (len(server.requests), len(other.requests)) == (1, 0)


@pytest.mark.parametrize("ask", [acquire, renew, release])
async def test_a_refusal_does_not_undo_an_unknown_outcome(
    server: Scripted, other: Scripted, connect: Connect, ask: Ask
) -> None:
    client = await connect(server, other)
    server.will(hang_up)
    other.will(problem(409, "not_holder", "held by another"))
    with pytest.raises(OutcomeUnknown, match="held by another") as caught:
        await ask(client)
    assert server.url in str(caught.value)


async def test_nor_does_a_server_that_is_not_there(server: Scripted, nobody: str, connect: Connect) -> None:
    client = await connect(server, nobody)
    server.will(hang_up, *[NOTHING_DONE["store_unavailable"]] * ROUNDS)
    with pytest.raises(OutcomeUnknown):
        await acquire(client)


async def test_a_refusal_ends_a_read_whatever_came_before(
    server: Scripted, other: Scripted, connect: Connect
) -> None:
    client = await connect(server, other)
    server.will(hang_up)
    other.will(problem(404, "not_found"))
    with pytest.raises(ApiError) as caught:
        await get_lease(client)
    assert caught.value.code == "not_found"


async def test_a_refusal_is_not_taken_to_another_server(
    server: Scripted, other: Scripted, connect: Connect
) -> None:
    client = await connect(server, other)
    server.will(problem(409, "not_holder"))
    with pytest.raises(Conflict):
        await release(client)
    assert not other.requests


async def test_the_server_that_answered_last_is_asked_first(
    server: Scripted, other: Scripted, connect: Connect
) -> None:
    client = await connect(server, other)
    server.will(NOTHING_DONE["shutting_down"])
    other.will(problem(403, "forbidden_holder"), NOTHING_DONE["store_unavailable"])
    server.will(granted(), granted())
    with pytest.raises(NotAllowed):
        await acquire(client)
    await acquire(client)
    await acquire(client)
    assert (len(server.requests), len(other.requests)) == (3, 2)


async def test_when_nobody_is_there_every_server_is_named(nobody: str, connect: Connect) -> None:
    client = await connect(nobody, "https://127.0.0.1:1")
    with pytest.raises(Unreachable) as caught:
        await acquire(client)
    assert nobody in str(caught.value)
    assert "https://127.0.0.1:1" in str(caught.value)


async def test_a_certificate_that_is_not_trusted_is_told_as_such(server: Scripted, connect: Connect) -> None:
    client = await connect(server, ca_file=None, api_key="s3cret")
    with pytest.raises(Unreachable, match="is not trusted"):
        await acquire(client)
    assert not server.requests


@pytest.mark.parametrize("said", ["store_unavailable", "shutting_down"])
async def test_a_store_that_stays_away_makes_the_service_unreachable(
    server: Scripted, connect: Connect, said: str
) -> None:
    client = await connect(server)
    server.will(*[NOTHING_DONE[said]] * ROUNDS)
    with pytest.raises(Unreachable):
        await acquire(client)
    assert len(server.requests) == ROUNDS


async def test_a_limit_that_stays_is_told_as_the_refusal_it_is(server: Scripted, connect: Connect) -> None:
    client = await connect(server)
    server.will(*[problem(429, "quota", "too many leases", retry_after="0")] * ROUNDS)
    with pytest.raises(ApiError) as caught:
        await acquire(client)
    assert (caught.value.status, caught.value.code, caught.value.retry_after_seconds) == (429, "quota", 0)
    assert type(caught.value) is ApiError


async def test_a_silent_server_takes_only_its_share_of_the_time(
    server: Scripted, other: Scripted, connect: Connect, mock_clock: MockClock
) -> None:
    client = await connect(server, other, timeout_seconds=10)
    stall = Stall()
    server.will(stall)
    other.will(granted())

    async def let_its_share_pass() -> None:
        await stall.begun.wait()
        mock_clock.jump(5)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_its_share_pass)
        assert (await acquire(client)).acquired
    assert trio.current_time() - began == pytest.approx(5)
