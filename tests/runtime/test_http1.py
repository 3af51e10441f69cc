"""The lean connection, against a server that says what a test wants, in pieces."""

import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from berth.runtime.http import NotSent, OutcomeUnknown, Reply
from berth.runtime.http1 import Http1Connection, connected, request_bytes

TRUST = ssl.create_default_context()
LIMIT_SECONDS = 5.0


@asynccontextmanager
async def saying(*pieces: bytes, end: bool = False) -> AsyncGenerator[Http1Connection]:
    """A connection to a server that answers each request with all of the pieces, and perhaps ends then."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            while await stream.receive_some():
                for piece in pieces:
                    await stream.send_all(piece)
                    await trio.sleep(0.001)
                if end:
                    return

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with await connected(url, TRUST, timeout_seconds=LIMIT_SECONDS) as connection:
            yield connection
        nursery.cancel_scope.cancel()


async def ask(connection: Http1Connection) -> Reply:
    return await connection.exchange(b"x", timeout_seconds=LIMIT_SECONDS)


def in_bytes(data: bytes) -> Sequence[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Id: 7\r\n\r\nabc"


def test_a_request():
    request = request_bytes("POST", "https://host:8443/x", "/p?q=1", headers={"a": "b"}, body=b"{}")
    assert request == (
        b"POST /x/p?q=1 HTTP/1.1\r\nhost: host:8443\r\na: b\r\n"
        b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize("pieces", [[REPLY], in_bytes(REPLY)], ids=["whole", "byte by byte"])
async def test_replies_one_after_the_other(pieces: Sequence[bytes]):
    async with saying(*pieces) as connection:
        for _ in range(3):
            reply = await ask(connection)
            assert (reply.status, reply.headers["x-id"], reply.body) == (200, "7", b"abc")
            assert connection.usable


async def test_no_content():
    async with saying(b"HTTP/1.1 204 No Content\r\n\r\n") as connection:
        assert (await ask(connection)).status == 204


async def test_the_last_reply_of_a_connection():
    async with saying(REPLY.replace(b"X-Id: 7", b"Connection: close")) as connection:
        assert (await ask(connection)).body == b"abc"
        assert not connection.usable


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
        b"x" * 100_000,
    ],
)
async def test_what_is_no_whole_reply(said: bytes):
    async with saying(said, end=True) as connection:
        with pytest.raises(OutcomeUnknown):
            await ask(connection)
        assert not connection.usable


async def test_silence():
    async with saying(REPLY[:-1]) as connection:
        with pytest.raises(OutcomeUnknown) as caught:
            await connection.exchange(b"x", timeout_seconds=0.05)
        assert caught.value.silent
        assert not connection.usable


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
async def test_lines_of_a_stream(cut: bool):
    data = CHUNKED + b"6\r\none\ntw\r\n2\r\no\n\r\nA\r\nthree\nfour\r\n0\r\n\r\n"
    async with saying(*(in_bytes(data) if cut else [data])) as connection:
        assert (await connection.open_stream(b"x", timeout_seconds=LIMIT_SECONDS)).body == b""
        lines = [await connection.line(timeout_seconds=LIMIT_SECONDS) for _ in range(5)]
    assert lines == [b"one", b"two", b"three", None, None]


async def test_a_stream_that_is_refused():
    async with saying(REPLY) as connection:
        assert (await connection.open_stream(b"x", timeout_seconds=LIMIT_SECONDS)).body == b"abc"
        assert await connection.line(timeout_seconds=LIMIT_SECONDS) is None


@pytest.mark.parametrize("rest", [b"", b"nonsense\r\n", b"5\r\nab"])
async def test_a_stream_that_breaks(rest: bytes):
    async with saying(CHUNKED + rest, end=True) as connection:
        await connection.open_stream(b"x", timeout_seconds=LIMIT_SECONDS)
        with pytest.raises(OutcomeUnknown):
            await connection.line(timeout_seconds=LIMIT_SECONDS)


async def test_a_stream_that_is_silent():
    async with saying(CHUNKED) as connection:
        await connection.open_stream(b"x", timeout_seconds=LIMIT_SECONDS)
        with pytest.raises(OutcomeUnknown) as caught:
            await connection.line(timeout_seconds=0.05)
        assert caught.value.silent


async def test_nobody_there():
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(NotSent, match="cannot connect to http://127"):
            await connected(url, TRUST, timeout_seconds=LIMIT_SECONDS)


async def test_a_server_without_tls():
    async with saying(REPLY, end=True) as connection:
        url = connection._origin.replace("http:", "https:")
        with pytest.raises(NotSent):
            await connected(url, TRUST, timeout_seconds=LIMIT_SECONDS)
