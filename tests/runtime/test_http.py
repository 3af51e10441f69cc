"""The client against our own server, and against sockets that misbehave."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from berth.runtime.asgi import Receive, Scope, Send
from berth.runtime.clock import SystemClock
from berth.runtime.http import CaFileInvalid, HttpClient, Lines, NotSent, OutcomeUnknown, Pieces, Reply
from berth.runtime.tls import ServerTls
from tests.runtime.bodies import read_body
from tests.runtime.conftest import Journal, StartServer, write_pair

SECONDS = 5.0


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Tells what it was sent; /moved redirects, /big answers with 10,000 bytes."""
    body = await read_body(scope, receive, limit_bytes=1000, deadline_seconds=5)
    headers = dict(scope["headers"])
    text = b"%s %s %s %s" % (scope["method"].encode(), scope["raw_path"], headers[b"user-agent"], body)
    content = b"x" * 10_000 if scope["path"] == "/big" else text
    status = 302 if scope["path"] == "/moved" else 200
    reply = [(b"location", b"/elsewhere"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": reply})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    async with HttpClient(user_agent="berth-test") as opened:
        yield opened


Peer = Callable[[trio.SocketStream], Awaitable[None]]


@pytest.fixture
def start_peer(nursery: trio.Nursery) -> Callable[[Peer], Awaitable[str]]:
    async def start(peer: Peer) -> str:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(trio.serve_listeners, peer, [listener]))
        return f"http://127.0.0.1:{listener.socket.getsockname()[1]}"

    return start


async def test_a_request_and_its_reply(client: HttpClient, start_server: StartServer) -> None:
    url = (await start_server(mirror)).addresses[0]
    reply = await client.request("POST", f"{url}/a%2Fb", body=b"hi", timeout_seconds=SECONDS)
    assert (reply.status, reply.body) == (200, b"POST /a%2Fb berth-test hi")
    assert reply.headers["content-length"] == str(len(reply.body))


async def test_a_redirect_is_an_answer(client: HttpClient, start_server: StartServer) -> None:
    url = (await start_server(mirror)).addresses[0]
    reply = await client.request("GET", f"{url}/moved", timeout_seconds=SECONDS)
    assert (reply.status, reply.headers["location"]) == (302, "/elsewhere")


async def test_a_reply_over_the_cap_is_not_taken(client: HttpClient, start_server: StartServer) -> None:
    url = (await start_server(mirror)).addresses[0]
    with pytest.raises(OutcomeUnknown, match="more than 9999 bytes"):
        await client.request("GET", f"{url}/big", timeout_seconds=SECONDS, max_body_bytes=9999)
    reply = await client.request("GET", f"{url}/big", timeout_seconds=SECONDS, max_body_bytes=10_000)
    assert len(reply.body) == 10_000


async def test_nobody_listening_is_not_sent(client: HttpClient) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(NotSent, match=f"cannot connect to http://127.0.0.1:{port}"):
        await client.request("GET", f"http://127.0.0.1:{port}/secret?x=1", timeout_seconds=SECONDS)


@pytest.mark.parametrize(
    "url", ["ftp://a", "nonsense", "http://", "http://[::1", "http://a..b", "http://xn--a"]
)
async def test_what_is_no_address_is_not_sent(client: HttpClient, url: str) -> None:
    with pytest.raises(NotSent, match="no http:// or https:// address"):
        await client.request("GET", url, timeout_seconds=SECONDS)


async def close_at_once(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def never_answer(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def stop_halfway(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


async def dribble(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await stream.send_all(b"x")
        await trio.sleep(0.02)


async def babble(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"no HTTP at all\r\n\r\n")


@pytest.mark.parametrize("peer", [close_at_once, never_answer, stop_halfway, dribble, babble])
async def test_once_sent_no_failure_tells_the_outcome(
    client: HttpClient, start_peer: Callable[[Peer], Awaitable[str]], peer: Peer
) -> None:
    url = await start_peer(peer)
    with trio.fail_after(SECONDS), pytest.raises(OutcomeUnknown, match=url):
        await client.request("POST", url, body=b"x", timeout_seconds=0.3)


async def test_a_handshake_that_hangs_is_not_sent(
    client: HttpClient, start_peer: Callable[[Peer], Awaitable[str]]
) -> None:
    url = (await start_peer(never_answer)).replace("http:", "https:")
    with pytest.raises(NotSent, match=r"within 0\.2 s"):
        await client.request("GET", url, timeout_seconds=0.2)


async def test_a_ca_file_is_trusted_and_nothing_else_is(
    client: HttpClient,
    start_server: StartServer,
    server_tls: ServerTls,
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    url = (await start_server(mirror, tls=server_tls)).addresses[0]
    with pytest.raises(NotSent, match="is not trusted"):
        await client.request("GET", url, timeout_seconds=SECONDS)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with HttpClient(user_agent="berth-test", ca_file=ca_file) as trusting:
        assert (await trusting.request("GET", url, timeout_seconds=SECONDS)).status == 200


async def test_a_certificate_for_another_name_is_no_matter_of_trust(
    start_server: StartServer, journal: Journal, authority: trustme.CA, tmp_path: Path
) -> None:
    other = ServerTls(
        write_pair(authority, tmp_path, "other.example"), clock=SystemClock(), logger=journal.logger
    )
    url = (await start_server(mirror, tls=other)).addresses[0]
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with HttpClient(user_agent="berth-test", ca_file=ca_file) as trusting:
        with pytest.raises(NotSent, match=r"cannot be accepted: IP address mismatch"):
            await trusting.request("GET", url, timeout_seconds=SECONDS)


async def test_the_wrong_scheme_is_named_both_ways(
    client: HttpClient,
    start_server: StartServer,
    start_peer: Callable[[Peer], Awaitable[str]],
    server_tls: ServerTls,
) -> None:
    tls_url = (await start_server(mirror, tls=server_tls)).addresses[0]
    with pytest.raises(OutcomeUnknown, match=r"if it speaks TLS, it is asked by https://"):
        await client.request("GET", tls_url.replace("https:", "http:"), timeout_seconds=SECONDS)
    plain_url = await start_peer(babble)
    with pytest.raises(NotSent, match="does not speak TLS; check the port"):
        await client.request("GET", plain_url.replace("http:", "https:"), timeout_seconds=SECONDS)


def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path in (missing, empty):
        with pytest.raises(CaFileInvalid, match=str(path)):
            HttpClient(user_agent="x", ca_file=path)


async def test_credentials_do_not_show_in_a_fault(client: HttpClient) -> None:
    with pytest.raises(NotSent) as caught:
        await client.request("GET", "http://user:hunter2@127.0.0.1:1/", timeout_seconds=SECONDS)
    assert "hunter2" not in str(caught.value)


NDJSON = "application/x-ndjson"
STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def sends(*parts: bytes, then: Peer = never_answer) -> Peer:
    async def peer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        for part in parts:
            await stream.send_all(part)
        await then(stream)

    return peer


async def hang_up(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def open_lines(client: HttpClient, url: str, **limits: Any) -> Lines:
    lines = await client.lines(
        "GET", url, timeout_seconds=SECONDS, media_type=NDJSON, **{"line_seconds": SECONDS, **limits}
    )
    assert isinstance(lines, Lines)
    return lines


Start = Callable[[Peer], Awaitable[str]]


async def test_lines_come_whole_however_they_are_cut(client: HttpClient, start_peer: Start) -> None:
    parts = [STREAM, chunk(b"one\ntw"), chunk(b"o\n\nth"), chunk(b"ree\n"), chunk(b"")]
    lines = await open_lines(client, await start_peer(sends(*parts)))
    assert [line async for line in lines] == [b"one", b"two", b"", b"three"]
    await lines.aclose()


async def test_lines_that_are_left_close_their_connection(client: HttpClient, start_peer: Start) -> None:
    closed = trio.Event()

    async def until_closed(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()
        closed.set()

    lines = await open_lines(client, await start_peer(sends(STREAM, chunk(b"one\ntwo\n"), then=until_closed)))
    assert await anext(lines) == b"one"
    await lines.aclose()
    with trio.fail_after(SECONDS):
        await closed.wait()


async def test_a_line_that_is_late_is_a_silence(client: HttpClient, start_peer: Start) -> None:
    url = await start_peer(sends(STREAM, chunk(b"one\ntw")))
    lines = await open_lines(client, url, line_seconds=0.2)
    assert await anext(lines) == b"one"
    with trio.fail_after(SECONDS), pytest.raises(OutcomeUnknown, match=r"sent nothing for 0\.2 s") as caught:
        await anext(lines)
    assert caught.value.silent
    await lines.aclose()


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([chunk(b"one\ntw")], "broke before the whole reply was here"),
        ([chunk(b"one\ntw"), chunk(b"")], "ended its reply within a line"),
        ([chunk(b"one\n" + b"x" * 100)], "a line of more than 50 bytes"),
        ([chunk(b"one\n" + b"x" * 100 + b"\n")], "a line of more than 50 bytes"),
    ],
)
async def test_what_is_no_line_is_a_fault(
    client: HttpClient, start_peer: Start, parts: list[bytes], text: str
) -> None:
    lines = await open_lines(client, await start_peer(sends(STREAM, *parts, then=hang_up)), max_line_bytes=50)
    assert await anext(lines) == b"one"
    with pytest.raises(OutcomeUnknown, match=text):
        await anext(lines)
    await lines.aclose()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n",
        b"HTTP/1.1 410 Gone\r\nContent-Type: application/x-ndjson\r\n",
    ],
)
async def test_a_reply_of_another_kind_comes_whole(
    client: HttpClient, start_peer: Start, head: bytes
) -> None:
    url = await start_peer(sends(head + b"Content-Length: 4\r\n\r\nhalf"))
    reply = await client.lines("GET", url, timeout_seconds=SECONDS, media_type=NDJSON, line_seconds=SECONDS)
    assert isinstance(reply, Reply)
    assert reply.body == b"half"


async def test_lines_that_do_not_begin_in_time_are_not_waited_for(
    client: HttpClient, start_peer: Start
) -> None:
    with pytest.raises(OutcomeUnknown, match="did not answer within"):
        await client.lines(
            "GET",
            await start_peer(never_answer),
            timeout_seconds=0.2,
            media_type=NDJSON,
            line_seconds=SECONDS,
        )


async def test_pieces_come_as_they_are_sent(client: HttpClient, start_peer: Start) -> None:
    url = await start_peer(sends(STREAM, chunk(b"on"), chunk(b"e\ntwo"), chunk(b"")))
    pieces = await client.pieces("GET", url, timeout_seconds=SECONDS, idle_seconds=SECONDS)
    assert isinstance(pieces, Pieces)
    assert b"".join([piece async for piece in pieces]) == b"one\ntwo"
    await pieces.aclose()


async def test_pieces_that_stop_coming_are_a_silence(client: HttpClient, start_peer: Start) -> None:
    url = await start_peer(sends(STREAM, chunk(b"on")))
    pieces = await client.pieces("GET", url, timeout_seconds=SECONDS, idle_seconds=0.2)
    assert isinstance(pieces, Pieces)
    assert await anext(pieces) == b"on"
    with trio.fail_after(SECONDS), pytest.raises(OutcomeUnknown, match=r"sent nothing for 0\.2 s") as caught:
        await anext(pieces)
    assert caught.value.silent
    await pieces.aclose()


async def test_pieces_of_another_status_come_whole(client: HttpClient, start_peer: Start) -> None:
    url = await start_peer(sends(b"HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\nhalf"))
    reply = await client.pieces("GET", url, timeout_seconds=SECONDS, idle_seconds=SECONDS)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (410, b"half")


async def test_a_context_of_its_own_and_another_name(
    start_server: StartServer, journal: Journal, authority: trustme.CA, tmp_path: Path
) -> None:
    other = ServerTls(
        write_pair(authority, tmp_path, "other.example"), clock=SystemClock(), logger=journal.logger
    )
    url = (await start_server(mirror, tls=other)).addresses[0]
    tls = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    async with HttpClient(user_agent="berth-test", tls=tls, server_name="other.example") as trusting:
        assert (await trusting.request("GET", url, timeout_seconds=SECONDS)).status == 200
    async with HttpClient(user_agent="berth-test", tls=tls) as trusting:
        with pytest.raises(NotSent, match="IP address mismatch"):
            await trusting.request("GET", url, timeout_seconds=SECONDS)
