"""Terms: what is asked for, what changes of it, and what the server will not have."""

import pytest
import trio
from msgspec.structs import replace

from berth.client.tenures import Held, Lost, Standby, Terms, Unasked
from tests.client.tenures.place import SHARED, TERMS, TTL, Place, Site, played

LONG = Terms(90, 30.0, "at-most-once", 0, 35_000_000)
LIFE_SECONDS = 11.976


@played()
async def test_a_lock_delay_keeps_the_lease_closed_after_an_expiry(place: Place) -> None:
    delayed = replace(TERMS, lock_delay_seconds=20)
    a, b = place.site("a"), place.site("b")
    a.want(terms=delayed)
    await trio.sleep(1)
    b.want(terms=delayed)
    await trio.sleep(1)
    place.cut_off("a")
    cut = trio.current_time()
    await trio.sleep(TTL + 1)
    assert b.standing() == Standby("", "lock_delay")
    since = trio.current_time()
    await trio.sleep(TTL + 20)
    [at] = [at for at, _, standing in b.changes if isinstance(standing, Held)]
    assert 20 < at - cut < TTL + 20 + 0.5
    assert len(place.requests(since, text="batch")) < 3, "it is asked for when the delay is over"


@played()
async def test_a_new_lock_delay_counts_for_what_is_held(place: Place) -> None:
    a, b = place.site("a"), place.site("b")
    a.want()
    await trio.sleep(1)
    a.want(terms=replace(TERMS, lock_delay_seconds=20))
    await trio.sleep(1)
    place.cut_off("a")
    b.want()
    await trio.sleep(TTL + 2)
    assert b.standing() == Standby("", "lock_delay")


@played()
async def test_a_ttl_that_is_new_counts_with_the_next_tenure(place: Place) -> None:
    a = place.site("a")
    a.want()
    await trio.sleep(1)
    a.want(terms=replace(TERMS, ttl_seconds=24, heartbeat_seconds=8.0))
    await trio.sleep(2 * TTL)
    [held] = a.told()
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds) == (1, TTL)
    await a.tenures.release(a.lease("db"), 1)
    a.want(terms=replace(TERMS, ttl_seconds=24, heartbeat_seconds=8.0))
    await trio.sleep(1)
    held = a.standing()
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds) == (2, 24)


@played()
async def test_a_shorter_heartbeat_counts_at_once_and_a_longer_one_no_more_than_a_third(place: Place) -> None:
    a = place.site("a")
    a.want(terms=replace(TERMS, heartbeat_seconds=60.0))
    await trio.sleep(1)
    since = trio.current_time()
    await trio.sleep(5 * TTL)
    assert len(place.requests(since, text="/renew")) == 15
    a.want("queue", replace(TERMS, heartbeat_seconds=1.0))
    await trio.sleep(1)
    since = trio.current_time()
    await trio.sleep(10)
    assert len(place.requests(since, text="/renew")) == 10


@played()
async def test_a_larger_budget_moves_the_deadline_of_what_is_held(place: Place) -> None:
    a = place.site("a")
    a.want()
    await trio.sleep(1)
    before = a.tenures.remaining_seconds(a.lease("db"))
    a.want(terms=replace(TERMS, budget_us=7_000_000))
    assert before - a.tenures.remaining_seconds(a.lease("db")) > 3.9
    place.cut_off("a")
    await trio.sleep(5)
    assert a.told()[-1] == Lost(1, "deadline")


@played()
async def test_a_budget_that_comes_with_a_new_ttl_counts_with_the_next_tenure(place: Place) -> None:
    a = place.site("a")
    a.want()
    await trio.sleep(3)
    before = a.tenures.remaining_seconds(a.lease("db"))
    a.want(terms=LONG)
    assert a.tenures.remaining_seconds(a.lease("db")) == before
    a.want(terms=replace(LONG, budget_us=1_000_000))
    assert a.tenures.remaining_seconds(a.lease("db")) == pytest.approx(before + 2), "less is no danger to it"
    a.want(terms=LONG)
    assert a.tenures.remaining_seconds(a.lease("db")) == before
    await trio.sleep(5 * TTL)
    [held] = a.told()
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds) == (1, TTL)
    await a.tenures.release(a.lease("db"), 1)
    a.want(terms=LONG)
    await trio.sleep(0.5)
    held = a.standing()
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds) == (2, 90)
    assert 53 < a.tenures.remaining_seconds(a.lease("db")) < 55


