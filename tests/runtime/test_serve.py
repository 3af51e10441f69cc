"""The server from outside, over real sockets: what it answers, refuses and survives."""

import json

import pytest
import trio
from quart import request
from quart_trio import QuartTrio

from berth.runtime.asgi import Receive, Scope, Send
from berth.runtime.bind import BindFailed
from berth.runtime.serve import serve_app
from tests.runtime.conftest import Dial, Journal, StartServer, read_reply, read_to_end
from tests.runtime.serving import GET, SLACK_SECONDS, Held, answer, echo


async def test_a_reply_has_a_date_and_no_server_name(start_server: StartServer, dial: Dial) -> None:
    stream = await dial(await start_server(echo))
    await stream.send_all(b"GET /x HTTP/1.1\r\nHost: berth\r\nConnection: close\r\n\r\n")
    reply = (await read_to_end(stream)).lower()
    assert reply.startswith(b"http/1.1 200")
    assert b"\r\ndate: " in reply
    assert b"server:" not in reply


async def test_a_connection_serves_thousands_of_requests(start_server: StartServer, dial: Dial) -> None:
    stream = await dial(await start_server(echo))
    for _ in range(1100):
        await stream.send_all(GET)
        assert await read_reply(stream) == (200, b"/")


async def test_pipelined_requests_are_answered_in_order(start_server: StartServer, dial: Dial) -> None:
    stream = await dial(await start_server(echo))
    await stream.send_all(
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n2"
        b"GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    replies = await read_to_end(stream)
    assert [part.split(b"\r\n\r\n")[1] for part in replies.split(b"HTTP/1.1 200")[1:]] == [b"/1", b"2", b"/3"]


async def test_a_pipelined_request_does_not_hurry_the_one_before_it(
    start_server: StartServer, dial: Dial
) -> None:
    app = Held()
    stream = await dial(await start_server(app, body_seconds=0.1))
    await stream.send_all(GET + GET)
    await app.entered.wait()
    await trio.sleep(0.3)  # over the body's limit, which neither request has any use for
    app.let_go.set()
    assert await read_reply(stream) == (200, b"done")
    assert await read_reply(stream) == (200, b"done")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"bad\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        (b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: x\r\n" * 50 + b"\r\n", 431),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    ],
)
async def test_what_is_no_proper_request_gets_a_json_refusal_and_a_close(
    start_server: StartServer, dial: Dial, journal: Journal, head: bytes, status: int
) -> None:
    stream = await dial(await start_server(echo))
    await stream.send_all(head)
    reply_head, _, body = (await read_to_end(stream)).partition(b"\r\n\r\n")
    assert reply_head.startswith(b"HTTP/1.1 %d" % status)
    assert b"connection: close" in reply_head
    assert json.loads(body)["error"]
    assert journal.messages() == []


