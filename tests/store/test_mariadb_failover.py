"""MariaDB fails over to a replica that lacks the last writes: no token is given twice.

The servers stand behind one address, as they do behind a proxy that follows the primary.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from io import StringIO

import pymysql
import pytest
import trio

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.requests import Acquire, Refused, Renew, Renewed
from berth.store.mariadb import MariadbStore, open_mariadb
from berth.store.sql_store import Durability
from tests.store.conformance import must_win
from tests.store.samples import KEY, SECOND, SESSIONS, held
from tests.store.sql_doubts import TTL, answered, granted
from tests.store.sql_faults import quiet
from tests.support.apiserver import until
from tests.support.mariadb import Mariadb, replicated
from tests.support.proxy import Proxy, open_proxy

LOST = Key("default", "lost")

Servers = tuple[Mariadb, Mariadb]


@pytest.fixture
def servers() -> Iterator[Servers]:
    with replicated() as pair:
        yield pair


@asynccontextmanager
async def opened(
    primary: Mariadb, durability: Durability = "async"
) -> AsyncGenerator[tuple[MariadbStore, Proxy, StringIO]]:
    settings, log = quiet(durability=durability)
    async with open_proxy(("127.0.0.1", primary.port)) as proxy:
        source = f"berth:berth@tcp({proxy.url.removeprefix('https://')})/berth"
        async with open_mariadb(source, settings) as store:
            yield store, proxy, log


def count_of(server: Mariadb, table: str) -> int:
    try:
        return server.on(f"SELECT COUNT(*) FROM {table}")[0][0]
    except pymysql.err.ProgrammingError:
        return 0  # the table has not arrived yet


async def fail_over(proxy: Proxy, primary: Mariadb, replica: Mariadb) -> None:
    primary.kill()
    replica.promote()
    proxy.target = "127.0.0.1", replica.port


async def test_a_replica_is_not_used(servers: Servers):
    primary, replica = servers
    async with opened(primary) as (store, proxy, _):
        await must_win(store, held())
        until(lambda: count_of(replica, "berth_leases") == 1)
        proxy.target = "127.0.0.1", replica.port
        proxy.reset()
        await proxy.mend()
        with trio.move_on_after(1) as waited:
            await answered(store)
        assert waited.cancelled_caught
        proxy.target = "127.0.0.1", primary.port
        assert (await answered(store)).quarantine is None


async def test_a_lost_tail_gives_no_token_twice(servers: Servers):
    primary, replica = servers
    async with opened(primary) as (store, proxy, log):
        first = await granted(store, KEY, "before")
        until(lambda: count_of(replica, "berth_leases") == 1)
        replica.on("STOP SLAVE")
        await trio.sleep(TTL / SECOND + 0.1)
        lost = await granted(store, KEY, "lost"), await granted(store, LOST, "lost")
        await fail_over(proxy, primary, replica)

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


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_a_holder_keeps_its_lease_over_a_failover(servers: Servers, durability: Durability):
    primary, replica = servers
    async with opened(primary, durability) as (store, proxy, _):
        await must_win(store, held(), SESSIONS[0])
        until(lambda: count_of(replica, "berth_leases") == count_of(replica, "berth_sessions") == 1)
        await fail_over(proxy, primary, replica)
        observed = await answered(store)
        assert (observed.quarantine is None) == (durability == "sync"), "nothing is known to be lost"
        decision = decide(observed, Renew("edge-1", 1, TTL))
        assert isinstance(decision.outcome, Renewed)
        assert decision.write is not None
        await must_win(store, decision.write)
