"""Renewals in batches: on the memory store beside Redis, on SQLite beside a commit for each."""

import sqlite3
import tempfile
import time
import timeit
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import cycle

from berth.wire.batch import operations

from . import wire
from .findings import Finding, NotMeasured, Row, thousands
from .stage import Running, Stage, needed

LEASES = 10_000
WARM_SECONDS, SECONDS = 0.5, 2.5
CONNECTIONS = (1, 2, 4, 1, 2, 4)
REDIS_CLIENTS = (1, 8, 16, 32, 64, 128)
REDIS_REQUESTS = 100_000

# What a lock's holder runs against Redis: still mine, then live on.
SCRIPT = (
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('pexpire',KEYS[1],ARGV[2]) "
    "else return 0 end"
)


def memory(stage: Stage) -> Finding:
    """Renewals per second in batches of 1,000 on the memory store, and single EVALs on Redis."""
    needed("redis-benchmark")
    rates: list[wire.Rate] = []
    redis_rates: list[tuple[wire.Rate, int]] = []
    empty_rates: list[wire.Rate] = []
    # In turn: whatever else the machine does, it does to both. The best of each counts.
    with stage.berth("mem") as server, stage.redis() as redis_server, stage.empty() as empty_server:
        requests = renewals(stage, server)
        prepare_redis(stage, redis_server)
        for count, clients in zip(CONNECTIONS, REDIS_CLIENTS, strict=True):
            rates.append(rate(stage, server, requests, count))
            empty_rates.append(rate(stage, empty_server, requests, count))
            redis_rates.append((redis_rate(stage, redis_server, clients), clients))
    ours, (redis, clients) = max(rates), max(redis_rates)
    ratio = ours.per_second / redis.per_second
    return Finding(
        [
            Row(
                "renewals in batches of 1,000, memory store, against Redis with one `EVAL` a renewal",
                "4 x Redis",
                f"{thousands(ours.per_second)}/s; Redis {thousands(redis.per_second)}/s",
                f"{ratio:.2f}",
                ratio >= 4,
            )
        ],
        f"The server used {ours.server_cpu:.0%} of its core, the load {ours.load_cpu:.0%} of the other. "
        f"Redis did best with {clients} connections of `redis-benchmark` and used {redis.server_cpu:.0%} "
        f"of its core. For a second of its CPU berth renews {thousands(per_cpu_second(ours))} leases, "
        f"Redis {thousands(per_cpu_second(redis))}. Redis's script renews only what the holder still has, as "
        "berth does. Who has a thousand leases to renew asks berth once, and Redis a thousand times, or in a "
        "pipeline, which is not measured here. "
        f"{held_back(ours)} 4 x Redis would be {250_000 / redis.per_second:.1f} µs a renewal. "
        + shares(ours, max(empty_rates), requests),
    )


def shares(ours: wire.Rate, empty: wire.Rate, requests: list[bytes]) -> str:
    """Where the CPU of a renewal goes: what no handler could save, what reading JSON takes, and the rest."""
    whole, serving = (1_000_000 / per_cpu_second(each) for each in (ours, empty))
    reading = _reading_us(requests[0])
    ourselves = whole - serving - reading
    return (
        f"Of the {whole:.1f} µs of CPU a renewal {serving:.1f} µs go to TLS, HTTP and Quart, as in a handler "
        f"that answers without looking; {reading:.1f} µs to reading the JSON; {ourselves:.1f} µs to "
        "checking and deciding in Python, storing, and writing the replies."
    )


def _reading_us(request: bytes) -> float:
    """For each operation of a batch; the best of many, in this process."""
    body = request.split(b"\r\n\r\n", 1)[1]
    return min(timeit.repeat(lambda: operations(body), number=1, repeat=200)) * 1_000_000 / wire.BATCH


def sqlite(stage: Stage) -> Finding:
    """Durable renewals per second in batches of 1,000 on SQLite, and one commit for each with sqlite3."""
    rates: list[wire.Rate] = []
    commit_rates: list[float] = []
    with stage.berth("sqlite") as server, peer_database(stage) as database:
        requests = renewals(stage, server)
        for count in CONNECTIONS:
            rates.append(rate(stage, server, requests, count))
            commit_rates.append(commits_per_second(database))
    ours, commits = max(rates), max(commit_rates)
    ratio = ours.per_second / commits
    return Finding(
        [
            Row(
                "durable renewals in batches of 1,000 on SQLite, against one commit a renewal",
                "60,000/s, or 20 x",
                f"{thousands(ours.per_second)}/s; {thousands(commits)} commits/s",
                f"{ratio:.1f}",
                ours.per_second >= 60_000 or ratio >= 20,
            )
        ],
        f"A commit takes {1000 / commits:.2f} ms here (WAL, `synchronous` FULL, Python's sqlite3). The "
        f"server used {ours.server_cpu:.0%} of its core, the load {ours.load_cpu:.0%} of the other. "
        + held_back(ours),
    )


