"""Releasing: what was given up is given up once, and what comes late makes or ends no tenure unseen."""

import pytest
import trio
from msgspec.structs import replace

from berth.client import BerthError, OutcomeUnknown, Unreachable
from berth.client.strays import LATE_SECONDS
from berth.client.tenures import Held, Lost, Standby, Unasked
from tests.client.tenures.place import SHARED, TERMS, TTL, Place, Site, played
from tests.sim.network import Request


async def holding(place: Place) -> Site:
    a = place.site("a")
    a.want()
    await trio.sleep(1)
    a.changes.clear()
    return a


async def state(place: Place, name: str = "db") -> tuple[str, int]:
    lease = await place.by_hand().get_lease("team", name)
    return lease.state, lease.fencing_token


def arrives_late(place: Place, request: Request) -> None:
    """Deliver it once more."""
    place.nursery.start_soon(place.network._deliver, "s1", request, 0.01, True)


def sent(place: Place, text: str) -> Request:
    """The last request with this text."""
    return [each for each in place.network._remembered if text in each.what][-1]


@played()
async def test_after_a_release_it_is_not_asked_for_until_it_is_wanted(place: Place) -> None:
    a = await holding(place)
    await a.tenures.release(a.lease("db"), 1)
    assert a.standing() == Unasked()
    await trio.sleep(TTL)
    assert await state(place) == ("free", 1)
    a.want()
    await trio.sleep(0.1)
    held = a.standing()
    assert isinstance(held, Held)
    assert held.token == 2
    a.tenures.unwant(a.lease("db"))
    assert a.standing() == held
    await trio.sleep(2 * TTL)
    assert a.standing() == held, "what is held stays held"
    await a.tenures.release(a.lease("db"), 2)
    a.tenures.again(a.lease("db"))
    await trio.sleep(TTL)
    assert await state(place) == ("free", 2)


@played()
async def test_a_release_of_what_is_somebody_elses_by_now_is_no_error(place: Place) -> None:
    a = await holding(place)
    hand = place.by_hand()
    await hand.release("team", "db", holder="a", fencing_token=1)
    await hand.acquire("team", "db", holder="b", ttl_seconds=60)
    await a.tenures.release(a.lease("db"), 1)
    assert a.standing() == Unasked()
    a.tenures.again(a.lease("db"))
    await trio.sleep(0.1)
    assert a.standing() == Standby("b", "held")
    await a.tenures.release(a.lease("never-wanted"), 7)


@played()
async def test_many_are_released_in_few_requests(place: Place) -> None:
    a = place.site("a")
    names = [f"lease-{number}" for number in range(500)]
    for name in names:
        a.want(name)
    await trio.sleep(1)
    since = trio.current_time()
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(a.tenures.release, a.lease(name), 1)
    assert len(place.requests(since)) < 5
    assert trio.current_time() - since < 0.1


@played()
async def test_a_release_that_nobody_answers_is_lost_and_goes_on(place: Place) -> None:
    a, b = await holding(place), place.site("b")
    b.want()
    await trio.sleep(1)
    place.cut_off("a")
    with pytest.raises((OutcomeUnknown, Unreachable)):
        await a.tenures.release(a.lease("db"), 1)
    assert a.standing() == a.told()[-1] == Lost(1, "released")
    assert a.tenures.remaining_seconds(a.lease("db")) == 0
    a.want()
    assert a.standing() == Lost(1, "released"), "nothing runs under it again"
    place.join("a")
    await trio.sleep(TTL)
    held = b.standing()
    assert isinstance(held, Held)
    assert held.token == 2
    assert a.standing() == Standby("b", "held"), "it was wanted after that"