@played()
async def test_the_budget_of_a_new_ttl_costs_nothing_even_when_the_session_is_overdue(place: Place) -> None:
    a = place.site("a")
    a.want()
    await trio.sleep(1)
    place.cut_off("a")
    await trio.sleep(7)
    left_seconds = a.tenures.remaining_seconds(a.lease("db"))
    assert 0 < left_seconds < 2.5
    a.want(terms=LONG)
    await trio.sleep(left_seconds - 0.1)
    assert isinstance(a.standing(), Held)
    await trio.sleep(0.2)
    assert a.told()[-1] == Lost(1, "deadline")


@played()
async def test_a_session_of_a_process_before_is_kept_half_its_ttl_for_stopping_at_most(place: Place) -> None:
    a = place.site("a")
    a.want()
    await trio.sleep(1)
    a.crash()
    a.start()
    a.want(terms=LONG, recorded_token=1)
    await trio.sleep(0.5)
    remaining_seconds = a.tenures.remaining_seconds(a.lease("db"))
    assert remaining_seconds == pytest.approx(LIFE_SECONDS - TTL / 2 - 0.5, abs=0.1)
    await trio.sleep(5 * TTL)
    [_, held] = [standing for standing in a.told() if isinstance(standing, Held)]
    assert held == a.standing(), "it leaves time for a renewal"


async def lost_and_wanted_otherwise(place: Place, terms: Terms, budget_us: int = 6_000_000) -> Site:
    """A site that has lost a lease by its deadline, and stopped; its session goes on, with another lease."""
    a = place.site("a")
    a.want(terms=replace(TERMS, budget_us=budget_us))
    a.want("other", SHARED)
    await trio.sleep(1)
    place.server.crash()
    while not isinstance(a.standing(), Lost):  # noqa: ASYNC110
        await trio.sleep(0.1)
    a.want(terms=terms)
    place.server.start()
    await trio.sleep(3)
    assert a.standing() == Lost(1, "deadline")
    a.changes.clear()
    a.tenures.again(a.lease("db"))
    await trio.sleep(1)
    return a


@played()
async def test_what_was_lost_is_not_in_its_own_way_under_another_ttl(place: Place) -> None:
    a = await lost_and_wanted_otherwise(place, replace(TERMS, ttl_seconds=24, heartbeat_seconds=8.0))
    [held] = a.told()
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds) == (2, 24)


@pytest.mark.parametrize("terms", [SHARED, replace(TERMS, ttl_seconds=24, heartbeat_seconds=8.0)])
def test_what_was_granted_by_a_reply_that_was_lost_is_not_in_the_way(terms: Terms) -> None:
    """The watch has told of it, and other terms are wanted by then."""

    @played()
    async def scene(place: Place) -> None:
        a = place.site("a")
        a.want("other")
        await trio.sleep(1)
        place.network.delays["s1", "a"] = 3600.0
        a.want()
        await trio.sleep(0.5)
        assert (await place.by_hand().get_lease("team", "db")).state == "held"
        a.want(terms=terms)
        place.network.delays.clear()
        await trio.sleep(2 * TTL)
        held = a.standing()
        assert isinstance(held, Held)
        assert (held.token, held.ttl_seconds, held.exclusive) == (2, terms.ttl_seconds, terms.exclusive)

    scene()


@played()
async def test_several_may_hold_what_is_at_least_once(place: Place) -> None:
    a, b = place.site("a"), place.site("b")
    a.want(terms=SHARED)
    b.want(terms=SHARED)
    await trio.sleep(1)
    held = [a.standing(), b.standing()]
    assert {standing.token for standing in held if isinstance(standing, Held)} == {1, 2}
    await trio.sleep(5 * TTL)
    assert held == [a.standing(), b.standing()]
    assert len(a.changes) == len(b.changes) == 1


