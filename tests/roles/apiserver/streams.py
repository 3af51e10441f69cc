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


class CutOff(Exception):
    """A stream ended before its end."""


class Watch(Asked):
    """A watch, from its first line on."""

    def __init__(self, caller: Caller, path: str, query: str = "") -> None:
        super().__init__(caller, "GET", f"{path}?watch=true{query}")
        self._file = self.connection.makefile("rb")
        assert self._file.readline().split()[1] == b"200"
        headers = http.client.parse_headers(self._file)
        assert headers["Content-Type"] == "application/x-ndjson"
        assert headers["Transfer-Encoding"] == "chunked"
        self._lines: list[bytes] = []
        first = self.line()
        assert first is not None
        assert first["type"] == "bookmark"
        self.revision: str = first["revision"]

    def line(self) -> Json | None:
        """The next line; None at a clean end. Raises CutOff where there was more."""
        if not self._lines:
            self._lines = self._chunk().splitlines()
        return json.loads(self._lines.pop(0)) if self._lines else None

    def _chunk(self) -> bytes:
        # The standard library's reader takes a stream that breaks off for one that ends.
        try:
            size = int(self._file.readline(), 16)
            chunk = self._file.read(size + 2)
        except (ConnectionError, ValueError) as error:
            raise CutOff from error
        if len(chunk) < size + 2:
            raise CutOff
        return chunk[:-2]

    def hang_up(self) -> None:
        self._file.close()
        super().hang_up()

    def event(self) -> Json:
        """The next line that is no bookmark."""
        while True:
            line = self.line()
            assert line is not None, "the watch has ended"
            if line["type"] != "bookmark":
                return line


def until_waiting(server: Apiserver, count: int) -> None:
    until(lambda: value(server, "berth_apiserver_waiting") == count)
