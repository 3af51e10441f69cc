"""What comes back may be anything: only the answer to what was asked is believed."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from berth.client import (
    ApiError,
    BerthClient,
    BerthError,
    Conflict,
    Invalid,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    Unreachable,
    WrongAddress,
)
from berth.client.servers import ROUNDS
from tests.client.conftest import Connect
from tests.client.scripted import (
    Scripted,
    Stall,
    Step,
    answer,
    grant,
    granted,
    hang_up,
    hang_up_within_reply,
    problem,
)

Ask = Callable[[BerthClient], Awaitable[Any]]


def acquire(client: BerthClient) -> Awaitable[Any]:
    return client.acquire("default", "db", holder="team/me", ttl_seconds=30)


def renew(client: BerthClient) -> Awaitable[Any]:
    return client.renew("default", "db", holder="team/me", fencing_token=7, ttl_seconds=30)


def release(client: BerthClient) -> Awaitable[Any]:
    return client.release("default", "db", holder="team/me", fencing_token=7)


def force_release(client: BerthClient) -> Awaitable[Any]:
    return client.force_release("default", "db", fencing_token=7, reason="node is gone")


def get_lease(client: BerthClient) -> Awaitable[Any]:
    return client.get_lease("default", "db")


BAD: dict[str, tuple[Step, str]] = {
    "html": (answer(200, b"<html>Log in</html>", content_type="text/html"), "text/html"),
    "empty": (answer(200, b""), "the body is not what it must be"),
    "truncated": (answer(200, b'{"acquired": tr'), "truncated"),
    "not UTF-8": (answer(200, b'{"acquired": "\xff\xfe"}'), "the body is not what it must be"),
    "missing fields": (answer(200, {"acquired": True}), "missing required field"),
    "no object": (answer(200, [1]), "the body is not what it must be"),
    "acquired as text": (answer(200, grant(acquired="true")), "acquired"),
    "another holder": (granted(holder="team/other"), "team/other"),
    "no holder": (granted(holder=""), 'to ""'),
    "token 0": (granted(token=0), "no fencing token"),
    "negative token": (granted(token=-1), "no fencing token"),
    "token over int32": (granted(token=2**31), "no fencing token"),
    "10 MB": (answer(200, b" " * 10_000_000), "more than 8388608 bytes"),
    "redirect": (answer(307, b"", location="https://elsewhere.example/"), "elsewhere.example"),
    "another success": (answer(202, grant()), "answered 202"),
    "an error as a success": (answer(202, {"error": "no", "code": "not_holder"}), "answered 202"),
    "proxy": (answer(502, b"bad gateway"), "answered 502"),
    "proxy's 404": (answer(404, b"<html>no such page</html>", content_type="text/html"), "check the address"),
    "proxy's 503": (answer(503, b"no backend"), "answered 503"),
    "internal": (problem(500, "internal", "internal error"), "internal error"),
    "outcome unknown": (problem(503, "outcome_unknown", "it may be"), "it may be"),
    "a 503 not known yet": (problem(503, "lunar_eclipse", "look up"), "look up"),
    "hung up": (hang_up, "broke before the whole reply"),
    "hung up within": (hang_up_within_reply, "broke before the whole reply"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_reply_to_a_write_leaves_its_outcome_unknown(
    client: BerthClient, server: Scripted, bad: str
) -> None:
    step, text = BAD[bad]
    server.will(*[step] * ROUNDS)
    with pytest.raises(OutcomeUnknown) as caught:
        await acquire(client)
    assert text in str(caught.value)
    assert server.url in str(caught.value)
    assert len(server.requests) == ROUNDS


@pytest.mark.parametrize("bad", ["html", "truncated", "redirect", "proxy", "hung up", "10 MB"])
@pytest.mark.parametrize("ask", [release, renew, force_release])
async def test_and_to_every_other_write(client: BerthClient, server: Scripted, ask: Ask, bad: str) -> None:
    server.will(*[BAD[bad][0]] * ROUNDS)
    with pytest.raises(OutcomeUnknown):
        await ask(client)


@pytest.mark.parametrize("bad", ["html", "truncated", "redirect", "proxy", "hung up", "10 MB"])
async def test_a_bad_reply_to_a_read_is_no_answer(client: BerthClient, server: Scripted, bad: str) -> None:
    server.will(*[BAD[bad][0]] * ROUNDS)
    with pytest.raises(Unreachable):
        await get_lease(client)


async def test_a_renewal_of_another_token_is_not_believed(client: BerthClient, server: Scripted) -> None:
    server.will(*[granted(token=8)] * ROUNDS)
    with pytest.raises(OutcomeUnknown, match="renewed token 8, and 7 was to be renewed"):
        await renew(client)


async def test_nor_the_end_of_another_tenure(client: BerthClient, server: Scripted) -> None:
    server.will(answer(200, {"released": {"holder": "x", "fencingToken": 8}, "mayActForSeconds": 0}))
    with pytest.raises(OutcomeUnknown, match="ended the tenure of token 8"):
        await force_release(client)


async def test_nor_another_lease(client: BerthClient, server: Scripted) -> None:
    other = {"namespace": "default", "name": "other", "state": "free", "semantics": "at-most-once"}
    server.will(*[answer(200, other | {"fencingToken": 1, "holders": []})] * ROUNDS)
    with pytest.raises(Unreachable, match="default/other"):
        await get_lease(client)


async def test_nor_a_current_token_above_the_highest(client: BerthClient, server: Scripted) -> None:
    server.will(*[answer(200, {"current": True, "fencingToken": 6})] * ROUNDS)
    with pytest.raises(Unreachable, match="called token 7 current"):
        await client.verify("default", "db", fencing_token=7)


async def test_a_list_that_never_ends_is_left(client: BerthClient, server: Scripted) -> None:
    server.will(*[answer(200, {"items": [], "revision": "r", "continue": "same"})] * (1 + ROUNDS))
    with pytest.raises(Unreachable, match="the same one again"):
        async for _ in client.list_leases():
            pass


async def test_a_stranger_that_answers_everything_is_not_alive(client: BerthClient, server: Scripted) -> None:
    server.will(*[answer(200, b"<html>Log in</html>")] * ROUNDS)
    with pytest.raises(Unreachable, match='not "ok"'):
        await client.ping()


async def test_a_redirect_is_not_followed(start: Any, connect: Connect) -> None:
    honest, other = await start(), await start()
    honest.will(*[answer(307, b"", location=other.url)] * ROUNDS)
    client = await connect(honest, api_key="s3cret")
    with pytest.raises(OutcomeUnknown):
        await acquire(client)
    assert not other.requests


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"]
)
async def test_a_reply_that_does_not_end_is_left_at_the_deadline(
    server: Scripted, connect: Connect, mock_clock: MockClock, sent: bytes
) -> None:
    client = await connect(server, timeout_seconds=10)
    stall = Stall(sent)
    server.will(stall)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_jump_once, stall, mock_clock)
        with pytest.raises(OutcomeUnknown, match="did not answer within 10 s"):
            await acquire(client)
    assert len(server.requests) == 1


async def _jump_once(stall: Stall, clock: MockClock) -> None:
    await stall.begun.wait()
    clock.jump(10)


REFUSALS: list[tuple[int, str, type[ApiError]]] = [
    (400, "invalid_ttl", Invalid),
    (413, "body_too_large", Invalid),
    (401, "unauthenticated", NotAllowed),
    (403, "forbidden_holder", NotAllowed),
    (405, "method_not_allowed", ApiError),
    (409, "not_holder", Conflict),
    (503, "quarantine", ApiError),
    (503, "token_exhausted", ApiError),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS, ids=lambda value: str(value))
async def test_a_refusal_is_told_as_the_server_put_it_and_not_asked_again(
    client: BerthClient, server: Scripted, status: int, code: str, kind: type[ApiError]
) -> None:
    server.will(problem(status, code, "because", x_request_id="abc", retry_after="3"))
    with pytest.raises(BerthError) as caught:
        await acquire(client)
    error = caught.value
    assert type(error) is kind
    assert isinstance(error, ApiError)
    assert (error.status, error.code, error.text, str(error)) == (status, code, "because", "because")
    assert (error.request_id, error.retry_after_seconds) == ("abc", 3.0)
    assert len(server.requests) == 1


async def test_a_404_to_what_cannot_be_absent_is_a_wrong_address(
    client: BerthClient, server: Scripted
) -> None:
    server.will(problem(404, "not_found", "no such path", x_request_id="abc"))
    with pytest.raises(WrongAddress, match=f"{server.url} answered 404: no such path") as caught:
        await acquire(client)
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (404, "not_found", "abc")
    assert len(server.requests) == 1


async def test_a_404_to_what_may_be_absent_is_its_absence(client: BerthClient, server: Scripted) -> None:
    server.will(problem(404, "not_found", "not found"))
    with pytest.raises(NotFound, match="not found"):
        await get_lease(client)


async def test_a_refusal_may_lack_a_code(client: BerthClient, server: Scripted) -> None:
    server.will(answer(409, {"error": "lease held by another identity or token"}))
    with pytest.raises(Conflict) as caught:
        await release(client)
    assert (caught.value.code, caught.value.request_id, caught.value.retry_after_seconds) == ("", "", None)


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "nan", "inf", "soon"])
async def test_a_retry_after_that_is_no_number_is_none(
    client: BerthClient, server: Scripted, value: str
) -> None:
    server.will(problem(409, "not_holder", retry_after=value))
    with pytest.raises(Conflict) as caught:
        await release(client)
    assert caught.value.retry_after_seconds is None
