"""Keeping leases: what it costs, and how a lease changes hands."""

import trio

from berth.client.tenures import Held, Lost, Standby, Unasked
from tests.client.tenures.place import TTL, Place, played


@played()
async def test_a_lease_that_is_wanted_is_held_and_one_renewal_keeps_it(place: Place) -> None:
    a = place.site("a")
    a.want()
    await trio.sleep(10 * TTL)
    [held] = a.told()
    assert held == a.standing()
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds, held.clean_handover, held.trouble) == (1, TTL, True, "")
    assert len(place.requests(since=1)) == len(place.requests(since=1, text="/renew")) == 3 * 10 - 1


@played()
async def test_a_standby_asks_when_the_lease_is_free_and_not_before(place: Place) -> None:
    a, b = place.site("a"), place.site("b")
    a.want()
    await trio.sleep(1)
    b.want()
    await trio.sleep(10 * TTL)
    assert b.told() == [Standby("a", "held")]
    assert not place.requests(since=2, text="batch")
    released = trio.current_time()
    await a.tenures.release(a.lease("db"), 1)
    assert a.standing() == Unasked()
    await trio.sleep(0.02)
    assert isinstance(b.standing(), Held)
    assert len(place.requests(since=released, text="batch")) == 2


@played()
async def test_two_thousand_leases_cost_two_requests_a_heartbeat_and_are_lost_at_once(place: Place) -> None:
    a, b = place.site("a"), place.site("b")
    names = [f"lease-{number}" for number in range(2000)]
    for site in (a, b):
        for name in names:
            site.want(name)
        await trio.sleep(2)
    assert all(isinstance(a.standing(name), Held) for name in names)
    assert all(b.standing(name) == Standby("a", "held") for name in names)
    assert len(place.requests(text="batch")) < 20
    quiet = trio.current_time()
    await trio.sleep(5 * TTL)
    assert len(place.requests(since=quiet)) == 2 * 5 * 3
    place.cut_off("a")
    await trio.sleep(TTL)
    lost = [at for at, _, standing in a.changes if isinstance(standing, Lost)]
    assert len(lost) == 2000
    assert min(lost) == max(lost)
    place.ledger.events.clear()
    await trio.sleep(2)
    assert all(isinstance(b.standing(name), Held) for name in names)
    assert len(place.requests(text="batch")) < 20
