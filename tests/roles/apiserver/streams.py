"""Replies that come later, or go on: acquires that wait, and watches, each on a connection of its own."""

import http.client
import json
import ssl
from types import TracebackType
from typing import Self

from tests.roles.apiserver.https import Caller, Json, Reply, head, read_reply
from tests.roles.apiserver.scrape import value
from tests.support.apiserver import Apiserver, until


class Asked:
    """A request whose reply is read later."""

    def __init__(self, caller: Caller, method: str, path: str, body: object = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self._connection = caller.connect()
        self._connection.settimeout(20)
        lines = [f"{name}: {value}" for name, value in caller.authorization.items()]
        self._connection.sendall(head(method, path, *lines, f"Content-Length: {len(data)}") + data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()

    def reply(self) -> Reply:
        reply = read_reply(self._connection)
        assert reply is not None, "the connection ended without a reply"
        return reply

    def hang_up(self) -> None:
        self._connection.close()

    @property
    def connection(self) -> ssl.SSLSocket:
        return self._connection


def waiting(caller: Caller, path: str, holder: str, seconds: int = 20, **fields: object) -> Asked:
    """An acquire that waits in line."""
    body = {"holder": holder, "waitSeconds": seconds, **({"ttlSeconds": 60} | fields)}
    return Asked(caller, "POST", f"{path}/acquire", body)


class Watch(Asked):
    """A watch, from its first line on."""

    def __init__(self, caller: Caller, path: str, query: str = "") -> None:
        super().__init__(caller, "GET", f"{path}?watch=true{query}")
        self._response = http.client.HTTPResponse(self.connection)
        self._response.begin()
        assert self._response.status == 200, self._response.read()
        assert self._response.headers["Content-Type"] == "application/x-ndjson"
        first = self.line()
        assert first is not None
        assert first["type"] == "bookmark"
        self.revision: str = first["revision"]

    def line(self) -> Json | None:
        """The next line; None at a clean end."""
        text = self._response.readline()
        return json.loads(text) if text else None

    def event(self) -> Json:
        """The next line that is no bookmark."""
        while True:
            line = self.line()
            assert line is not None, "the watch has ended"
            if line["type"] != "bookmark":
                return line


def until_waiting(server: Apiserver, count: int) -> None:
    until(lambda: value(server, "berth_apiserver_waiting") == count)
