"""Services behind the middleware, WSGI and ASGI, each on a server of its kind.

A POST is an effect, `/effects` lists them; only the POST is behind the fence. The marks are in an SQLite
file, as the manual says.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

import hypercorn.trio
import trio
from hypercorn.config import Config

from berth.client.fencing import HEADER, FencedAsgi, FencedWsgi, SqliteFence, SqlMarks, Stamp
from berth.runtime.asgi import Receive, Scope, Send
from tests.fencing.targets import LEASE, Effect

OK = "200 OK"
JSON_TYPE = ("Content-Type", "application/json")


def file_marks(path: Path) -> SqlMarks:
    marks = SqlMarks(SqliteFence(), lambda: sqlite3.connect(path, timeout=2))
    marks.create()
    return marks


class WsgiSite:
    def __init__(self, marks: SqlMarks) -> None:
        self.done: list[Effect] = []
        self.fenced = FencedWsgi(self.act, lease=LEASE, marks=marks)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/effects":
            return self.fenced(environ, start_response)
        start_response(OK, [JSON_TYPE])
        return [json.dumps(self.done).encode()]

    def act(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        text = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        stamp = Stamp.parse(environ["HTTP_BERTH_FENCING_TOKEN"])
        self.done.append((stamp.token, text))
        start_response(OK, [JSON_TYPE])
        return [b"{}"]


class AsgiSite:
    def __init__(self, marks: SqlMarks) -> None:
        self.done: list[Effect] = []
        self.fenced = FencedAsgi(self.act, lease=LEASE, marks=marks, in_thread=trio.to_thread.run_sync)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") != "/effects":
            await self.fenced(scope, receive, send)
        else:
            await _answer(send, json.dumps(self.done).encode())

    async def act(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        text = (await receive())["body"].decode()
        header = dict(scope["headers"])[HEADER.lower().encode()]
        self.done.append((Stamp.parse(header.decode()).token, text))
        await _answer(send, b"{}")


async def _live(receive: Receive, send: Send) -> None:
    for step in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{step}.complete"})


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Quiet(WSGIRequestHandler):
    def log_request(self, code: object = "", size: object = "") -> None:
        pass


@contextmanager
def wsgi_site(marks: Path) -> Iterator[str]:
    """The URL of a site that serves."""
    with make_server("127.0.0.1", 0, WsgiSite(file_marks(marks)), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def asgi_site(marks: Path) -> Iterator[str]:
    """The URL of a site that serves, on a Trio loop of its own."""
    started: SimpleQueue[tuple[str, trio.lowlevel.TrioToken, trio.Event]] = SimpleQueue()
    site = AsgiSite(file_marks(marks))

    async def main() -> None:
        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.loglevel = "ERROR"
        stop = trio.Event()

        async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
            app = cast("Any", site)
            await hypercorn.trio.serve(app, config, shutdown_trigger=stop.wait, task_status=task_status)

        async with trio.open_nursery() as nursery:
            bound = await nursery.start(serve)
            started.put((f"{bound[0]}/", trio.lowlevel.current_trio_token(), stop))

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    url, token, stop = started.get(timeout=20)
    try:
        yield url
    finally:
        token.run_sync_soon(stop.set)
        thread.join()