def renewals(stage: Stage, server: Running, leases: int = LEASES) -> list[bytes]:
    """Requests that renew all leases, 1,000 in each, encoded beforehand; the leases are acquired."""
    names = [f"lease-{number}" for number in range(leases)]
    connection = wire.Connection(stage, server)
    tokens = wire.fill(connection, names)
    connection.close()
    operations = [
        wire.operation("renew", name, fencingToken=token, ttlSeconds=86_400)
        for name, token in zip(names, tokens, strict=True)
    ]
    return [wire.batch(operations[at : at + wire.BATCH]) for at in range(0, leases, wire.BATCH)]


def rate(stage: Stage, server: Running, requests: list[bytes], connections: int) -> wire.Rate:
    opened = [wire.Connection(stage, server) for _ in range(connections)]
    ask = partial(wire.keep_asking, opened, cycle(requests), granted=wire.BATCH)
    ask(until=time.monotonic() + WARM_SECONDS)
    found = wire.rate_of(server, ask, seconds=SECONDS, load_cpu=time.process_time)
    for connection in opened:
        connection.close()
    return found


def per_cpu_second(rate: wire.Rate) -> float:
    """What the server does with a second of its CPU, whatever else keeps it from its core."""
    return rate.per_second / rate.server_cpu


def held_back(rate: wire.Rate) -> str:
    if rate.load_cpu > 0.9:
        return "The load had no core left: the server could do more."
    if rate.server_cpu > 0.9:
        return "What holds it back is the server's one core."
    return (
        "Neither core was busy all the time: what holds it back is waiting, for the disk or for other load."
    )


def prepare_redis(stage: Stage, server: Running) -> None:
    make = (
        f"for i=0,{LEASES - 1} do "
        f"redis.call('set',string.format('lease:%012d',i),'{wire.HOLDER}','px',86400000) end"
    )
    stage.load(["redis-cli", *_tls(stage, server), "EVAL", make, "0"], within_seconds=60)
    one = ["redis-cli", *_tls(stage, server), *_eval("lease:000000000001")]
    renewed = stage.load(one, within_seconds=60)
    if renewed.strip() != "1":
        raise NotMeasured("Redis does not renew")


def redis_rate(stage: Stage, server: Running, clients: int) -> wire.Rate:
    count = REDIS_REQUESTS // 4 if clients == 1 else REDIS_REQUESTS
    many = ["-r", str(LEASES), "-n", str(count), "-c", str(clients), "--csv"]
    command = ["redis-benchmark", *_tls(stage, server), *many, *_eval("lease:__rand_int__")]
    before, begun = server.cpu_seconds, time.monotonic()
    told = stage.load(command, within_seconds=300)
    cpu = (server.cpu_seconds - before) / (time.monotonic() - begun)
    return wire.Rate(_csv_rate(told), cpu, 0)


def _tls(stage: Stage, server: Running) -> list[str]:
    return ["-h", "localhost", "-p", str(server.port), "--tls", "--cacert", str(stage.files.ca)]


def _eval(key: str) -> list[str]:
    return ["EVAL", SCRIPT, "1", key, wire.HOLDER, "86400000"]


def _csv_rate(told: str) -> float:
    """The requests per second: the column after the command, which holds commas itself."""
    fields = told.strip().splitlines()[-1].split('","')
    return float(fields[1].strip('"'))


@contextmanager
def peer_database(stage: Stage) -> Iterator[sqlite3.Connection]:
    """A table of leases as plain as can be, as durable as ours, on the file system of the stage."""
    path = f"{tempfile.mkdtemp(dir=stage.directory)}/peer.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE lease (name TEXT PRIMARY KEY, holder TEXT, token INTEGER, renewed INTEGER)")
        db.execute("BEGIN")
        rows = [(f"lease-{number}", wire.HOLDER, 1, 0) for number in range(LEASES)]
        db.executemany("INSERT INTO lease VALUES (?, ?, ?, ?)", rows)
        db.execute("COMMIT")
        yield db


def commits_per_second(db: sqlite3.Connection) -> float:
    """One UPDATE and one commit a renewal."""
    begun, done = time.monotonic(), 0
    while time.monotonic() < begun + 1:
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            "UPDATE lease SET renewed = ? WHERE name = ? AND token = 1", (done, f"lease-{done % LEASES}")
        )
        db.execute("COMMIT")
        done += 1
    return done / (time.monotonic() - begun)
