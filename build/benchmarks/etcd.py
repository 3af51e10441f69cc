"""etcd, for the record: what one keepalive, and one put, a renewal come to."""

import base64
import json
import re
import urllib.request

from . import single
from .findings import Finding, NotMeasured, Row, thousands
from .stage import Running, Stage, needed

CLIENTS = 64
SECONDS = 6


def renewals(stage: Stage) -> Finding:
    """Keepalives and puts per second on one etcd, beside our single renewals."""
    needed("wrk")
    with stage.etcd() as server:
        lease = _ask(stage, server, "/v3/lease/grant", {"TTL": 86_400})["ID"]
        alive, alive_cpu = _rate(stage, server, "/v3/lease/keepalive", {"ID": lease})
        name = base64.b64encode(b"lease-1").decode()
        put, put_cpu = _rate(stage, server, "/v3/kv/put", {"key": name, "value": name, "lease": lease})
    with stage.berth("mem") as ours:
        memory = single.renewals_per_second(stage, ours).per_second
    with stage.berth("sqlite") as ours:
        durable = single.renewals_per_second(stage, ours).per_second
    return Finding(
        [
            Row(
                "single renewals, memory store, against etcd's lease keepalive (it is not durable either)",
                "",
                f"{thousands(memory)}/s; etcd {thousands(alive)}/s",
                f"{memory / alive:.2f}",
            ),
            Row(
                "single durable renewals on SQLite, against a put to etcd",
                "",
                f"{thousands(durable)}/s; etcd {thousands(put)}/s",
                f"{durable / put:.2f}",
            ),
        ],
        f"One etcd over TLS, by {CLIENTS} connections of `wrk` to its JSON gateway, which "
        "turns each request into gRPC within the etcd process: no client of Debian's makes single keepalives "
        "without being the bottleneck itself, and gRPC alone would be faster by what the gateway takes. etcd "
        f"used {alive_cpu:.0%} of its core for keepalives, and {put_cpu:.0%} for puts.",
    )


def _rate(stage: Stage, server: Running, path: str, body: object) -> tuple[float, float]:
    """Requests per second, and how much of its core etcd used."""
    script = stage.directory / "etcd.lua"
    script.write_text(
        f"wrk.method, wrk.body = 'POST', '{json.dumps(body)}'\n"
        "wrk.headers['content-type'] = 'application/json'\n"
    )
    command = ["wrk", "-t", "1", "-c", str(CLIENTS), "-d", str(SECONDS), "-s", str(script), server.url + path]
    before = server.cpu_seconds
    told = stage.load(command, within_seconds=SECONDS + 60)
    counted = re.search(r"(\d+) requests in", told)
    if "Non-2xx" in told or counted is None:
        raise NotMeasured(f"etcd refused: {told[-300:]}")
    return int(counted[1]) / SECONDS, (server.cpu_seconds - before) / SECONDS


def _ask(stage: Stage, server: Running, path: str, body: object) -> dict[str, str]:
    request = urllib.request.Request(server.url + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30, context=stage.trust) as reply:
        return json.load(reply)
