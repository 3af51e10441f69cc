"""HTTP/1.1 and nothing else: what a request may look like, on top of Hypercorn's protocol over h11.

Owns the refusals that come before the application (400, 431), the answer to `Expect: 100-continue`, and the
shape of error replies. Promises that no request leads away from HTTP/1.1: not by upgrade, not by HTTP/2's
preface. Does not know sockets or time.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

import h11
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream
from hypercorn.typing import H11SendableEvent, TaskGroup
from hypercorn.utils import suppress_body

from berth.runtime.serve_site import Site

BODY_PIECE_BYTES = 256 * 1024

Peer = tuple[str, int] | None

_ABSOLUTE_FORM = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


class RequestRead(Event):
    """Tells the connection that the client owes nothing more of this request."""


class Http1(H11Protocol):
    """One connection's requests, one after the other."""

    def __init__(
        self,
        site: Site,
        tasks: TaskGroup,
        *,
        tls: bool,
        client: Peer,
        server: Peer,
        send: Callable[[Event], Awaitable[None]],
    ) -> None:
        app = cast("Any", site.app)  # the connection calls it, Hypercorn only hands it through
        super().__init__(app, site.config, site.context, tasks, site.state, tls, client, server, send)
        self._site = site
        self._held_head = b""
        self._refused = False

    @property
    def between_requests(self) -> bool:
        """Nothing of a request is here, and no reply is due."""
        return self.stream is None and not self._h11.trailing_data[0]

    @property
    def input_left(self) -> bool:
        """The client may still be sending what nobody will read."""
        return self._refused or self._h11.their_state in {h11.SEND_BODY, h11.ERROR}

    @property
    def _h11(self) -> h11.Connection:
        return cast("h11.Connection", self.connection)  # Hypercorn's other kind is for websockets

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn's switch to HTTP/2, left out."""

    async def _create_stream(self, request: h11.Request) -> None:
        path = _origin_form(request.target)
        status = self._objection(request, path)
        if status:
            await self._send_error_response(status, with_body=request.method != b"HEAD")
            await self.send(Closed())
            return
        if _declared_length(request) > self._site.limits.body_bytes:
            self._h11.client_is_waiting_for_100_continue = False
        self.stream = Exchange(self._site, self)
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=path,
                state=self.connection_state,
            )
        )

    def _objection(self, request: h11.Request, path: bytes) -> int:
        """The status to refuse the request with, or 0."""
        names = {name for name, _ in request.headers}
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
        if size > self._site.limits.head_bytes or len(request.headers) > self._site.limits.headers:
            return 431
        if request.http_version not in {b"1.1", b"1.0"} or not path:
            return 400
        # A proxy that believes the one header and a server that believes the other see different requests.
        if b"content-length" in names and b"transfer-encoding" in names:
            return 400
        return 0

    async def _send_error_response(self, status_code: int, *, with_body: bool = True) -> None:
        self._refused = True
        headers, body = self._site.error_reply(status_code)
        headers += self.config.response_headers("h11")
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        if with_body:
            await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def stream_send(self, event: StreamEvent) -> None:
        """A reply that comes before the end of its request's body is the last one, and must say so."""
        if isinstance(event, Response) and self.input_left:
            headers = [*event.headers, (b"connection", b"close")]
            event = Response(stream_id=event.stream_id, headers=headers, status_code=event.status_code)
        await super().stream_send(event)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Hypercorn's, but the head of a reply waits for its body: one write, one TLS record."""
        try:
            data = self._h11.send(event) or b""
        except h11.LocalProtocolError:
            if self._h11.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._held_head = data
        elif self._held_head or data:
            data, self._held_head = self._held_head + data, b""
            await self.send(RawData(data))


class Exchange(HTTPStream):
    """One request and its reply, between the application and the protocol."""

    def __init__(self, site: Site, protocol: Http1) -> None:
        super().__init__(
            protocol.app,
            protocol.config,
            protocol.context,
            protocol.task_group,
            protocol.ssl,
            protocol.client,
            protocol.server,
            protocol.stream_send,
            STREAM_ID,
        )
        self._site = site
        self._tell = protocol.send
        self._held_body = bytearray()

    async def handle(self, event: StreamEvent) -> None:
        """Hypercorn's, but the application gets a long body in few pieces: each costs it a turn."""
        if isinstance(event, Body):
            self._held_body += event.data
            if len(self._held_body) < BODY_PIECE_BYTES:
                return
        if self._held_body and not isinstance(event, StreamClosed):
            await super().handle(Body(stream_id=STREAM_ID, data=bytes(self._held_body)))
            self._held_body.clear()
        if not isinstance(event, Body):
            await super().handle(event)
        if isinstance(event, EndBody):
            await self._tell(RequestRead())

    async def _send_error_response(self, status_code: int) -> None:
        headers, body = self._site.error_reply(status_code)
        await self.send(Response(stream_id=STREAM_ID, headers=headers, status_code=status_code))
        if not suppress_body(self.scope["method"], status_code):
            await self.send(Body(stream_id=STREAM_ID, data=body))
        await self.send(EndBody(stream_id=STREAM_ID))
        self.state = ASGIHTTPState.CLOSED


def _origin_form(target: bytes) -> bytes:
    """The path and query of a request target, whichever way it is written; empty when it has none."""
    absolute = _ABSOLUTE_FORM.match(target)
    if absolute:
        rest = target[absolute.end() :]
        return rest if rest.startswith(b"/") else b"/" + rest
    return target if target.startswith(b"/") else b""


def _declared_length(request: h11.Request) -> int:
    return next((int(value) for name, value in request.headers if name == b"content-length"), 0)
