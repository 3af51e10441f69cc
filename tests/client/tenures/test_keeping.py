"""Keeping leases: what it costs, and how a lease changes hands."""

import trio

from berth.client.tenures import Held, Standby, Unasked
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
