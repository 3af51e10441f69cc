"""The door to Hypercorn: an ASGI application on a port, in this process, under limits.

Owns the accept loop, the cap on connections and the drain. Promises that no client and no request takes the
server down, and that a drain ends at its deadline whatever they do. Each connection is
`serve_connection`'s, the rules of HTTP are `serve_http1`'s. Does not run the application's lifespan: who
builds an application starts and stops it.
"""

from functools import partial

import trio

from berth.runtime.asgi import AsgiApp
from berth.runtime.bind import bind, written
from berth.runtime.log import Logger
from berth.runtime.serve_connection import Connection, Stream
from berth.runtime.serve_site import ErrorBody, ServeLimits, Site, connections_that_fit, status_text
from berth.runtime.tls import ServerTls

__all__ = ["ErrorBody", "ServeLimits", "Server", "connections_that_fit", "serve_app"]


async def serve_app(
    app: AsgiApp,
    *,
    address: str,
    tls: ServerTls | None,
    logger: Logger,
    limits: ServeLimits | None = None,
    error_body: ErrorBody = status_text,
    task_status: trio.TaskStatus["Server"] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until drained or cancelled; `started` gets the Server. Raises BindFailed.

    `tls` None serves plain HTTP. `error_body` gives the JSON of the answers that the application has no
    part in. Requests find a trio.Event in `scope["state"]["draining"]`: a reply that streams ends itself
    when it is set.
    """
    listener = await bind(address)
    url = f"{'https' if tls else 'http'}://{written(listener)}"
    accepting = trio.SSLListener(listener, tls.context, https_compatible=True) if tls else listener
    site = Site(app, limits=limits or ServeLimits(), logger=logger, error_body=error_body)
    await Server(site, (url,)).run(accepting, task_status)


class Server:
    """A server that serve_app runs: where it listens, as URLs, and how to end it."""

    def __init__(self, site: Site, addresses: tuple[str, ...]) -> None:
        self.addresses = addresses
        self._site = site
        self._connections: set[Connection] = set()
        self._full = False
        self._drain_asked = trio.Event()
        self._empty = trio.Event()
        self._ended = trio.Event()

    async def drain(self) -> None:
        """Accepts no more, closes what is idle, lets requests end, cuts them at the limit; then returns."""
        self._drain_asked.set()
        await self._ended.wait()

    async def run(
        self,
        listener: trio.SocketListener | trio.SSLListener[trio.SocketStream],
        task_status: trio.TaskStatus["Server"],
    ) -> None:
        """Accepts from the listener, and closes it."""
        try:
            async with trio.open_nursery() as connections:
                try:
                    await self._accept(listener, connections, task_status)
                    await self._drain()
                finally:
                    # A write is shielded from cancellation; closing its socket ends it.
                    for connection in tuple(self._connections):
                        connection.abort()
                    connections.cancel_scope.cancel()
        finally:
            self._ended.set()

    async def _accept(
        self,
        listener: trio.abc.Listener[Stream],
        connections: trio.Nursery,
        task_status: trio.TaskStatus["Server"],
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(trio.serve_listeners, self._serve, [listener], handler_nursery=connections)
            )
            task_status.started(self)
            await self._drain_asked.wait()
            nursery.cancel_scope.cancel()

    async def _drain(self) -> None:
        await self._site.drain()
        for connection in tuple(self._connections):
            connection.drain()
        if not self._connections:
            return
        with trio.move_on_after(self._site.limits.drain_seconds) as limit:
            await self._empty.wait()
        if limit.cancelled_caught:
            self._site.logger.warning("drain cut connections off", connections=len(self._connections))

    async def _serve(self, stream: Stream) -> None:
        if not self._has_room():
            return  # whoever accepted it closes it
        connection = Connection(self._site, stream)
        self._connections.add(connection)
        try:
            await connection.run()
        except* Exception:
            self._site.logger.error("connection failed", exc_info=True)
        finally:
            self._connections.discard(connection)
            if self._drain_asked.is_set() and not self._connections:
                self._empty.set()

    def _has_room(self) -> bool:
        full = len(self._connections) >= self._site.limits.connections
        if full and not self._full:
            self._site.logger.warning("too many connections, closing new ones", limit=len(self._connections))
        self._full = full
        return not full
