"""How a server ends: politely, and in bounded time whatever its clients do."""

import pytest
import trio
import trustme

from berth.runtime.asgi import Receive, Scope, Send
from berth.runtime.tls import ServerTls
from tests.runtime.conftest import Dial, Journal, StartServer, read_reply, read_to_end
from tests.runtime.serving import GET, SLACK_SECONDS, Held, echo, trusting


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
