"""A small object store over HTTP: ETags of the bytes, conditional puts, the user's metadata, as S3 has them.

Promises that a condition and its put are one step. Knows no signatures and no buckets.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

PREFIX = "x-amz-meta-"


class Stored(NamedTuple):
    body: bytes
    metadata: dict[str, str]

    @property
    def etag(self) -> str:
        return f'"{md5(self.body, usedforsecurity=False).hexdigest()}"'


class ObjectStore(ThreadingHTTPServer):
    """All objects, by path, and what was put in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.objects: dict[str, Stored] = {}
        self.puts: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, path: str, new: Stored, if_match: str | None, if_none_match: str | None) -> tuple[int, str]:
        """Status, and the ETag of what was put."""
        with self.lock:
            old = self.objects.get(path)
            if if_match is not None and old is None:
                return 404, ""
            if old is not None and (if_none_match == "*" or if_match not in (None, old.etag)):
                return 412, ""
            self.objects[path] = new
            self.puts.append(new.body)
            return 200, new.etag


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def store(self) -> ObjectStore:
        assert isinstance(self.server, ObjectStore)
        return self.server

    def do_GET(self) -> None:
        stored = self.store.objects.get(self.path)
        if stored is None:
            self.reply(404)
        else:
            headers = {PREFIX + name: value for name, value in stored.metadata.items()}
            self.reply(200, stored.body, ETag=stored.etag, **headers)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        metadata = {
            name.lower().removeprefix(PREFIX): value
            for name, value in self.headers.items()
            if name.lower().startswith(PREFIX)
        }
        conditions = self.headers["if-match"], self.headers["if-none-match"]
        status, etag = self.store.put(self.path, Stored(body, metadata), *conditions)
        self.reply(status, ETag=etag)

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code: object = "", size: object = "") -> None:
        pass


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        thread = threading.Thread(target=store.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield store
        finally:
            store.shutdown()
            thread.join()
