"""PostgreSQL fails over to a standby that lacks the last writes: no token is given twice."""

import psycopg
import pytest
import trio

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.requests import Acquire, Refused, Renew, Renewed
from berth.store.postgres import open_postgres
from tests.store.conformance import must_win
from tests.store.samples import KEY, SECOND, held
from tests.store.sql_doubts import TTL, answered, granted
from tests.store.sql_faults import quiet
from tests.support.apiserver import until
from tests.support.postgres import Postgres, postgres, standby_of

LOST = Key("default", "lost")


@pytest.fixture
def primary():
    with postgres() as server:
        yield server


@pytest.fixture
def standby(primary: Postgres):
    with standby_of(primary) as server:
        yield server


def source(*servers: Postgres) -> str:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgres://berth@{hosts}/berth?sslmode=disable"


def has_the_lease(standby: Postgres) -> bool:
    try:
        return standby.on("SELECT count(*) FROM berth_leases") == [(1,)]
    except psycopg.errors.UndefinedTable:
        return False


async def test_a_standby_is_not_used(primary: Postgres, standby: Postgres):
    async with open_postgres(source(standby, primary), quiet()[0]) as store:
        await must_win(store, held())


async def test_a_lost_tail_gives_no_token_twice(primary: Postgres, standby: Postgres):
    settings, log = quiet()
    async with open_postgres(source(primary, standby), settings) as store:
        first = await granted(store, KEY, "before")
        until(lambda: has_the_lease(standby), within_seconds=10)
        standby.stop()
        await trio.sleep(TTL / SECOND + 0.1)
        lost = await granted(store, KEY, "lost"), await granted(store, LOST, "lost")
        primary.kill()
        standby.start()
        standby.promote()

        observed = await answered(store)
        assert observed.record is not None
        assert observed.record.token == first, "the tail is lost"
        for key in (KEY, LOST):
            refused = decide((await store.read([key])).leases[key], Acquire("after", TTL)).outcome
            assert isinstance(refused, Refused)
            assert refused.reason == "quarantine"
        assert "may be lost" in log.getvalue()
        await trio.sleep(2.2)  # the longest ttl, and a little more
        after = await granted(store, KEY, "after"), await granted(store, LOST, "after")
        assert after == (first + 1_000, 1_001)
        assert after > lost


async def test_a_holder_keeps_its_lease_over_a_failover(primary: Postgres, standby: Postgres):
    async with open_postgres(source(primary, standby), quiet()[0]) as store:
        await must_win(store, held())
        until(lambda: has_the_lease(standby), within_seconds=10)
        primary.kill()
        standby.promote()
        decision = decide(await answered(store), Renew("edge-1", 1, TTL))
        assert isinstance(decision.outcome, Renewed)
        assert decision.write is not None
        await must_win(store, decision.write)
