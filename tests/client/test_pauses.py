"""How long is waited between rounds over the servers, told by a clock that only moves when all wait."""

from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from berth.client import ApiError, OutcomeUnknown, Unreachable, believe
from berth.client.servers import PAUSE_MAX_SECONDS, RETRY_AFTER_MAX_SECONDS, ROUNDS, Call, Servers
from berth.runtime import http
from berth.wire import routes
from tests.client.conftest import NoJitter

CALL = Call(routes.HEALTHZ, "/healthz", believe.alive)
WRITE = Call(routes.RELEASE, "/release", believe.nothing, lambda _: b"{}")


class Channel:
    """Stands for the network: each request gets the next step, the last again and again; None is silence."""

    def __init__(self, *steps: http.Reply | Exception | None) -> None:
        self._steps = list(steps)
        self.asked: list[tuple[float, str, float]] = []
        self.bodies: list[bytes | None] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
        wait_seconds: float,
    ) -> http.Reply:
        self.asked.append((trio.current_time(), url, timeout_seconds))
        self.bodies.append(body)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if step is None:
            await trio.sleep(timeout_seconds)
            raise http.OutcomeUnknown("no answer")
        if isinstance(step, Exception):
            raise step
        return step

    @property
    def gaps(self) -> list[float]:
        times = [at for at, _, _ in self.asked]
        return [later - earlier for earlier, later in pairwise(times)]


def servers(
    channel: Channel, *urls: str, timeout_seconds: float = 10.0, rng: Random | None = None
) -> Servers:
    network = cast("http.HttpClient", channel)
    tried = urls or ("https://a",)
    return Servers(tried, network, None, timeout_seconds=timeout_seconds, rng=rng or NoJitter())


def busy(retry_after: str, status: int = 429, code: str = "rate_limited") -> http.Reply:
    body = f'{{"error": "busy", "code": "{code}"}}'.encode()
    return http.Reply(status, {"retry-after": retry_after}, body)


ALIVE = http.Reply(200, {}, b"ok\n")
GONE = http.NotSent("nobody is there")
WAIT = Call(routes.ACQUIRE, "/acquire", believe.nothing, lambda left: b"%d" % left, wait_seconds=20)


class Longest(Random):
    """Draws the upper end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


async def test_pauses_grow_and_tries_are_bounded(autojump_clock: object) -> None:
    channel = Channel(GONE)
    with pytest.raises(Unreachable, match="nobody is there"):
        await servers(channel, rng=Longest()).ask(CALL)
    assert channel.gaps == pytest.approx([0.1, 0.2, 0.4])
    assert max(channel.gaps) <= PAUSE_MAX_SECONDS


async def test_all_servers_are_asked_before_a_pause(autojump_clock: object) -> None:
    channel = Channel(GONE, GONE, ALIVE)
    await servers(channel, "https://a", "https://b", rng=Longest()).ask(CALL)
    assert [url for _, url, _ in channel.asked] == [f"https://{host}/healthz" for host in "aba"]
    assert channel.gaps == pytest.approx([0.0, 0.1])


@pytest.mark.parametrize("reply", [busy("2"), busy("2", 503, "store_unavailable")])
async def test_a_retry_after_is_honoured(autojump_clock: object, reply: http.Reply) -> None:
    channel = Channel(reply, ALIVE)
    await servers(channel).ask(CALL)
    assert channel.gaps == pytest.approx([2.0])


async def test_but_not_for_ever(autojump_clock: object) -> None:
    channel = Channel(busy("3600"), ALIVE)
    await servers(channel).ask(CALL)
    assert channel.gaps == pytest.approx([RETRY_AFTER_MAX_SECONDS])


async def test_nor_beyond_the_deadline(autojump_clock: object) -> None:
    channel = Channel(busy("4"))
    began = trio.current_time()
    with pytest.raises(ApiError) as caught:
        await servers(channel, timeout_seconds=3).ask(CALL)
    assert caught.value.retry_after_seconds == 4
    assert trio.current_time() == began
    assert len(channel.asked) == 1


async def test_only_the_newest_round_says_how_long(autojump_clock: object) -> None:
    channel = Channel(busy("2"), GONE, ALIVE)
    await servers(channel).ask(CALL)
    assert channel.gaps == pytest.approx([2.0, 0.0])


async def test_one_deadline_spans_all_tries(autojump_clock: object) -> None:
    channel = Channel(None)
    began = trio.current_time()
    with pytest.raises(OutcomeUnknown):
        await servers(channel, "https://a", "https://b", "https://c", timeout_seconds=9).ask(WRITE)
    assert [timeout for _, _, timeout in channel.asked] == pytest.approx([3.0, 3.0, 3.0])
    assert trio.current_time() - began == pytest.approx(9)


async def test_a_server_that_answers_at_once_leaves_its_share_to_the_next(autojump_clock: object) -> None:
    channel = Channel(GONE, None)
    with pytest.raises(OutcomeUnknown):
        await servers(channel, "https://a", "https://b", timeout_seconds=8).ask(WRITE)
    assert [timeout for _, _, timeout in channel.asked] == pytest.approx([4.0, 8.0])


async def test_tries_end_where_servers_never_rest(autojump_clock: object) -> None:
    channel = Channel(busy("0"))
    with pytest.raises(ApiError):
        await servers(channel, "https://a", "https://b").ask(CALL)
    assert len(channel.asked) == 2 * ROUNDS


class Deaf(Channel):
    """Nobody takes a connection: each try gives up before its time is over, and there is another."""

    def __init__(self) -> None:
        super().__init__(None)

    async def request(self, *args: object, timeout_seconds: float, **kwargs: object) -> http.Reply:
        await trio.sleep(timeout_seconds * http.CONNECT_SHARE)
        silence = http.NotSent(f"did not answer within {timeout_seconds:g} s")
        silence.silent = True
        raise silence


async def test_a_silence_is_told_by_the_whole_time_that_was_waited(autojump_clock: MockClock) -> None:
    with pytest.raises(Unreachable, match=r"https://a did not answer within (9\.9\d?|10) s"):
        await servers(Deaf()).ask(CALL)


async def test_a_wait_is_no_part_of_the_time_that_servers_share(autojump_clock: object) -> None:
    channel = Channel(None)
    began = trio.current_time()
    with pytest.raises(OutcomeUnknown):
        await servers(channel, "https://a", "https://b", "https://c", timeout_seconds=9).ask(WAIT)
    assert [timeout for _, _, timeout in channel.asked] == pytest.approx([23.0, 3.0, 3.0])
    assert channel.bodies == [b"20", b"0", b"0"]
    assert trio.current_time() - began == pytest.approx(29)


async def test_a_server_that_answers_at_once_leaves_the_whole_wait_to_the_next(
    autojump_clock: object,
) -> None:
    channel = Channel(GONE, busy("2"), None)
    with pytest.raises(OutcomeUnknown):
        await servers(channel, "https://a", "https://b", timeout_seconds=8).ask(WAIT)
    assert channel.bodies == [b"20", b"20", b"18", b"0"]
    assert [timeout for _, _, timeout in channel.asked] == pytest.approx([24.0, 28.0, 22.0, 4.0])


async def test_a_caller_in_a_hurry_still_waits_at_the_first_server(autojump_clock: object) -> None:
    channel = Channel(None)
    with trio.move_on_after(5):
        await servers(channel, "https://a", "https://b").ask(WAIT)
    assert [timeout for _, _, timeout in channel.asked] == pytest.approx([22.5])
