"""ASGI without a framework: the types of an application, and those of the metrics and the health port.

Knows no server.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from berth.runtime import metrics
from berth.runtime.health import Check

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


_PLAIN = "text/plain; charset=utf-8"


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


def health_app(ready: Check) -> AsgiApp:
    """`GET /healthz` is `ok` while this process can answer at all, `GET /readyz` while it is ready."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        status, body = 404, b"not found; try GET /healthz or /readyz\n"
        if scope["method"] in {"GET", "HEAD"} and scope["path"] == "/healthz":
            status, body = 200, b"ok\n"
        elif scope["method"] in {"GET", "HEAD"} and scope["path"] == "/readyz":
            status, body = (200, b"ok\n") if (await ready()).ok else (503, b"not ready\n")
        headers = [(b"content-type", _PLAIN.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _page(registry: metrics.Metrics, method: str, path: str) -> tuple[int, str, bytes]:
    if method not in {"GET", "HEAD"} or path not in {"/metrics", "/healthz"}:
        return 404, _PLAIN, b"not found; try GET /metrics\n"
    if path == "/healthz":
        return 200, _PLAIN, b"ok\n"
    return 200, metrics.CONTENT_TYPE, registry.render()
