"""ASGI without a framework: the types of an application, and the metrics port's. Knows no server."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from berth.runtime import metrics

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class CutOff(Exception):
    """Ends a reply unfinished, on purpose: the client sees that there was more."""


def metrics_app(registry: metrics.Metrics) -> AsgiApp:
    """`GET /metrics` renders the registry, `GET /healthz` is `ok` while this process can answer at all."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        status, content_type, body = _page(registry, scope["method"], scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _page(registry: metrics.Metrics, method: str, path: str) -> tuple[int, str, bytes]:
    plain = "text/plain; charset=utf-8"
    if method not in {"GET", "HEAD"} or path not in {"/metrics", "/healthz"}:
        return 404, plain, b"not found; try GET /metrics\n"
    if path == "/healthz":
        return 200, plain, b"ok\n"
    return 200, metrics.CONTENT_TYPE, registry.render()
