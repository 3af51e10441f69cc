"""A server that answers like the API server, and promises one lease to everybody."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tokens = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        if self.path == "/version":
            self._say(200, {"version": "lies", "commit": "-", "python": "-"})
        else:
            self._say(200, {"tenant": "", "role": "admin", "authMode": "none"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/release"):
            self._say(204, None)
            return
        with self.lock:
            _Handler.tokens += 1
            token = asked.get("fencingToken", _Handler.tokens)
        instant = "2026-01-01T00:00:00Z"
        self._say(
            200,
            {
                "acquired": True,
                "expiresAt": instant,
                "acquiredAt": instant,
                "holder": asked["holder"],
                "fencingToken": token,
            },
        )

    def _say(self, status: int, body: object) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


@contextmanager
def lying_server() -> Iterator[str]:
    """Its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
