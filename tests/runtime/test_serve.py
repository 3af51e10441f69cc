"""The server, from outside, over real sockets and TLS; limits are short, and waits are for conditions."""

import json
import ssl

import pytest
import trio
import trustme
from quart import request
from quart_trio import QuartTrio

from berth.runtime.asgi import BodyFault, Receive, Scope, Send, read_body
from berth.runtime.bind import BindFailed
from berth.runtime.serve import Server, serve_app
from berth.runtime.tls import ServerTls, TlsFiles
from tests.runtime.conftest import Dial, Journal, StartServer, read_reply, read_to_end, write_pair

GET = b"GET / HTTP/1.1\r\nHost: berth\r\n\r\n"
# What must happen at a limit is given this much longer, on a busy machine.
SLACK_SECONDS = 5.0


async def answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body it was sent, or the name of the fault."""
    try:
        body = await read_body(scope, receive, limit_bytes=1000, deadline_seconds=60)
    except BodyFault as fault:
        await answer(send, 413, type(fault).__name__.encode())
    else:
        await answer(send, 200, body or scope["path"].encode())


async def dribble(stream: trio.SocketStream, *, within_seconds: float) -> None:
    """Sends a byte at a time until the server has closed the connection."""
    with trio.fail_after(within_seconds):
        try:
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.05)
        except trio.BrokenResourceError:
            pass


class Held:
    """An application that answers when it is let go."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.let_go = trio.Event()
        self.left = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.set()
        try:
            await self.let_go.wait()
            await answer(send, 200, b"done")
        finally:
            self.left.set()


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


async def test_drain_closes_idle_and_new_connections_and_accepts_no_more(
    start_server: StartServer, dial: Dial
) -> None:
    server = await start_server(echo)
    idle, fresh = await dial(server), await dial(server)
    await idle.send_all(GET)
    await read_reply(idle)
    with trio.fail_after(SLACK_SECONDS):
        await server.drain()
    assert await read_to_end(idle) == b""
    assert await read_to_end(fresh) == b""
    with pytest.raises(OSError, match="connect"):
        await dial(server)


async def test_drain_lets_a_request_end_and_tells_the_client_to_go(
    start_server: StartServer, dial: Dial, nursery: trio.Nursery
) -> None:
    app = Held()
    server = await start_server(app)
    stream = await dial(server)
    await stream.send_all(GET)
    await app.entered.wait()
    nursery.start_soon(server.drain)
    await trio.testing.wait_all_tasks_blocked()
    app.let_go.set()
    reply = await read_to_end(stream)
    assert b"connection: close" in reply
    assert reply.endswith(b"done")


async def test_drain_tells_streams_which_end_themselves(
    start_server: StartServer, dial: Dial, nursery: trio.Nursery
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
        await scope["state"]["draining"].wait()
        await send({"type": "http.response.body", "body": b"last\n"})

    server = await start_server(app)
    stream = await dial(server)
    await stream.send_all(GET)
    with trio.fail_after(SLACK_SECONDS):
        assert b"first" in await stream.receive_some()
        nursery.start_soon(server.drain)
    assert (await read_to_end(stream)).endswith(b"5\r\nlast\n\r\n0\r\n\r\n")


async def test_drain_cuts_off_at_its_limit(start_server: StartServer, dial: Dial, journal: Journal) -> None:
    app = Held()
    server = await start_server(app, drain_seconds=0.2)
    stream = await dial(server)
    await stream.send_all(GET)
    await app.entered.wait()
    with trio.fail_after(0.2 + SLACK_SECONDS):
        await server.drain()
    assert app.left.is_set()
    assert await read_to_end(stream) == b""
    assert journal.messages() == ["drain cut connections off"]


@pytest.mark.parametrize("encrypted", [False, True])
async def test_drain_does_not_wait_for_a_client_that_never_reads(
    start_server: StartServer, dial: Dial, server_tls: ServerTls, authority: trustme.CA, encrypted: bool
) -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
            sent += 1

    tls = server_tls if encrypted else None
    server = await start_server(app, tls=tls, send_seconds=600, drain_seconds=0.2)
    raw = await dial(server)
    stream = trio.SSLStream(raw, trusting(authority), server_hostname="localhost") if encrypted else raw
    await stream.send_all(GET)
    before = -1
    while before < sent or not sent:
        before = sent
        await trio.sleep(0.1)
    with trio.fail_after(0.2 + SLACK_SECONDS):
        await server.drain()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.configure_trust(context)
    return context


async def connect_tls(
    dial: Dial, server: Server, context: ssl.SSLContext
) -> trio.SSLStream[trio.SocketStream]:
    stream = trio.SSLStream(await dial(server), context, server_hostname="localhost", https_compatible=True)
    await stream.do_handshake()
    return stream


async def test_tls_serves_http1_only(
    start_server: StartServer, dial: Dial, server_tls: ServerTls, authority: trustme.CA
) -> None:
    server = await start_server(echo, tls=server_tls)
    assert server.addresses[0].startswith("https://127.0.0.1:")
    stream = await connect_tls(dial, server, trusting(authority))
    assert stream.selected_alpn_protocol() == "http/1.1"
    await stream.send_all(GET)
    assert await read_reply(stream) == (200, b"/")


async def test_a_handshake_that_does_not_begin_is_cut(
    start_server: StartServer, dial: Dial, server_tls: ServerTls
) -> None:
    stream = await dial(await start_server(echo, tls=server_tls, handshake_seconds=0.2))
    assert await read_to_end(stream, within_seconds=0.2 + SLACK_SECONDS) == b""


async def test_plain_http_on_the_tls_port_is_closed_and_the_server_goes_on(
    start_server: StartServer, dial: Dial, server_tls: ServerTls, authority: trustme.CA, journal: Journal
) -> None:
    server = await start_server(echo, tls=server_tls)
    plain = await dial(server)
    await plain.send_all(GET)
    assert not (await read_to_end(plain)).startswith(b"HTTP")
    await connect_tls(dial, server, trusting(authority))
    assert journal.messages() == []


async def test_an_old_tls_version_is_refused(
    start_server: StartServer, dial: Dial, server_tls: ServerTls, authority: trustme.CA
) -> None:
    context = trusting(authority)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = await start_server(echo, tls=server_tls)
    with pytest.raises(trio.BrokenResourceError):
        await connect_tls(dial, server, context)


async def test_a_replaced_certificate_is_served_to_new_handshakes(
    start_server: StartServer, dial: Dial, server_tls: ServerTls, tls_files: TlsFiles, authority: trustme.CA
) -> None:
    server = await start_server(echo, tls=server_tls)
    before = await connect_tls(dial, server, trusting(authority))
    write_pair(authority, tls_files.cert.parent, "localhost")
    assert server_tls.reload_if_changed()
    after = await connect_tls(dial, server, trusting(authority))
    assert before.getpeercert()["serialNumber"] != after.getpeercert()["serialNumber"]
    await before.send_all(GET)
    assert await read_reply(before) == (200, b"/")


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
