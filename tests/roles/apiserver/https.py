"""HTTPS as plain as it gets: a caller that sends what it is told, and an exchange of exact bytes."""

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

REPLY_SECONDS = 20.0

Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @cached_property
    def json(self) -> Json:
        assert self.headers["Content-Type"] == "application/json"
        assert self.body.endswith(b"}\n")
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error, whose envelope has exactly the keys that it should."""
        assert self.status >= 400, self.body[:200]
        keys = {"error", "code", "requestId"} if self.status == 500 else {"error", "code"}
        assert set(self.json) == keys, self.json
        assert self.json["error"]
        return self.json["code"]

    @property
    def error(self) -> str:
        return self.json["error"]

    def ok(self) -> Json:
        assert self.status == 200, self.body[:200]
        return self.json


class Caller:
    """Calls one server under one key, over one connection for as long as the server keeps it."""

    def __init__(self, address: tuple[str, int], ca_file: Path, key: str | None = None) -> None:
        self._address = address
        self._context = trusting(ca_file)
        self.authorization = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._connection: ssl.SSLSocket | None = None

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request, in one piece. A body of bytes goes out as it is, another as JSON."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {**self.authorization, **(headers or {}), "Content-Length": str(len(data))}
        if self._connection is None:
            self._connection = self.connect()
        lines = (f"{name}: {value}" for name, value in fields.items())
        request = head(method, path, *lines) + data
        reply = self._answer(self._connection, request, method)
        if reply is None:  # the server has closed what was idle for long
            self.close()
            self._connection = self.connect()
            reply = self._answer(self._connection, request, method)
        assert reply is not None, f"{method} {path} was not answered"
        if reply.headers["Connection"] == "close":
            self.close()
        return reply

    def _answer(self, connection: ssl.SSLSocket, request: bytes, method: str) -> Reply | None:
        try:
            connection.sendall(request)
            return read_reply(connection, head_only=method == "HEAD")
        except OSError:
            return None

    def get(self, path: str, **headers: str) -> Reply:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: object) -> Reply:
        return self.call("POST", path, body)

    def exchange(self, request: bytes) -> Reply | None:
        """Exact bytes out on a connection of their own, and the reply; None when it was closed unanswered."""
        with closing(self.connect()) as connection:
            try:
                connection.sendall(request)
            except OSError:
                pass  # the server may refuse before it has read everything, and says why
            return read_reply(connection, head_only=request.startswith(b"HEAD "))

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(self._address, timeout=REPLY_SECONDS)
        # Otherwise the request waits for the server's delayed acknowledgement of the handshake.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(plain, server_hostname="127.0.0.1")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def trusting(ca_file: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file))


def read_reply(connection: socket.socket, *, head_only: bool = False) -> Reply | None:
    """The next final reply, or None when the connection ends without one."""
    try:
        response = http.client.HTTPResponse(connection, method="HEAD" if head_only else "POST")
        response.begin()
        return Reply(response.status, response.headers, response.read())
    except (http.client.BadStatusLine, ConnectionResetError, ssl.SSLEOFError):
        return None


def head(method: str, path: str, *headers: str) -> bytes:
    """A request's head, for an exchange of exact bytes."""
    lines = (f"{method} {path} HTTP/1.1", "Host: x", *headers, "", "")
    return "\r\n".join(lines).encode("latin-1")
