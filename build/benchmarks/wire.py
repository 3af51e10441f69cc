"""The load of our own: requests encoded beforehand, over blocking TLS connections, replies checked by count.

Owns sockets and bytes. Promises that a reply which is not what was asked for ends the measure: a server that
refuses is fast.
"""

import json
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from .findings import NotMeasured
from .stage import Running, Stage

BATCH = 1_000
HOLDER = "bench"
LEASES_PATH = "/v1alpha1/namespaces/bench/leases"
WAIT_SECONDS = 60.0


class Connection:
    """One connection that is kept."""

    def __init__(self, stage: Stage, server: Running) -> None:
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = stage.trust.wrap_socket(plain, server_hostname="localhost")
        self._rest = b""

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> bytes:
        """The body of the next reply, which must be a success."""
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].lower()
        if not head.startswith((b"http/1.1 200", b"http/1.1 201", b"http/1.1 204")):
            raise NotMeasured(f"the server answered {data[: end + 300]!r}")
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        parts, have = [data[end + 4 :]], len(data) - end - 4
        while have < length:
            parts.append(self._more())
            have += len(parts[-1])
        body = b"".join(parts)
        self._rest = body[length:]
        return body[:length]

    def ask(self, request: bytes) -> Any:
        self.send(request)
        return json.loads(self.receive() or b"null")

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> bytes:
        data = self._socket.recv(262_144)
        if not data:
            raise NotMeasured("the server closed a connection")
        return data


def granted(body: bytes) -> Any:
    """The reply to an acquire, which must be a grant."""
    reply = json.loads(body)
    if reply.get("acquired") is not True:
        raise NotMeasured(f"an acquire was not granted: {reply}")
    return reply


def post(path: str, body: object) -> bytes:
    data = json.dumps(body, separators=(",", ":")).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return head.encode() + f"content-length: {len(data)}\r\n\r\n".encode() + data


def batch(operations: Sequence[dict[str, object]]) -> bytes:
    return post("/v1alpha1/leases:batch", {"operations": operations})


def operation(op: str, name: str, **fields: object) -> dict[str, object]:
    return {"op": op, "namespace": "bench", "name": name, "holder": HOLDER, **fields}


def fill(connection: Connection, names: Sequence[str], ttl_seconds: int = 86_400) -> list[int]:
    """Acquires every name through batches; the tokens."""
    tokens: list[int] = []
    for at in range(0, len(names), BATCH):
        part = names[at : at + BATCH]
        reply = connection.ask(batch([operation("acquire", name, ttlSeconds=ttl_seconds) for name in part]))
        results = reply["results"]
        refused = next((result for result in results if not result.get("acquired")), None)
        if refused is not None:
            raise NotMeasured(f"a batch of acquires was not granted: {refused}")
        tokens += [result["fencingToken"] for result in results]
    return tokens


class Rate(NamedTuple):
    """What a stretch of load came to. CPU as shares of one core."""

    per_second: float
    server_cpu: float
    load_cpu: float


def rate_of(
    server: Running, do: Callable[[float], int], *, seconds: float, load_cpu: Callable[[], float]
) -> Rate:
    """`do` works until a deadline of time.monotonic, and says how much it did."""
    server_before, load_before, begun = server.cpu_seconds, load_cpu(), time.monotonic()
    done = do(begun + seconds)
    elapsed = time.monotonic() - begun
    return Rate(
        done / elapsed, (server.cpu_seconds - server_before) / elapsed, (load_cpu() - load_before) / elapsed
    )


def keep_asking(
    connections: Sequence[Connection], requests: Iterable[bytes], until: float, granted: int
) -> int:
    """Each connection always has a request in flight; how many operations were granted until then."""
    turn = iter(requests)
    for connection in connections:
        connection.send(next(turn))
    done = 0
    while True:
        more = time.monotonic() < until
        for connection in connections:
            if connection.receive().count(b'"acquired":true') != granted:
                raise NotMeasured("not every renewal was granted")
            done += granted
            if more:
                connection.send(next(turn))
        if not more:
            return done
