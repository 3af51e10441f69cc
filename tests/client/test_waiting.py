"""Waiting for a lease: how long each request waits at the server, and how often one is made."""

from collections.abc import Sequence
from math import inf
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from berth.client import ApiError, LeaseNotAcquired, Unreachable
from berth.client.waiting import granted
from berth.wire.shapes import AcquireReply

TTL = 12
GRANTED = AcquireReply(True, "", "", "me", 7)
HELD = AcquireReply(False, "", "", "other", 6, remaining_seconds=9.0, reason="held")


class Server:
    """Answers each acquire with the next of these, the last again and again; it waits as long as it is asked
    to, unless it is `hasty`."""

    def __init__(self, *answers: AcquireReply | Exception | None, hasty: bool = False) -> None:
        self._answers = [*answers]
        self._hasty = hasty
        self.asked: list[tuple[float, int]] = []

    async def __call__(self, at_server_seconds: int) -> AcquireReply:
        self.asked.append((trio.current_time(), at_server_seconds))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await trio.sleep_forever()
        assert answer is not None
        if not (answer.acquired or self._hasty):
            await trio.sleep(at_server_seconds)
        return answer

    @property
    def waits(self) -> Sequence[int]:
        return [seconds for _, seconds in self.asked]

    @property
    def times(self) -> Sequence[float]:
        return [at - self.asked[0][0] for at, _ in self.asked]


async def wait(server: Server, seconds: float = inf, ttl_seconds: int | None = TTL) -> AcquireReply:
    return await granted(server, "default/db", ttl_seconds=ttl_seconds, wait_seconds=seconds, rng=Random(1))


def refusal(status: int, code: str, retry_after_seconds: float | None = None) -> ApiError:
    return ApiError("no", status=status, code=code, retry_after_seconds=retry_after_seconds)


async def test_the_first_request_does_not_wait_and_the_others_wait_a_third_of_the_ttl(
    autojump_clock: MockClock,
) -> None:
    server = Server(HELD, HELD, HELD, GRANTED)
    assert await wait(server) is GRANTED
    assert server.waits == [0, 4, 4, 4]
    assert server.times == [0, 0, 4, 8]


async def test_under_a_session_a_request_waits_as_long_as_a_server_does(autojump_clock: MockClock) -> None:
    server = Server(HELD, GRANTED)
    await wait(server, ttl_seconds=None)
    assert server.waits == [0, 60]


async def test_nothing_waits_beyond_the_callers_own_time(autojump_clock: MockClock) -> None:
    server = Server(HELD)
    began = trio.current_time()
    with pytest.raises(LeaseNotAcquired, match="default/db: held by other") as refused:
        await wait(server, 6)
    assert server.waits == [0, 4, 2]
    assert trio.current_time() - began == 6
    assert refused.value.reply is HELD


async def test_no_time_is_one_request(autojump_clock: MockClock) -> None:
    server = Server(HELD)
    with pytest.raises(LeaseNotAcquired):
        await wait(server, 0)
    assert server.asked == [(trio.current_time(), 0)]


@pytest.mark.parametrize("ttl_seconds", [1, 2])
async def test_a_ttl_too_short_to_wait_with_is_asked_for_again_and_again(
    autojump_clock: MockClock, ttl_seconds: int
) -> None:
    server = Server(HELD)
    with pytest.raises(LeaseNotAcquired):
        await wait(server, 10, ttl_seconds)
    assert set(server.waits) == {0}
    assert 10 < len(server.asked) < 22


@pytest.mark.parametrize(
    "answer",
    [
        HELD,
        AcquireReply(False, "", "", reason="waiters", remaining_seconds=0.0),
        AcquireReply(False, "", "", reason="lock_delay", remaining_seconds=0.0, available_after_seconds=30.0),
        AcquireReply(False, "", "", reason="quarantine", remaining_seconds=0.0, available_after_seconds=30.0),
        AcquireReply(False, "", "", reason="a new one"),
        Unreachable("nobody is there"),
        refusal(429, "rate_limited"),
    ],
    ids=str,
)
async def test_an_answer_that_comes_before_its_time_is_no_reason_to_hurry(
    autojump_clock: MockClock, answer: Any
) -> None:
    server = Server(answer, hasty=True)
    with pytest.raises(LeaseNotAcquired):
        await wait(server, 10)
    assert len(server.asked) < 23


async def test_the_end_of_a_lock_delay_is_met(autojump_clock: MockClock) -> None:
    closed = AcquireReply(
        False, "", "", reason="lock_delay", remaining_seconds=0.0, available_after_seconds=0.2
    )
    server = Server(closed, closed, GRANTED, hasty=True)
    await wait(server)
    assert server.times[-1] <= 0.2


async def test_a_server_that_says_when_to_come_again_is_left_alone_until_then(
    autojump_clock: MockClock,
) -> None:
    server = Server(refusal(429, "rate_limited", 7.0), refusal(503, "quarantine", 3600.0), GRANTED)
    await wait(server)
    assert server.times == [0, 7, 67]


async def test_who_may_not_wait_on_one_more_connection_asks_without(autojump_clock: MockClock) -> None:
    crowded = refusal(429, "too_many_connections", 1.0)
    server = Server(HELD, crowded, HELD, crowded, GRANTED)
    await wait(server)
    assert server.waits == [0, 4, 0, 4, 0]


async def test_what_no_waiting_mends_is_raised(autojump_clock: MockClock) -> None:
    with pytest.raises(ApiError) as refused:
        await wait(Server(HELD, refusal(403, "forbidden_holder")))
    assert refused.value.code == "forbidden_holder"


async def test_a_silent_server_is_told_as_one(autojump_clock: MockClock) -> None:
    server = Server(HELD, None)
    with pytest.raises(LeaseNotAcquired, match="did not answer in time") as refused:
        await wait(server, 5)
    assert refused.value.reply is None
