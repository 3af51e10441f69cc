"""A real server on a real database, while either is killed, stopped or put back: what callers are told."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.roles.apiserver.conftest import Lease, calling, new_path
from tests.roles.apiserver.https import Caller, Reply, head
from tests.support.apiserver import Apiserver, Certificates, apiserver, until
from tests.support.mariadb import Mariadb, mariadb
from tests.support.postgres import Postgres, postgres

RETURN_SECONDS = 2.0
"""A database that is back is found within this."""

Database = Postgres | Mariadb


@pytest.fixture(scope="module", params=["postgres", "mysql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with postgres() if request.param == "postgres" else mariadb() as server:
        yield server


@pytest.fixture
def flags(database: Database, tmp_path: Path) -> list[str]:
    """For servers on an empty database."""
    database.empty()
    driver = "postgres" if isinstance(database, Postgres) else "mysql"
    (tmp_path / "dsn").write_text(database.source)
    sql = ["--store-backend", "sql", "--sql-driver", driver, "--sql-dsn-file", str(tmp_path / "dsn")]
    return [*sql, "--auth-mode", "none"]


@pytest.fixture
def server(certificates: Certificates, flags: list[str]) -> Iterator[Apiserver]:
    with apiserver(certificates, *flags) as server:
        yield server
        assert server.process.poll() is None, "no fault of the database ends it"


@pytest.fixture
def caller(server: Apiserver) -> Iterator[Caller]:
    with closing(calling(server)) as opened:
        yield opened


def refused(reply: Reply, *codes: str) -> None:
    """It is a 503 that says when to ask again."""
    assert reply.status == 503, reply.body
    assert reply.code in codes
    assert 1 <= int(reply.headers["Retry-After"]) <= 5


def back_within(seconds: float, ask: Any) -> Reply:
    """The first reply that is no 503; each of those before says when to ask again."""
    began = time.monotonic()
    while True:
        reply = ask()
        if reply.status != 503:
            assert time.monotonic() - began < seconds
            return reply
        refused(reply, "store_unavailable", "outcome_unknown")
        assert time.monotonic() - began < seconds
        time.sleep(0.05)


def test_while_the_database_is_away_all_is_refused_and_then_goes_on(
    database: Database, server: Apiserver, caller: Caller
) -> None:
    lease = Lease(caller, new_path())
    token = lease.acquire("h")["fencingToken"]
    for end in (database.kill, database.stop):
        end()
        try:
            refused(
                lease.ask("renew", holder="h", fencingToken=token, ttlSeconds=60),
                "store_unavailable",
                "outcome_unknown",
            )
            refused(lease.ask("acquire", holder="other", ttlSeconds=60), "store_unavailable")
            refused(lease.get(), "store_unavailable")
            assert caller.get("/livez").status == 200
            until(lambda: caller.get("/readyz").status == 503, within_seconds=5)
        finally:
            database.start()
        renewed = back_within(
            RETURN_SECONDS, lambda: lease.ask("renew", holder="h", fencingToken=token, ttlSeconds=60)
        )
        assert renewed.ok()["acquired"] is True
        until(lambda: caller.get("/readyz").status == 200, within_seconds=5)
        told = lease.acquire("other")
        assert (told["acquired"], told["holder"], told["fencingToken"]) == (False, "h", token)


def test_a_database_that_stands_still_is_told_as_such_and_goes_on(
    database: Database, server: Apiserver, caller: Caller
) -> None:
    lease = Lease(caller, new_path())
    token = lease.acquire("h")["fencingToken"]
    with database.frozen():
        began = time.monotonic()
        refused(
            lease.ask("renew", holder="h", fencingToken=token, ttlSeconds=60),
            "store_unavailable",
            "outcome_unknown",
        )
        refused(lease.ask("acquire", holder="other", ttlSeconds=60), "store_unavailable", "outcome_unknown")
        assert time.monotonic() - began < 15
        assert caller.get("/livez").status == 200
    back_within(5, lease.get)
    assert lease.renew("h", token)["acquired"] is True
    assert lease.acquire("other")["acquired"] is False


def test_who_hangs_up_in_mid_query_leaves_nothing_behind(
    database: Database, server: Apiserver, caller: Caller
) -> None:
    lease = Lease(caller, new_path())
    token = lease.acquire("h")["fencingToken"]
    name = lease.path.rpartition("/")[2]
    before = database.connections()
    body = f'{{"holder":"h","fencingToken":{token},"ttlSeconds":60}}'.encode()
    request = head("POST", f"{lease.path}/renew", f"Content-Length: {len(body)}") + body
    for _ in range(10):
        with database.transaction(f"SELECT 1 FROM berth_leases WHERE name = '{name}' FOR UPDATE"):
            asked = len(server.logged("api request"))
            connection = caller.connect()
            connection.sendall(request)
            time.sleep(0.05)  # so that the query is under way; if it is not, nothing breaks
            connection.close()
        assert lease.renew("h", token)["acquired"] is True
        assert len(server.logged("api request")) > asked
    assert database.connections() <= max(before, 9)
    assert lease.acquire("other")["acquired"] is False
    assert lease.release("h", token).status == 204
    assert lease.acquire("other")["fencingToken"] == token + 1


def test_tokens_end_where_they_end(database: Database, caller: Caller) -> None:
    lease, other = Lease(caller, new_path()), Lease(caller, new_path())
    lease.acquire("h")
    lease.release("h", 1)
    name = lease.path.rpartition("/")[2]
    database.on(f"UPDATE berth_leases SET fencing_token = 2147483646 WHERE name = '{name}'")
    last = lease.acquire("h")
    assert (last["acquired"], last["fencingToken"]) == (True, 2_147_483_647)
    assert lease.renew("h", 2_147_483_647)["acquired"] is True
    assert lease.release("h", 2_147_483_647).status == 204
    reply = lease.ask("acquire", holder="h", ttlSeconds=60)
    assert (reply.status, reply.code) == (503, "token_exhausted")
    assert other.acquire("h")["acquired"] is True


@contextmanager
def restored(database: Database) -> Iterator[None]:
    """What happens in the body is gone afterwards, by a copy from before."""
    database.back_up()
    yield
    database.restore()


def test_a_database_that_is_put_back_grants_nothing_for_a_while(
    database: Database, server: Apiserver, caller: Caller
) -> None:
    lease = Lease(caller, new_path())
    token = lease.acquire("h", 2)["fencingToken"]
    lease.release("h", token)
    with restored(database):
        back_within(RETURN_SECONDS, lease.get)
        lost = lease.acquire("lost", 2)["fencingToken"]
    reply = back_within_restore(lambda: lease.ask("acquire", holder="h", ttlSeconds=2))
    assert (reply.status, reply.code) == (503, "quarantine")
    assert int(reply.headers["Retry-After"]) >= 1
    until(lambda: lease.ask("acquire", holder="h", ttlSeconds=2).status == 200, within_seconds=5)
    assert lease.get().ok()["fencingToken"] > lost


def back_within_restore(ask: Any) -> Reply:
    """The first reply by what is in the database."""
    found: list[Reply] = []

    def answered() -> bool:
        found.append(ask())
        return found[-1].status == 200 or found[-1].code == "quarantine"

    until(answered, within_seconds=RETURN_SECONDS)
    return found[-1]


class Load:
    """Callers that take leases and give them back, and what they were told."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.granted: dict[tuple[str, int], str] = {}
        self.twice: list[tuple[str, int]] = []
        self.holding: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        self._holders = count(1)
        self._ending = threading.Event()

    def run(self, server: Apiserver, chance: random.Random, threads: int, kill_after: int) -> None:
        """Until the server was killed, in the middle of what comes after so many grants."""
        until_granted = len(self.granted) + kill_after
        self._ending.clear()
        running = [
            threading.Thread(target=self._take_turns, args=(server, random.Random(chance.random())))
            for _ in range(threads)
        ]
        for each in running:
            each.start()
        until(lambda: len(self.granted) >= until_granted, within_seconds=30)
        self._ending.set()
        server.kill()
        for each in running:
            each.join(30)

    def _take_turns(self, server: Apiserver, chance: random.Random) -> None:
        with closing(calling(server)) as caller:
            try:
                while True:
                    self._turn(Lease(caller, chance.choice(self.paths)))
            except (OSError, AssertionError):
                if not self._ending.is_set():
                    raise

    def _turn(self, lease: Lease) -> None:
        holder = f"h-{next(self._holders)}"
        told = lease.acquire(holder, 600)
        if not told["acquired"]:
            return
        assert told["holder"] == holder
        grant = lease.path, told["fencingToken"]
        with self._lock:
            if grant in self.granted:
                self.twice.append(grant)
            self.granted[grant] = holder
            self.holding[lease.path] = holder, told["fencingToken"]
        lease.release(holder, told["fencingToken"])