@played()
async def test_a_release_whose_reply_is_lost_ends_no_tenure_after_it(place: Place) -> None:
    a = await holding(place)
    place.lose_replies("a")
    with pytest.raises(BerthError):
        await a.tenures.release(a.lease("db"), 1)
    release = sent(place, '"op":"release"')
    a.tenures.again(a.lease("db"))
    a.want()
    place.join("a")
    await trio.sleep(TTL)
    held = a.standing()
    assert isinstance(held, Held)
    assert held.token == 2, "never under the token that is being released"
    arrives_late(place, release)
    await trio.sleep(1)
    assert await state(place) == ("held", 2)
    assert a.standing() == held


@played()
async def test_an_acquire_that_comes_late_is_found_and_given_back(place: Place) -> None:
    a, b = await holding(place), place.site("b")
    acquire = sent(place, '"op":"acquire"')
    await a.tenures.release(a.lease("db"), 1)
    a.tenures.unwant(a.lease("db"))
    a.want("other")
    await trio.sleep(1)
    arrives_late(place, acquire)
    await trio.sleep(0.5)
    assert await state(place) == ("free", 2)
    assert a.standing() == Unasked()
    b.want()
    await trio.sleep(1)
    assert isinstance(b.standing(), Held)


@played()
async def test_one_that_comes_late_while_the_watch_is_cut_off_is_found_by_the_list(place: Place) -> None:
    a = await holding(place)
    acquire = sent(place, '"op":"acquire"')
    await a.tenures.release(a.lease("db"), 1)
    place.cut_off("a:watch")
    await trio.sleep(1)
    arrives_late(place, acquire)
    await trio.sleep(LATE_SECONDS / 2)
    assert await state(place) == ("held", 2)
    place.join("a")
    await trio.sleep(20)
    assert await state(place) == ("free", 2)


@played()
async def test_a_grant_that_nobody_wants_any_more_is_given_back(place: Place) -> None:
    a = place.site("a")
    a.want("other")
    await trio.sleep(1)
    place.network.delays["s1", "a"] = 1.0
    a.want()
    await trio.sleep(0.5)
    a.tenures.unwant(a.lease("db"))
    assert await state(place) == ("held", 1)
    await trio.sleep(2)
    assert await state(place) == ("free", 1)
    assert a.told() == []


@played()
async def test_what_is_not_wanted_any_more_is_forgotten_in_the_end(place: Place) -> None:
    a = await holding(place)
    await a.tenures.release(a.lease("db"), 1)
    a.tenures.unwant(a.lease("db"))
    await trio.sleep(LATE_SECONDS + 2)
    assert [*a.tenures._book.entries()] == []
    a.want(recorded_token=1)
    await trio.sleep(1)
    assert a.standing() == Lost(1, "refused"), "as of a process before"


@played()
async def test_a_handover_ends_the_sessions_under_which_nothing_is_left(place: Place) -> None:
    a = place.site("a")
    a.want("db")
    a.want("queue", TERMS.__class__(24, 8.0, "at-most-once", 0, 3_000_000))
    await trio.sleep(1)
    for name in ("db", "queue"):
        a.tenures.unwant(a.lease(name))
    await a.tenures.release(a.lease("db"), 1)
    await a.tenures.end_sessions()
    [session] = [each async for each in place.by_hand().list_sessions(holder="a") if each.alive]
    assert session.ttl_seconds == 24
    await trio.sleep(3 * 24)
    assert await state(place, "queue") == ("held", 1)
    await a.tenures.release(a.lease("queue"), 1)
    await a.tenures.end_sessions()
    assert not [each async for each in place.by_hand().list_sessions(holder="a") if each.alive]


@played()
async def test_a_handover_leaves_a_session_under_which_somebody_else_has_something(place: Place) -> None:
    a = await holding(place)
    a.crash()
    a.start()
    a.want("other")
    await trio.sleep(1)
    a.tenures.unwant(a.lease("other"))
    await a.tenures.release(a.lease("other"), 1)
    await a.tenures.end_sessions()
    assert await state(place) == ("held", 1), "of the process before, and not wanted by this one yet"


