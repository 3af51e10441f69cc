"""The server's limits in time; they are short here, and waits are for conditions."""

import pytest
import trio

from berth.runtime.asgi import Receive, Scope, Send
from tests.runtime.bodies import BodyFault, read_body
from tests.runtime.conftest import Dial, StartServer, read_reply, read_to_end
from tests.runtime.serving import GET, SLACK_SECONDS, answer, dribble, echo


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost"])
async def test_a_head_that_does_not_end_is_cut(start_server: StartServer, dial: Dial, start: bytes) -> None:
    stream = await dial(await start_server(echo, head_seconds=0.2))
    await stream.send_all(start)
    assert await read_to_end(stream, within_seconds=0.2 + SLACK_SECONDS) == b""


async def test_a_dribbled_head_gains_no_time(start_server: StartServer, dial: Dial) -> None:
    stream = await dial(await start_server(echo, head_seconds=0.3))
    await dribble(stream, within_seconds=0.3 + SLACK_SECONDS)


async def test_a_later_head_has_the_heads_limit_not_the_idle_one(
    start_server: StartServer, dial: Dial
) -> None:
    stream = await dial(await start_server(echo, head_seconds=0.2, keep_alive_seconds=600))
    await stream.send_all(GET)
    await read_reply(stream)
    await stream.send_all(b"GET")
    assert await read_to_end(stream, within_seconds=0.2 + SLACK_SECONDS) == b""


async def test_an_idle_connection_outlives_the_heads_limit_but_not_its_own(
    start_server: StartServer, dial: Dial
) -> None:
    stream = await dial(await start_server(echo, head_seconds=0.1, keep_alive_seconds=0.5))
    await stream.send_all(GET)
    await read_reply(stream)
    await trio.sleep(0.25)
    await stream.send_all(GET)
    assert await read_reply(stream) == (200, b"/")
    assert await read_to_end(stream, within_seconds=0.5 + SLACK_SECONDS) == b""


async def test_a_dribbled_body_ends_in_a_disconnect(start_server: StartServer, dial: Dial) -> None:
    seen: list[str] = []
    told = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read_body(scope, receive, limit_bytes=1000, deadline_seconds=60)
        except BodyFault as fault:
            seen.append(type(fault).__name__)
            told.set()

    stream = await dial(await start_server(app, body_seconds=0.3))
    await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
    await dribble(stream, within_seconds=0.3 + SLACK_SECONDS)
    with trio.fail_after(SLACK_SECONDS):
        await told.wait()
    assert seen == ["Disconnected"]


async def test_a_client_that_goes_away_is_a_disconnect(start_server: StartServer, dial: Dial) -> None:
    told = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        assert (await receive())["type"] == "http.disconnect"
        with pytest.raises(OSError, match="closed"):
            await answer(send, 200, b"nobody reads this")
        told.set()

    stream = await dial(await start_server(app))
    await stream.send_all(GET)
    await stream.aclose()
    with trio.fail_after(SLACK_SECONDS):
        await told.wait()


async def test_a_client_that_never_reads_is_cut(start_server: StartServer, dial: Dial) -> None:
    ended = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        finally:
            ended.set()

    stream = await dial(await start_server(app, send_seconds=0.3))
    await stream.send_all(GET)
    with trio.fail_after(0.3 + SLACK_SECONDS):
        await ended.wait()
