"""One client's connection: bytes in and out, each under its deadline.

Owns the socket, the TLS handshake, the task of the application, and the one place where the connection is
closed. Promises that a slow, silent or vanished client costs a bounded time and nobody else's, that an
application that ends early or raises leaves nothing waiting, and that nothing here outlives `run`. Does not
know what HTTP allows.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent
from hypercorn.utils import parse_socket_addr

from berth.runtime.asgi import AsgiApp, CutOff, Message
from berth.runtime.log import Logger
from berth.runtime.serve_http1 import Http1, RequestRead
from berth.runtime.serve_site import Site

RECEIVE_BYTES = 65536
LINGER_SECONDS = 1.0
LINGER_BYTES = 4 * 1024 * 1024

Stream = trio.SSLStream[trio.SocketStream] | trio.SocketStream


class Connection:
    """Serves one stream with the site's application."""

    def __init__(self, site: Site, stream: Stream) -> None:
        self._site = site
        self._stream = stream
        self._tls = isinstance(stream, trio.SSLStream)
        self._transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self._protocol: Http1 | None = None
        self._send_lock = trio.Lock()
        # Around all reading; its deadline says how long the client may take for what it owes now.
        self._reading = trio.CancelScope()
        self._idle = False
        self._closing = False

    async def run(self) -> None:
        """Serves until either side is done, then closes."""
        try:
            if await self._shake_hands():
                await self._serve()
        except OSError:
            pass  # the client was gone before its address could be asked for
        finally:
            self.abort()

    def drain(self) -> None:
        """Closes the connection if nothing is in flight on it; what is in flight is its last."""
        if self._protocol is None or self._protocol.between_requests:
            self._hang_up()

    def abort(self) -> None:
        """Closes the socket under whatever still uses it."""
        self._closing = True
        self._transport.socket.close()

    async def _shake_hands(self) -> bool:
        if not isinstance(self._stream, trio.SSLStream):
            return True
        with trio.move_on_after(self._site.limits.handshake_seconds), suppress(trio.BrokenResourceError):
            await self._stream.do_handshake()
            return True
        return False

    async def _serve(self) -> None:
        socket = self._transport.socket
        async with AppTasks(self._site.logger, lambda: self._closing) as tasks:
            self._protocol = Http1(
                self._site,
                tasks,
                tls=self._tls,
                client=parse_socket_addr(socket.family, socket.getpeername()),
                server=parse_socket_addr(socket.family, socket.getsockname()),
                send=self._on_event,
            )
            self._allow(self._site.limits.head_seconds)
            with self._reading:
                await self._read(self._protocol)
            self._hang_up()
            await self._protocol.handle(Closed())
        if self._protocol.input_left:
            await self._linger()

    async def _read(self, protocol: Http1) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self._stream.receive_some(RECEIVE_BYTES):
                if self._idle:
                    self._idle = False
                    self._allow(self._site.limits.head_seconds)
                await protocol.handle(RawData(bytes(data)))

    async def _on_event(self, event: Event) -> None:
        """What the protocol wants of the connection."""
        match event:
            case RawData():
                await self._write(event.data)
            case Updated(idle=True):
                self._idle = True
                self._allow(self._site.limits.keep_alive_seconds)
            case Updated():
                self._idle = False
                self._allow(self._site.limits.body_seconds)
            case RequestRead():
                self._allow(inf)
            case _:
                self._hang_up()

    def _allow(self, seconds: float) -> None:
        self._reading.deadline = trio.current_time() + seconds

    def _hang_up(self) -> None:
        self._closing = True
        self._reading.cancel()

    async def _write(self, data: bytes) -> None:
        if self._closing:
            return
        # Shielded, because half a TLS record ends the connection; bounded, because the client may never read.
        deadline = trio.current_time() + self._site.limits.send_seconds
        with trio.CancelScope(shield=True, deadline=deadline) as sending:
            try:
                async with self._send_lock:
                    await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._hang_up()
        if sending.cancelled_caught:
            self._hang_up()
            self.abort()

    async def _linger(self) -> None:
        """Lets the client read our last words: closing over unread input would reset the connection."""
        with trio.move_on_after(LINGER_SECONDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._transport.send_eof()
            left = LINGER_BYTES
            while left > 0 and (data := await self._transport.receive_some(RECEIVE_BYTES)):
                left -= len(data)


class ClientGone(OSError):
    """Ends an application that would go on sending to nobody."""


class AppTasks(TaskGroup):
    """The tasks of one connection's requests, in Hypercorn's shape."""

    def __init__(self, logger: Logger, is_closing: Callable[[], bool]) -> None:
        super().__init__()
        self._logger = logger
        self._is_closing = is_closing

    async def spawn_app(
        self,
        app: Any,
        config: Config,
        scope: Any,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        inbox = Inbox(config.max_app_queue_size)
        self.spawn(self._run_app, app, scope, inbox, send)
        return cast("Callable[[ASGIReceiveEvent], Awaitable[None]]", inbox.put)

    async def _run_app(self, app: AsgiApp, scope: Any, inbox: "Inbox", send: Any) -> None:
        async def send_if_heard(message: Message) -> None:
            if self._is_closing():
                raise ClientGone("the connection is closed")
            await send(message)

        try:
            await app(scope, inbox.receive, send_if_heard)
        except* (ClientGone, CutOff):
            pass
        except* Exception:
            self._logger.error("request failed", method=scope["method"], path=scope["path"], exc_info=True)
        finally:
            await send(None)


class Inbox:
    """The events on their way to an application: a bounded queue, and a disconnect that is never queued.

    A full queue holds the client back, but not beyond the end of the exchange: whoever waits to put is let
    go then.
    """

    def __init__(self, size: int) -> None:
        self._put, self._get = trio.open_memory_channel[Message](size)

    async def put(self, message: Message) -> None:
        """Waits for room; a message after the disconnect is dropped."""
        if message["type"] == "http.disconnect":
            self._put.close()
            return
        with suppress(trio.ClosedResourceError):
            await self._put.send(message)

    async def receive(self) -> Message:
        """The next event; after the last one, a disconnect, as often as it is asked for."""
        try:
            return await self._get.receive()
        except trio.EndOfChannel:
            return {"type": "http.disconnect"}
