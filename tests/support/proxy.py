"""A TCP proxy between a client and a server, with all that a network can do to them.

Owns the connections that pass through it, each way by itself. Its behaviour is switched at run time, for
connections that are open and for those to come. Knows nothing of what passes.
"""

import socket
import struct
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

import trio


class Way:
    """One direction: what happens to the bytes that go there."""

    def __init__(self) -> None:
        self.delay_seconds = 0.0
        self.dropping = False
        self._thawed = trio.Event()
        self._thawed.set()

    def freeze(self) -> None:
        self._thawed = trio.Event()

    def mend(self) -> None:
        self.delay_seconds = 0.0
        self.dropping = False
        self._thawed.set()

    async def thawed(self) -> None:
        await self._thawed.wait()


class Proxy:
    """Listens on a port of its own. `target` is where connections are led; it may be changed."""

    def __init__(self, target: tuple[str, int], nursery: trio.Nursery) -> None:
        self.target = target
        self.to_server, self.to_client = Way(), Way()
        self._nursery = nursery
        self._port = 0
        self._resetting = False
        self._open: set[trio.CancelScope] = set()
        self._listening = trio.CancelScope()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def delay(self, seconds: float, ways: Iterable[Way] = ()) -> None:
        """What is sent arrives, but late."""
        for way in ways or self._ways:
            way.delay_seconds = seconds

    def drop(self, ways: Iterable[Way] = ()) -> None:
        """What is sent vanishes. A connection that has lost something stays open and silent for ever."""
        for way in ways or self._ways:
            way.dropping = True

    def freeze(self, ways: Iterable[Way] = ()) -> None:
        """Nothing goes on, nothing is lost: what was sent meanwhile arrives once it is mended."""
        for way in ways or self._ways:
            way.freeze()

    def reset(self) -> None:
        """Connections are broken off, and each new one too."""
        self._resetting = True
        for connection in self._open:
            connection.cancel()

    def refuse(self) -> None:
        """Connections are broken off, and nobody listens any more."""
        self.reset()
        self._listening.cancel()

    async def mend(self) -> None:
        self._resetting = False
        for way in self._ways:
            way.mend()
        if self._listening.cancel_called:
            await self.listen()

    async def listen(self) -> None:
        listeners = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
        self._port = listeners[0].socket.getsockname()[1]
        self._listening = trio.CancelScope()
        self._nursery.start_soon(self._accept, listeners, self._listening)

    @property
    def _ways(self) -> tuple[Way, Way]:
        return self.to_server, self.to_client

    async def _accept(self, listeners: list[trio.SocketListener], listening: trio.CancelScope) -> None:
        with listening:
            await trio.serve_listeners(self._lead, listeners, handler_nursery=self._nursery)

    async def _lead(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as connection:
            self._open.add(connection)
            try:
                if not self._resetting:
                    await self._join(client, connection)
            finally:
                self._open.discard(connection)
                _close(client, abruptly=self._resetting)

    async def _join(self, client: trio.SocketStream, connection: trio.CancelScope) -> None:
        try:
            server = await trio.open_tcp_stream(*self.target)
        except OSError:
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_pump, client, server, self.to_server, connection)
                nursery.start_soon(_pump, server, client, self.to_client, connection)
        finally:
            _close(server, abruptly=self._resetting)


async def _pump(
    source: trio.SocketStream, sink: trio.SocketStream, way: Way, connection: trio.CancelScope
) -> None:
    lossy = False
    try:
        while data := await source.receive_some(65536):
            await way.thawed()
            lossy = lossy or way.dropping
            if not lossy:
                await trio.sleep(way.delay_seconds)
                await sink.send_all(data)
    except trio.BrokenResourceError:
        pass
    await way.thawed()
    if not (lossy or way.dropping):  # else even the end is lost on the way
        connection.cancel()


def _close(stream: trio.SocketStream, *, abruptly: bool) -> None:
    if abruptly:
        # Closing a socket that does not linger sends a reset.
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@asynccontextmanager
async def open_proxy(target: tuple[str, int]) -> AsyncGenerator[Proxy]:
    """A proxy that passes everything on, until it is told otherwise."""
    async with trio.open_nursery() as nursery:
        proxy = Proxy(target, nursery)
        await proxy.listen()
        yield proxy
        nursery.cancel_scope.cancel()
