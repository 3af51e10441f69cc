"""ASGI middleware: requests with a stale fencing token never reach the application."""

from collections.abc import Awaitable, Callable
from typing import Any

from berth.client.fencing.gate import Gate, Refusal
from berth.client.fencing.marks import Marks
from berth.client.fencing.stamp import HEADER
from berth.runtime.asgi import AsgiApp, Receive, Scope, Send

_NAME = HEADER.lower().encode()

InThread = Callable[..., Awaitable[Any]]
"""Runs a function that may block, with its argument, without holding up the loop."""


class FencedAsgi:
    """`app` behind the fence of one lease. Every request needs the header, whatever its method.

    `in_thread` is that of the loop the server runs on: `trio.to_thread.run_sync` or `asyncio.to_thread`.
    WebSockets are refused: a holder that loses its lease would keep an open one.
    """

    def __init__(self, app: AsgiApp, *, lease: str, marks: Marks, in_thread: InThread) -> None:
        self._app = app
        self._gate = Gate(lease, marks)
        self._in_thread = in_thread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "a fence takes no WebSockets"})
            return
        refusal = await self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await _reply(refusal, send)

    async def _refusal(self, scope: Scope) -> Refusal | None:
        stamp = self._gate.read(
            [value.decode("latin-1") for name, value in scope["headers"] if name == _NAME]
        )
        if isinstance(stamp, Refusal):
            return stamp
        return await self._in_thread(self._gate.pass_, stamp)


async def _reply(refusal: Refusal, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})
