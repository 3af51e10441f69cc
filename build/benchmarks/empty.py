"""A Quart-Trio handler that does nothing, on berth's serving code: the most that any handler could reach.

`python -m benchmarks.empty PORT CERTIFICATE KEY`
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio

from berth.runtime.clock import SystemClock
from berth.runtime.log import Logs
from berth.runtime.serve import serve_app
from berth.runtime.tls import ServerTls, TlsFiles

# As long as the reply to a renewal.
REPLY = (
    b'{"acquired":true,"expiresAt":"2026-11-20T13:05:25.123456Z","acquiredAt":"2026-11-20T13:00:25.123456Z",'
    b'"holder":"bench","fencingToken":1,"remainingSeconds":3600.0}\n'
)
BATCH = b'{"results":[' + b",".join([REPLY.rstrip()] * 1_000) + b"]}\n"


def main() -> None:
    port, cert, key = sys.argv[1:]
    app = QuartTrio("empty", static_folder=None)

    async def answer(**_: str) -> Response:
        return Response(REPLY, content_type="application/json")

    async def answer_batch() -> Response:
        await request.get_data()
        return Response(BATCH, content_type="application/json")

    app.add_url_rule("/v1alpha1/leases:batch", "batch", answer_batch, methods=["POST"])
    app.add_url_rule(
        "/v1alpha1/namespaces/<namespace>/leases/<name>/renew", "renew", answer, methods=["POST"]
    )
    logger = Logs("warn", "json", stream=sys.stderr).logger("empty")
    tls = ServerTls(TlsFiles(Path(cert), Path(key)), clock=SystemClock(), logger=logger)
    serving: Any = app
    trio.run(partial(serve_app, serving, address=f"127.0.0.1:{port}", tls=tls, logger=logger))


if __name__ == "__main__":
    main()
