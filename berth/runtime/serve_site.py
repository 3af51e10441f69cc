"""What all connections of one server share: its application, its limits, and whether it is draining.

Owns the server's Hypercorn settings. Promises nothing by itself: `serve_http1` and `serve_connection` keep
the limits.
"""

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from berth.runtime.asgi import AsgiApp
from berth.runtime.log import Logger

# The JSON body for a status that the server answers by itself (400, 431, 500).
ErrorBody = Callable[[int], bytes]


OWN_FILES = 64
"""What a process keeps open beside its connections: standard streams, a store's files, its listeners."""


@dataclass(frozen=True, slots=True)
class ServeLimits:
    """How much and how long a server puts up with."""

    connections: int = 1000
    """Over it, a new connection is accepted and closed."""
    handshake_seconds: float = 5.0
    head_seconds: float = 5.0
    """From the connection, or from the first byte of a later request, to the end of the headers."""
    head_bytes: int = 8192
    headers: int = 50
    body_seconds: float = 15.0
    """From the end of the headers to the end of the body; then the application sees a disconnect."""
    body_bytes: int = 2 * 1024 * 1024
    """The biggest body that any route takes: a client that asks before it sends more gets no 100."""
    keep_alive_seconds: float = 120.0
    send_seconds: float = 15.0
    """For one write to be taken by the client's side."""
    drain_seconds: float = 10.0


def connections_that_fit(wanted: int) -> int:
    """`wanted`, or as many as the limit of open files has room for beside the process's own.

    The limit is raised as far as the process may. Beyond it, accepting would fail over and over.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OWN_FILES
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft - OWN_FILES))


def status_text(status: int) -> bytes:
    """The plainest ErrorBody."""
    return json.dumps({"error": HTTPStatus(status).phrase.lower()}).encode()


class Site:
    """One server, as its connections see it. Requests find `draining` as `scope["state"]["draining"]`."""

    def __init__(self, app: AsgiApp, *, limits: ServeLimits, logger: Logger, error_body: ErrorBody) -> None:
        self.app = app
        self.limits = limits
        self.logger = logger
        self.error_body = error_body
        self.draining = trio.Event()
        self.state = ConnectionState(cast("LifespanState", {"draining": self.draining}))
        self.context = WorkerContext(None)
        self.config = Config()
        self.config.include_server_header = False
        self.config.h11_max_incomplete_size = limits.head_bytes
        self.config.keep_alive_max_requests = sys.maxsize
        self.config.logger_class = cast("Any", _NoAccessLog)

    async def drain(self) -> None:
        """From now on every reply is the last of its connection, and says so."""
        self.draining.set()
        self.config.keep_alive_max_requests = 0
        await self.context.terminated.set()

    def error_reply(self, status: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body of an answer that the application has no part in, the last of its connection."""
        body = self.error_body(status)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        return headers, body


class _NoAccessLog:
    """Hypercorn's log: the access log is the application's, which knows the route and the outcome."""

    def __init__(self, config: Config) -> None:
        del config

    async def access(self, *_: object) -> None:
        pass
