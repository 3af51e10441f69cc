import pytest
import trio

from berth.runtime.asgi import Message, metrics_app
from berth.runtime.metrics import Metrics


async def nothing_to_receive() -> Message:
    await trio.sleep_forever()
    raise AssertionError


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
    await app({"type": "http", "method": method, "path": path}, nothing_to_receive, send)
    start, body = sent
    assert start["status"] == status
    assert (b"content-length", str(len(body["body"])).encode()) in start["headers"]
    assert content in body["body"]