def test_a_server_that_is_killed_under_load_loses_no_grant_and_repeats_no_token(
    certificates: Certificates, flags: list[str]
) -> None:
    chance = random.Random(1)
    load = Load([new_path() for _ in range(3)])
    for kill_after in (1, 20, 60, 90):
        with apiserver(certificates, *flags) as server:
            load.run(server, chance, threads=4, kill_after=kill_after)
        with apiserver(certificates, *flags) as server, closing(calling(server)) as caller:
            for path in load.paths:
                assert_durable(load, Lease(caller, path))
            server.stop()
    assert load.twice == []


def assert_durable(load: Load, lease: Lease) -> None:
    """All that was told is in the store. What was in flight may be; then it is ended, so that all go on."""
    found = lease.get()
    highest = max((token for path, token in load.granted if path == lease.path), default=0)
    if found.status == 404:
        assert highest == 0
        return
    stored = found.ok()
    assert stored["fencingToken"] >= highest
    # Each caller has at most one grant in flight that it was never told of.
    assert stored["fencingToken"] <= highest + 4
    if stored["state"] == "free":
        return
    if stored["fencingToken"] == highest:
        assert load.holding[lease.path] == (stored["holder"], highest)
    assert lease.release(stored["holder"], stored["fencingToken"]).status == 204