async def lost_by_its_deadline(place: Place) -> Site:
    """A site without a server for too long for what it held, though not for the session."""
    a = place.site("a")
    a.want()
    a.want("other", SHARED)
    await trio.sleep(1)
    place.server.crash()
    while not a.told() or not isinstance(a.told()[-1], Lost):  # noqa: ASYNC110
        await trio.sleep(0.1)
    place.server.start()
    return a


@played()
async def test_what_is_lost_and_not_wanted_is_given_up_once_it_was_stopped(place: Place) -> None:
    a = await lost_by_its_deadline(place)
    a.tenures.unwant(a.lease("db"))
    await trio.sleep(5 * TTL)
    assert await state(place) == ("held", 1), "its work may run still"
    a.tenures.again(a.lease("db"))
    await trio.sleep(0.1)
    assert await state(place) == ("free", 1)
    assert a.standing() == Unasked()
    assert isinstance(a.standing("other"), Held), "its session goes on"


@played()
async def test_it_is_given_up_too_when_it_was_stopped_first(place: Place) -> None:
    a = await lost_by_its_deadline(place)
    a.tenures.again(a.lease("db"))
    a.tenures.unwant(a.lease("db"))
    await trio.sleep(TTL)
    assert await state(place) == ("free", 1)


@played()
async def test_what_was_granted_after_a_loss_is_given_up_with_it(place: Place) -> None:
    """By another process, long after the one before it."""
    a = await holding(place)
    a.crash()
    await trio.sleep(2 * TTL)
    a.start()
    a.want(recorded_token=1)
    a.want("other")
    await trio.sleep(1)
    assert a.standing() == Lost(1, "refused")
    a.tenures.unwant(a.lease("db"))
    await trio.sleep(5 * TTL)
    assert await state(place) == ("held", 2), "nobody else begins while its work may run"
    a.tenures.again(a.lease("db"))
    await trio.sleep(0.1)
    assert await state(place) == ("free", 2)
    assert isinstance(a.standing("other"), Held)


@played()
async def test_what_was_granted_while_a_release_waited_is_given_up_with_it(place: Place) -> None:
    a = await holding(place)
    a.want("other")
    await place.by_hand().release("team", "db", holder="a", fencing_token=1)
    place.cut_off("a:watch")
    a.want(terms=replace(TERMS, lock_delay_seconds=1))  # asks, and is granted a new tenure
    await trio.sleep(0.0035)
    await a.tenures.release(a.lease("db"), 1)
    assert await state(place) == ("free", 2)
    await trio.sleep(TTL)
    assert await state(place) == ("free", 2)


@played()
async def test_what_nobody_confirmed_in_time_is_given_up_once_it_was_stopped(place: Place) -> None:
    """Recorded by a process before, whose session this one goes on with when it is too late."""
    a = await holding(place)
    a.want("other")
    await trio.sleep(1)
    a.crash()
    place.server.crash()
    a.start()
    a.want(recorded_token=1)
    a.want("other", SHARED, recorded_token=1)
    await trio.sleep(4)
    assert a.standing() == Lost(1, "deadline")
    place.server.start()
    a.tenures.unwant(a.lease("db"))
    await trio.sleep(5 * TTL)
    assert await state(place) == ("held", 1)
    a.tenures.again(a.lease("db"))
    await trio.sleep(0.1)
    assert await state(place) == ("free", 1)


@played()
async def test_what_is_being_given_up_is_not_held_again_when_its_session_is_renewed(place: Place) -> None:
    a = await holding(place)
    await trio.sleep(TTL / 3)
    place.server.crash()
    await trio.sleep(6)
    a.want(terms=replace(TERMS, lock_delay_seconds=1))  # waits for a renewal
    while not isinstance(a.standing(), Lost):  # noqa: ASYNC110
        await trio.sleep(0.1)
    with pytest.raises(BerthError):
        await a.tenures.release(a.lease("db"), 1)
    a.tenures.again(a.lease("db"))
    await trio.sleep(1)
    a.changes.clear()
    place.server.start()
    await trio.sleep(TTL)
    [held] = [standing for standing in a.told() if isinstance(standing, Held)]
    assert held.token == 2
