"""Targets behind a fence, as a holder in another process writes to them and a test reads them.

A target is opened by its address, `KIND URL`, so that a process can be told which one to write to. Each
records its effects in the order in which they took place.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import psycopg
import pymysql
import trio

from berth.client.fencing import (
    HEADER,
    MariadbFence,
    Objects,
    PostgresFence,
    SqlFence,
    SqliteFence,
    StaleToken,
    Stamp,
    fenced_put,
)
from tests.fencing import page

LEASE = "default/payments"
WAIT_SECONDS = 10
Effect = tuple[int, str]


class Target(Protocol):
    def write(self, token: int, text: str) -> None:
        """Raises StaleToken when it is refused."""
        ...

    def effects(self) -> list[Effect]:
        """Token and text of every write that took place, in order."""
        ...


class SqlTarget:
    """A table that is written in the transaction of the check."""

    def __init__(self, fence: SqlFence, connect: Callable[..., Any], table: str, mark: str) -> None:
        self.fence = fence
        self.connect = connect
        self.mark = mark
        with closing(connect()) as connection:
            cursor = connection.cursor()
            fence.create(cursor)
            cursor.execute(f"CREATE TABLE IF NOT EXISTS effects ({table})")
            connection.commit()

    def write(self, token: int, text: str) -> None:
        with closing(self.connect()) as connection:
            self.check(connection, token)
            self.insert(connection, token, text)
            connection.commit()

    def check(self, connection: Any, token: int, lease: str = LEASE) -> None:
        self.fence.check(connection.cursor(), lease=lease, token=token)

    def insert(self, connection: Any, token: int, text: str) -> None:
        connection.cursor().execute(
            f"INSERT INTO effects (token, wording) VALUES ({self.mark}, {self.mark})", (token, text)
        )

    def effects(self) -> list[Effect]:
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT token, wording FROM effects ORDER BY serial")
            return [(token, text) for token, text in cursor.fetchall()]

    def clear(self) -> None:
        with closing(self.connect()) as connection:
            for table in ("effects", "berth_fence"):
                connection.cursor().execute(f"DELETE FROM {table}")
            connection.commit()


class UnfencedTarget(SqlTarget):
    """The same without the check: what happens to those who trust the lease alone."""

    def check(self, connection: Any, token: int, lease: str = LEASE) -> None:
        pass


class ObjectTarget:
    """One object with all effects in it, which each write replaces."""

    def __init__(self, url: str) -> None:
        self.url = url

    def write(self, token: int, text: str) -> None:
        content = {"written-by": str(Stamp.of(LEASE, token)), "effects": [*self.effects(), (token, text)]}
        body = json.dumps(content).encode()
        trio.run(self.put, body, token)

    async def put(self, body: bytes, token: int) -> None:
        async with bucket(self.url) as objects:
            await fenced_put(objects, "ledger", body, lease=LEASE, token=token)

    def effects(self) -> list[Effect]:
        reply = httpx.get(f"{self.url}/ledger")
        return [(token, text) for token, text in reply.json()["effects"]] if reply.is_success else []


@asynccontextmanager
async def bucket(url: str) -> AsyncIterator[Objects]:
    """The store at `url`, by the client that the manual shows."""
    client = page.names(page.example("class HttpObjects"))["HttpObjects"]
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as http:
        yield client(http)


class HttpTarget:
    """A service behind the middleware: a POST is an effect, a GET lists them."""

    def __init__(self, url: str) -> None:
        self.url = url

    def write(self, token: int, text: str) -> None:
        status, reply = self.send(text, str(Stamp.of(LEASE, token)))
        if status == 409:
            raise StaleToken(LEASE, token=token, highest=int(reply["error"].split(": ")[1].split()[0]))
        assert status == 200, reply

    def send(self, text: str, *headers: str) -> tuple[int, Any]:
        named = [(HEADER, value) for value in headers]
        reply = httpx.post(self.url, content=text.encode(), headers=named, timeout=WAIT_SECONDS)
        return reply.status_code, reply.json()

    def effects(self) -> list[Effect]:
        return [(token, text) for token, text in httpx.get(f"{self.url}effects").json()]


def open_postgres(dsn: str) -> SqlTarget:
    columns = "serial integer GENERATED ALWAYS AS IDENTITY, token integer, wording text"
    return SqlTarget(PostgresFence(), lambda **more: psycopg.connect(dsn, **more), columns, "%s")


def open_mariadb(dsn: str) -> SqlTarget:
    url = urlsplit(dsn)
    options: dict[str, Any] = {
        "host": url.hostname,
        "port": url.port,
        "user": url.username,
        "password": url.password,
        "database": url.path.lstrip("/"),
    }
    columns = "serial integer AUTO_INCREMENT PRIMARY KEY, token integer, wording text"
    return SqlTarget(MariadbFence(), lambda **more: pymysql.connect(**options, **more), columns, "%s")


SQLITE_COLUMNS = "serial INTEGER PRIMARY KEY, token INTEGER, wording TEXT"


def open_sqlite(path: str) -> SqlTarget:
    return SqlTarget(
        SqliteFence(),
        lambda timeout=WAIT_SECONDS: sqlite3.connect(path, timeout=timeout),
        SQLITE_COLUMNS,
        "?",
    )


def open_unfenced(path: str) -> SqlTarget:
    return UnfencedTarget(SqliteFence(), lambda: sqlite3.connect(path), SQLITE_COLUMNS, "?")


KINDS: dict[str, Callable[[str], Target]] = {
    "postgres": open_postgres,
    "mariadb": open_mariadb,
    "sqlite": open_sqlite,
    "unfenced": open_unfenced,
    "object": ObjectTarget,
    "http": HttpTarget,
}


def open_target(address: str) -> Target:
    kind, _, url = address.partition(" ")
    return KINDS[kind](url)
