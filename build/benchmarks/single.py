"""Single renewals: beside an empty handler on the same serving code, and how many share a commit."""

import re
from pathlib import Path

from . import wire
from .findings import Finding, NotMeasured, Row, thousands
from .stage import Running, Stage

LEASES = 1_000
SECONDS = 4
ROUNDS = 3
CLIENTS = 64


def serving(stage: Stage) -> Finding:
    """Single renewals per second over TLS, and requests to a handler that does nothing."""
    rates: list[tuple[wire.Rate, wire.Rate]] = []
    # In turn: whatever else the machine does, it does to both. The best of each counts.
    with stage.berth("mem") as server, stage.empty() as empty_server:
        script = _script(stage, _tokens(stage, server))
        for _ in range(ROUNDS):
            rates.append((_renewals(stage, server, script), _wrk(stage, empty_server, script)))
    ours, empty = (max(side) for side in zip(*rates, strict=True))
    ratio = ours.per_second / empty.per_second
    return Finding(
        [
            Row(
                "single renewals, memory store, against an empty Quart-Trio handler on the same serving code",
                "0.7 x",
                f"{thousands(ours.per_second)}/s; empty {thousands(empty.per_second)}/s",
                f"{ratio:.2f}",
                ratio >= 0.7,
            )
        ],
        f"{CLIENTS} connections of `wrk`, which checks the status of each reply; the server's own counter "
        f"says that every one was a renewal. The server used {ours.server_cpu:.0%} of its core, the empty "
        f"handler {empty.server_cpu:.0%}. Both answer with bodies of the same size.",
    )


def shared_commits(stage: Stage) -> Finding:
    """Commits on SQLite per 1,000 single renewals by 64 clients at once."""
    with stage.berth("sqlite") as server:
        puts_before = _puts(server)
        renewals_before = renewed(server)
        ours = renewals_per_second(stage, server)
        renewals = renewed(server) - renewals_before
        # The leases were acquired in one batch, by one commit.
        per_thousand = 1000 * (_puts(server) - puts_before - 1) / renewals
    return Finding(
        [
            Row(
                f"commits on SQLite per 1,000 single renewals, {CLIENTS} clients at once",
                "at most 100",
                f"{per_thousand:.0f}",
                "",
                per_thousand <= 100,
            )
        ],
        f"{thousands(ours.per_second)} durable renewals a second, one a request. Each commit carries what "
        "arrived while the one before was on its way to the disk: the slower the disk, the more share it.",
    )


def renewals_per_second(stage: Stage, server: Running) -> wire.Rate:
    """On a server without leases of ours."""
    return _renewals(stage, server, _script(stage, _tokens(stage, server)))


def _tokens(stage: Stage, server: Running) -> list[int]:
    """The leases are acquired, in one batch."""
    connection = wire.Connection(stage, server)
    tokens = wire.fill(connection, [f"lease-{number}" for number in range(LEASES)])
    connection.close()
    return tokens


def _renewals(stage: Stage, server: Running, script: Path) -> wire.Rate:
    """By wrk. Raises NotMeasured when the server counts other than wrk."""
    before = renewed(server)
    rate = _wrk(stage, server, script)
    counted = renewed(server) - before
    # wrk leaves what is in flight at the end, and does not count it.
    if not 0 <= counted - rate.per_second * SECONDS <= 0.05 * counted + 2 * CLIENTS:
        raise NotMeasured(f"wrk counted {rate.per_second * SECONDS:.0f} replies, the server {counted:.0f}")
    return rate


def _wrk(stage: Stage, server: Running, script: Path) -> wire.Rate:
    command = ["wrk", "-t", "1", "-c", str(CLIENTS), "-d", str(SECONDS), "-s", str(script), server.url]
    before = server.cpu_seconds
    told = stage.load(command, within_seconds=SECONDS + 60)
    if "Non-2xx" in told or "Socket errors" in told:
        raise NotMeasured(f"wrk told of errors: {told[-300:]}")
    counted = re.search(r"(\d+) requests in", told)
    assert counted is not None
    return wire.Rate(int(counted[1]) / SECONDS, (server.cpu_seconds - before) / SECONDS, 0)


def _script(stage: Stage, tokens: list[int]) -> Path:
    """Renews the leases in turn; every request is encoded before the start."""
    bodies = ",\n".join(
        f"""'{{"holder":"{wire.HOLDER}","fencingToken":{token},"ttlSeconds":86400}}'""" for token in tokens
    )
    script = stage.directory / "renew.lua"
    script.write_text(
        f"""local bodies = {{{bodies}}}
local requests, turn = {{}}, 0
function init()
  local headers = {{["content-type"] = "application/json"}}
  for at, body in ipairs(bodies) do
    local path = "{wire.LEASES_PATH}/lease-" .. (at - 1) .. "/renew"
    requests[at] = wrk.format("POST", path, headers, body)
  end
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
"""
    )
    return script


def _puts(server: Running) -> float:
    return server.metric("berth_lease_store_call_duration_seconds_count", op="put")


def renewed(server: Running) -> float:
    return server.metric("berth_apiserver_lease_outcomes_total", outcome="renewed")