@played()
async def test_other_semantics_wait_until_the_lease_is_free(place: Place) -> None:
    a, b = place.site("a"), place.site("b")
    a.want()
    await trio.sleep(1)
    b.want(terms=SHARED)
    a.want(terms=SHARED)
    await trio.sleep(2 * TTL)
    assert b.standing() == Standby("", "semantics_mismatch")
    assert len(a.changes) == 1
    assert a.tenures.remaining_seconds(a.lease("db")) < TTL, "it is at-most-once as long as it lasts"
    await a.tenures.release(a.lease("db"), 1)
    await trio.sleep(0.1)
    assert isinstance(b.standing(), Held)


@played()
async def test_what_is_held_is_what_it_was_won_as_until_it_is_released(place: Place) -> None:
    a = place.site("a")
    a.want()
    a.want("queue", SHARED)
    await trio.sleep(1)
    a.want(terms=SHARED)
    a.want("queue")
    await trio.sleep(2 * TTL)
    held = [a.standing(), a.standing("queue")]
    assert [each.exclusive for each in held if isinstance(each, Held)] == [True, False]
    assert not [each for each in a.told() if isinstance(each, Lost)]
    place.cut_off("a")
    await trio.sleep(TTL)
    assert a.told()[-1] == Lost(1, "deadline")
    queue = a.standing("queue")
    assert isinstance(queue, Held)
    assert not queue.exclusive
    assert a.tenures.remaining_seconds(a.lease("queue")) == float("inf")
    place.join("a")
    a.tenures.again(a.lease("db"))
    await trio.sleep(TTL)
    queue, db = a.standing("queue"), a.standing()
    assert isinstance(queue, Held)
    assert (queue.token, queue.exclusive) == (2, False), "what goes on may get a new tenure, of the same kind"
    assert isinstance(db, Held)
    assert (db.token, db.exclusive) == (2, False)
    await a.tenures.release(a.lease("queue"), 2)
    a.want("queue")
    await trio.sleep(0.1)
    queue = a.standing("queue")
    assert isinstance(queue, Held)
    assert (queue.token, queue.exclusive) == (3, True)


@played()
async def test_what_was_lost_is_not_in_its_own_way_by_other_semantics(place: Place) -> None:
    a = await lost_and_wanted_otherwise(place, SHARED)
    [held] = a.told()
    assert isinstance(held, Held)
    assert (held.token, held.exclusive) == (2, False)


@played()
async def test_what_is_not_allowed_is_trouble_and_tried_again_slowly(place: Place) -> None:
    a = place.site("a", role="reader")
    a.want()
    await trio.sleep(60)
    assert len(a.changes) == 1
    told = a.told()[0]
    assert isinstance(told, Unasked)
    assert "this needs the role holder" in told.trouble
    assert 5 <= len(place.requests(text="POST")) <= 8
    place.grant("a", "holder")
    await trio.sleep(12)
    assert isinstance(a.standing(), Held)


@played()
async def test_a_key_that_is_withdrawn_costs_what_is_held(place: Place) -> None:
    a = place.site("a", role="holder")
    a.want()
    await trio.sleep(1)
    place.grant("a", "reader")
    await trio.sleep(TTL)
    troubled, lost = a.told()[1:]
    assert isinstance(troubled, Held)
    assert "this needs the role holder" in troubled.trouble
    assert lost == Lost(1, "deadline")
    place.grant("a", "holder")
    await trio.sleep(15)
    a.tenures.again(a.lease("db"))
    await trio.sleep(5)
    assert isinstance(a.standing(), Held)


@played()
async def test_a_name_that_no_server_takes_is_trouble_and_spoils_no_other(place: Place) -> None:
    a = place.site("a")
    a.want("x" * 300)
    a.want()
    await trio.sleep(1)
    assert isinstance(a.standing(), Held)
    bad = a.standing("x" * 300)
    assert isinstance(bad, Unasked)
    assert bad.trouble


@played("memory")
async def test_a_tenure_by_ttl_of_ours_is_left_alone(place: Place) -> None:
    await place.by_hand().acquire("team", "db", holder="a", ttl_seconds=5)
    a = place.site("a")
    a.want()
    await trio.sleep(1)
    assert a.standing() == Standby("a", "held_by_ttl")
    await trio.sleep(5)
    assert isinstance(a.standing(), Held)
