"""Many requests over few connections: whose turn it is, and which connections may be used again."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from berth.runtime import http_pool
from berth.runtime.clock import SystemClock
from berth.runtime.http import KEEP_ALIVE_SECONDS, NotSent, OutcomeUnknown
from berth.runtime.http_pool import HttpPool
from berth.runtime.tls import ServerTls
from tests.runtime.conftest import Journal, StartServer, write_pair
from tests.runtime.test_http import mirror

SECONDS = 5.0
TLS = ssl.create_default_context()


@dataclass
class Peer:
    """Answers each request with its target, once `open`; as a body that is chunked, if that is wanted."""

    url: str = ""
    chunked: bool = False
    ends_after: int = 1_000_000
    open: trio.Event = field(default_factory=trio.Event)
    connections: int = 0
    heads: list[str] = field(default_factory=list[str])
    streams: list[trio.SocketStream] = field(default_factory=list[trio.SocketStream])

    @property
    def targets(self) -> list[str]:
        return [head.split()[1] for head in self.heads]

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.streams.append(stream)
        data, answered = b"", 0
        async with stream:
            while answered < self.ends_after:
                while b"\r\n\r\n" not in data:
                    more = b""
                    with suppress(trio.BrokenResourceError):
                        more = await stream.receive_some()
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                self.heads.append(head.decode())
                await self.open.wait()
                body = self.heads[-1].split()[1].encode()
                await stream.send_all(self._reply(body))
                answered += 1

    def _reply(self, body: bytes) -> bytes:
        if not self.chunked:
            return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        return head + b"1\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (body[:1], len(body) - 1, body[1:])


@pytest.fixture
async def peer(nursery: trio.Nursery) -> Peer:
    made = Peer()
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(partial(trio.serve_listeners, made.serve, [listener]))
    made.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    made.open.set()
    return made


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with HttpPool(user_agent="berth-test", tls=TLS) as opened:
        yield opened


async def get(pool: HttpPool, peer: Peer, target: str = "/a", seconds: float = SECONDS) -> bytes:
    return (await pool.request("GET", peer.url + target, timeout_seconds=seconds)).body


async def arrived(peer: Peer, count: int) -> None:
    with trio.fail_after(SECONDS):
        while len(peer.heads) < count:  # noqa: ASYNC110 - what is waited for is the outcome
            await trio.sleep(0.001)


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
async def test_requests_one_after_the_other_share_a_connection(
    pool: HttpPool, peer: Peer, chunked: bool
) -> None:
    peer.chunked = chunked
    for number in range(5):
        assert await get(pool, peer, f"/{number}?q=%2F") == b"/%d?q=%%2F" % number
    assert peer.connections == 1
    host = peer.url.partition("//")[2]
    assert peer.heads[0].split("\r\n") == ["GET /0?q=%2F HTTP/1.1", f"host: {host}", "user-agent: berth-test"]


async def test_a_body_has_the_type_that_it_is_given(pool: HttpPool, peer: Peer) -> None:
    headers = {"content-type": "application/merge-patch+json", "authorization": "Bearer x"}
    await pool.request("PATCH", peer.url, headers=headers, body=b"", timeout_seconds=SECONDS)
    head = peer.heads[0].split("\r\n")
    assert head[0] == "PATCH / HTTP/1.1"
    assert head[3:] == [*(f"{name}: {value}" for name, value in headers.items()), "content-length: 0"]


async def test_all_are_served_in_their_order_over_few_connections(
    pool: HttpPool, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_pool, "CONNECTIONS_MAX", 3)
    peer.open = trio.Event()
    async with HttpPool(user_agent="berth-test", tls=TLS) as small, trio.open_nursery() as nursery:
        for number in range(300):
            nursery.start_soon(get, small, peer, f"/{number:03}")
            await trio.testing.wait_all_tasks_blocked()
        await arrived(peer, 3)
        peer.open.set()
    assert peer.connections == 3
    assert sorted(peer.targets) == [f"/{number:03}" for number in range(300)]
    for at, target in enumerate(peer.targets):
        # Three connections may overtake each other by as much.
        assert abs(int(target[1:]) - at) <= 3


async def test_who_waits_for_a_turn_in_vain_was_not_sent(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_pool, "CONNECTIONS_MAX", 1)
    peer.open = trio.Event()
    async with HttpPool(user_agent="berth-test", tls=TLS) as small, trio.open_nursery() as nursery:
        nursery.start_soon(get, small, peer)
        await arrived(peer, 1)
        with pytest.raises(NotSent, match=r"no connection to http://.* was free within 0\.05 s") as caught:
            await get(small, peer, seconds=0.05)
        assert caught.value.silent
        peer.open.set()
    assert len(peer.heads) == 1


async def test_once_sent_silence_does_not_tell_the_outcome(pool: HttpPool, peer: Peer) -> None:
    peer.open = trio.Event()
    with pytest.raises(OutcomeUnknown, match="was silent for") as caught:
        await get(pool, peer, seconds=0.05)
    assert caught.value.silent
    # That connection is not used again: its answer may come yet.
    peer.open.set()
    assert await get(pool, peer, "/b") == b"/b"
    assert peer.connections == 2


async def test_a_request_that_is_cancelled_leaves_no_answer_to_the_next(pool: HttpPool, peer: Peer) -> None:
    peer.open = trio.Event()
    with trio.move_on_after(0.05):
        await get(pool, peer)
    peer.open.set()
    assert await get(pool, peer, "/b") == b"/b"
    assert peer.connections == 2


async def test_a_connection_that_the_server_has_ended_is_not_used_again(pool: HttpPool, peer: Peer) -> None:
    peer.ends_after = 1
    for number in range(3):
        assert await get(pool, peer, f"/{number}") == b"/%d" % number
        while peer.streams[-1].socket.fileno() >= 0:  # noqa: ASYNC110 - until its end is on its way
            await trio.sleep(0.001)
    assert peer.connections == 3


async def test_what_comes_unasked_is_nobodys_answer(pool: HttpPool, peer: Peer) -> None:
    assert await get(pool, peer) == b"/a"
    await trio.testing.wait_all_tasks_blocked()  # the peer's own sending is over
    await peer.streams[0].send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong")
    await trio.sleep(0.01)
    assert await get(pool, peer, "/b") == b"/b"


async def test_a_connection_is_kept_for_so_long(
    pool: HttpPool, peer: Peer, mock_clock: trio.testing.MockClock
) -> None:
    await get(pool, peer)
    mock_clock.jump(KEEP_ALIVE_SECONDS - 1)
    await get(pool, peer)
    assert peer.connections == 1
    mock_clock.jump(KEEP_ALIVE_SECONDS + 1)
    await get(pool, peer)
    assert peer.connections == 2


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
async def test_a_body_over_the_limit_is_not_taken(pool: HttpPool, peer: Peer, chunked: bool) -> None:
    peer.chunked = chunked
    target = "/" + "x" * 99
    request = partial(pool.request, "GET", peer.url + target, timeout_seconds=SECONDS)
    assert len((await request(max_body_bytes=100)).body) == 100
    with pytest.raises(OutcomeUnknown, match="a body of more than"):
        await request(max_body_bytes=99)


@pytest.mark.parametrize(
    "url", ["ftp://host/", "https://", "//host/x", "http://[::1/", "http://host:99999/", "http://host:0/"]
)
async def test_what_is_no_address_is_not_sent(pool: HttpPool, url: str) -> None:
    with pytest.raises(NotSent):
        await pool.request("GET", url, timeout_seconds=SECONDS)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "ü"])
async def test_a_header_cannot_end_its_line(pool: HttpPool, peer: Peer, value: str) -> None:
    with pytest.raises(NotSent, match="not for HTTP to carry"):
        await pool.request("GET", peer.url, headers={"authorization": value}, timeout_seconds=SECONDS)
    assert peer.heads == []


async def test_credentials_do_not_show_in_a_fault(pool: HttpPool) -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(NotSent, match=f"cannot connect to http://127.0.0.1:{port}: ") as caught:
            await pool.request("GET", f"http://me:secret@127.0.0.1:{port}/x?y", timeout_seconds=SECONDS)
    assert "secret" not in str(caught.value)


async def test_trust_and_another_name(
    start_server: StartServer, journal: Journal, authority: trustme.CA, tmp_path: Path
) -> None:
    pair = write_pair(authority, tmp_path, "other.example")
    url = (
        await start_server(mirror, tls=ServerTls(pair, clock=SystemClock(), logger=journal.logger))
    ).addresses[0]
    known = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    async with AsyncExitStack() as stack:
        trusting = HttpPool(user_agent="berth-test", tls=known, server_name="other.example")
        reply = await (await stack.enter_async_context(trusting)).request(
            "POST", url, body=b"hi", timeout_seconds=SECONDS
        )
        assert reply.body == b"POST / berth-test hi"
        for tls, text in ((known, "IP address mismatch"), (TLS, "is not trusted")):
            with pytest.raises(NotSent, match=text):
                other = await stack.enter_async_context(HttpPool(user_agent="berth-test", tls=tls))
                await other.request("GET", url, timeout_seconds=SECONDS)


async def test_the_wrong_scheme_is_named(pool: HttpPool, peer: Peer) -> None:
    async def babble(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(trio.serve_listeners, babble, [listener]))
        url = f"https://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(NotSent, match="does not speak TLS"):
            await pool.request("GET", url, timeout_seconds=SECONDS)
        nursery.cancel_scope.cancel()
