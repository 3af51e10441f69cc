import pytest
import trio
from trio.testing import MockClock

from berth.runtime.asgi import BodyTooLarge, BodyTooSlow, Disconnected, Message, Scope, metrics_app, read_body
from berth.runtime.metrics import Metrics


class Feed:
    """The receive side of a request: the given messages, then silence."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)

    async def __call__(self) -> Message:
        if not self.messages:
            await trio.sleep_forever()
        return self.messages.pop(0)


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


NO_HEADERS: Scope = {"headers": []}


async def read(feed: Feed, scope: Scope = NO_HEADERS) -> bytes:
    return await read_body(scope, feed, limit_bytes=5, deadline_seconds=1)


async def test_a_body_is_joined() -> None:
    assert await read(Feed(part(b"abc"), part(b"de"), part(b"", more=False))) == b"abcde"


async def test_a_body_over_the_limit_is_not_read_to_its_end() -> None:
    feed = Feed(part(b"abc"), part(b"def"), part(b"ghi"))
    with pytest.raises(BodyTooLarge):
        await read(feed)
    assert len(feed.messages) == 1


async def test_a_declared_length_over_the_limit_is_not_read_at_all() -> None:
    feed = Feed(part(b"abcdef", more=False))
    with pytest.raises(BodyTooLarge):
        await read(feed, {"headers": [(b"content-length", b"6")]})
    assert len(feed.messages) == 1


async def test_a_dribble_ends_at_the_deadline(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    with pytest.raises(BodyTooSlow):
        await read(Feed(part(b"a")))
    assert trio.current_time() - start == pytest.approx(1)


async def test_a_client_that_goes_away_is_no_short_body() -> None:
    with pytest.raises(Disconnected):
        await read(Feed(part(b"abc"), {"type": "http.disconnect"}))


@pytest.mark.parametrize(
    ("method", "path", "status", "content"),
    [
        ("GET", "/metrics", 200, b"berth_build_info"),
        ("GET", "/healthz", 200, b"ok\n"),
        ("HEAD", "/healthz", 200, b"ok\n"),
        ("GET", "/", 404, b"not found"),
        ("POST", "/metrics", 404, b"not found"),
    ],
)
async def test_the_metrics_port_has_two_pages(method: str, path: str, status: int, content: bytes) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    app = metrics_app(Metrics(version="1", commit="c", python="3"))
    await app({"type": "http", "method": method, "path": path}, Feed(), send)
    start, body = sent
    assert start["status"] == status
    assert (b"content-length", str(len(body["body"])).encode()) in start["headers"]
    assert content in body["body"]