async def test_a_refusal_of_head_has_no_body(start_server: StartServer, dial: Dial) -> None:
    stream = await dial(await start_server(echo))
    await stream.send_all(b"HEAD / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 8200 + b"\r\n\r\n")
    reply = await read_to_end(stream)
    assert reply.startswith(b"HTTP/1.1 431")
    assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "headers",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    ],
)
async def test_an_upgrade_is_not_followed(start_server: StartServer, dial: Dial, headers: bytes) -> None:
    stream = await dial(await start_server(echo))
    await stream.send_all(b"GET /up HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
    assert await read_reply(stream) == (200, b"/up")
    await stream.send_all(GET)
    assert await read_reply(stream) == (200, b"/")


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"http://berth:1/a?b", b"/a"), (b"HTTPS://berth", b"/"), (b"http://[::1/x", b"/x"), (b"//a", b"//a")],
)
async def test_a_target_with_an_authority_is_only_its_path(
    start_server: StartServer, dial: Dial, target: bytes, path: bytes
) -> None:
    stream = await dial(await start_server(echo))
    await stream.send_all(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await read_reply(stream) == (200, path)


async def test_an_early_answer_to_a_long_body_is_read_and_leaves_nothing_waiting(
    start_server: StartServer,
    dial: Dial,
) -> None:
    """More chunks than any queue holds are on their way when the application answers and leaves."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(0.1)
        await answer(send, 401, b"no")

    server = await start_server(app)
    stream = await dial(server)
    await stream.send_all(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000
    )
    reply = await read_to_end(stream)
    assert reply.startswith(b"HTTP/1.1 401")
    assert reply.endswith(b"no")
    with trio.fail_after(SLACK_SECONDS):
        await server.drain()


async def test_expect_is_answered_for_a_body_in_bounds(start_server: StartServer, dial: Dial) -> None:
    stream = await dial(await start_server(echo, body_bytes=1000))
    await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    with trio.fail_after(SLACK_SECONDS):
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
    await stream.send_all(b"body")
    assert await read_reply(stream) == (200, b"body")


async def test_expect_is_not_answered_for_a_body_out_of_bounds(start_server: StartServer, dial: Dial) -> None:
    stream = await dial(await start_server(echo, body_bytes=1000))
    await stream.send_all(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000000000\r\n\r\n"
    )
    reply = await read_to_end(stream)
    assert reply.startswith(b"HTTP/1.1 413")
    assert reply.endswith(b"BodyTooLarge")


async def test_an_exception_is_a_500_and_the_server_goes_on(
    start_server: StartServer, dial: Dial, journal: Journal
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bad":
            raise RuntimeError("the reason")
        await answer(send, 200, b"fine")

    server = await start_server(app)
    bad = await dial(server)
    await bad.send_all(b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n")
    status, body = await read_reply(bad)
    assert status == 500
    assert b"the reason" not in body
    [line] = journal.lines
    assert line["level"] == "ERROR"
    assert line["path"] == "/bad"
    assert "the reason" in line["traceback"]
    good = await dial(server)
    await good.send_all(GET)
    assert await read_reply(good) == (200, b"fine")


@pytest.mark.parametrize("headers", [[(b"content-length", b"3")], [(b"x", b"a\nb")]])
async def test_a_reply_that_breaks_the_protocol_harms_only_its_connection(
    start_server: StartServer, dial: Dial, headers: list[tuple[bytes, bytes]]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            await answer(send, 200, b"fine")
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"too long"})

    server = await start_server(app)
    bad = await dial(server)
    await bad.send_all(b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n")
    await read_to_end(bad)
    good = await dial(server)
    await good.send_all(GET)
    assert await read_reply(good) == (200, b"fine")


async def test_over_the_limit_a_connection_is_closed_and_room_is_used_again(
    start_server: StartServer, dial: Dial, journal: Journal
) -> None:
    server = await start_server(echo, connections=2)
    first, second = await dial(server), await dial(server)
    for stream in (first, second):
        await stream.send_all(GET)
        await read_reply(stream)
    for _ in range(3):
        assert await read_to_end(await dial(server)) == b""
    assert journal.messages() == ["too many connections, closing new ones"]
    await first.aclose()
    with trio.fail_after(SLACK_SECONDS):
        while True:
            stream = await dial(server)
            try:
                await stream.send_all(GET)
                assert await read_reply(stream) == (200, b"/")
                return
            except (AssertionError, trio.BrokenResourceError):
                await trio.sleep(0.01)


async def test_an_address_that_cannot_be_had_says_so_at_the_start(
    start_server: StartServer, journal: Journal, nursery: trio.Nursery
) -> None:
    taken = (await start_server(echo)).addresses[0].removeprefix("http://")
    with pytest.raises(BindFailed, match="in use"):
        await serve_app(echo, address=taken, tls=None, logger=journal.logger)


async def test_quart_trio_runs_on_it(start_server: StartServer, dial: Dial) -> None:
    app = QuartTrio(__name__)

    @app.post("/upper")
    async def upper() -> bytes:
        return (await request.data).upper()

    stream = await dial(await start_server(app))
    for _ in range(2):
        await stream.send_all(b"POST /upper HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
        assert await read_reply(stream) == (200, b"AB")
