"""Losses: a tenure is over at its instant or at the server's word, and what is unknown changes nothing."""

import pytest
import trio
from msgspec.structs import replace

from berth.client.tenures import Held, Lost, Standby, Unasked
from tests.client.tenures.place import SHARED, TERMS, TTL, Place, Site, played

LIFE_SECONDS = 11.976 - 3


async def holding(place: Place, *names: str) -> Site:
    """A site that has just renewed what it holds."""
    a = place.site("a")
    for name in names or ("db",):
        a.want(name)
    await trio.sleep(0.5)
    while not place.requests(since=trio.current_time() - 0.001, text="/renew"):  # noqa: ASYNC110
        await trio.sleep(0.0005)
    a.changes.clear()
    return a


@played()
async def test_a_server_that_hangs_costs_the_tenure_at_its_instant(place: Place) -> None:
    a = await holding(place, "db", "queue")
    a.want("queue", replace(TERMS, budget_us=5_000_000))
    renewed = trio.current_time()
    place.lose_replies("a")
    await trio.sleep(LIFE_SECONDS - 2.1)
    assert [type(standing) for standing in (a.standing(), a.standing("queue"))] == [Held, Held]
    assert 0 < a.tenures.remaining_seconds(a.lease("queue")) < 0.2
    await trio.sleep(4)
    times = {lease.name: at for at, lease, standing in a.changes if isinstance(standing, Lost)}
    assert times["db"] - renewed == pytest.approx(LIFE_SECONDS, abs=0.02)
    assert times["queue"] - renewed == pytest.approx(LIFE_SECONDS - 2, abs=0.02)
    assert a.standing() == a.told()[-1] == Lost(1, "deadline")
    assert a.tenures.remaining_seconds(a.lease("db")) == 0
    troubled = [standing for standing in a.told() if isinstance(standing, Held)]
    assert len(troubled) == 1
    assert "no answer within 4 s" in troubled[0].trouble


@played()
async def test_late_replies_reopen_nothing_and_the_session_is_kept_until_the_release(place: Place) -> None:
    a, b = await holding(place), place.site("b")
    b.want()
    place.lose_replies("a")
    await trio.sleep(LIFE_SECONDS + 0.5)
    place.join("a")
    await trio.sleep(10 * TTL)
    assert a.standing() == a.told()[-1] == Lost(1, "deadline")
    assert b.standing() == Standby("a", "held")
    await a.tenures.release(a.lease("db"), 1)
    await trio.sleep(0.1)
    assert isinstance(b.standing(), Held)
    assert a.standing() == Unasked()


@played()
async def test_what_was_lost_is_held_again_once_it_was_stopped(place: Place) -> None:
    a = await holding(place)
    place.cut_off("a")
    await trio.sleep(LIFE_SECONDS + 0.1)
    a.tenures.again(a.lease("db"))
    assert isinstance(a.standing(), Unasked)
    place.join("a")
    await trio.sleep(3)
    held = a.standing()
    assert isinstance(held, Held)
    assert (held.token, held.trouble) == (1, "")


@played()
async def test_nothing_is_lost_when_the_server_is_back_before_the_deadline(place: Place) -> None:
    a = await holding(place)
    place.server.crash()
    await trio.sleep(LIFE_SECONDS - 2)
    place.server.start()
    await trio.sleep(10 * TTL)
    told = a.told()
    assert [bool(standing.trouble) for standing in told if isinstance(standing, Held)] == [True, False]
    assert len(told) == 2


@played("memory")
async def test_a_server_that_has_forgotten_everything_ends_everything(place: Place) -> None:
    names = [f"lease-{number}" for number in range(20)]
    a = await holding(place, *names)
    place.server.crash()
    place.server.start()
    await trio.sleep(TTL / 3 + 1)
    lost = {(at, standing) for at, _, standing in a.changes if isinstance(standing, Lost)}
    assert len(lost) == 1, "all at once"
    assert lost.pop()[1] == Lost(1, "refused")
    assert len(a.changes) == len(names)
    a.tenures.again(a.lease("lease-7"))
    await trio.sleep(2)
    assert isinstance(a.standing("lease-7"), Held)
    assert a.standing("lease-8") == Lost(1, "refused")


@played()
async def test_a_session_that_has_expired_is_opened_anew(place: Place) -> None:
    a = await holding(place)
    place.cut_off("a")
    await trio.sleep(2 * TTL)
    assert a.standing() == Lost(1, "deadline")
    place.join("a")
    a.tenures.again(a.lease("db"))
    await trio.sleep(TTL)
    held = a.standing()
    assert isinstance(held, Held)
    assert (held.token, held.clean_handover) == (2, False)


@played()
async def test_a_tenure_that_is_ended_by_hand_is_lost_at_once(place: Place) -> None:
    a, b = await holding(place, "db", "queue"), place.site("b")
    b.want()
    await trio.sleep(1)
    await place.by_hand().release("team", "db", holder="a", fencing_token=1)
    await trio.sleep(0.05)
    assert a.told() == [Lost(1, "refused")]
    assert isinstance(b.standing(), Held)
    assert isinstance(a.standing("queue"), Held)
    a.tenures.again(a.lease("db"))
    await trio.sleep(0.05)
    assert a.standing() == Standby("b", "held")


@played()
async def test_with_the_watch_cut_off_it_is_found_within_two_heartbeats(place: Place) -> None:
    a = await holding(place)
    place.cut_off("a:watch")
    await trio.sleep(3 * TTL)
    assert a.changes == []
    ended = trio.current_time()
    await place.by_hand().release("team", "db", holder="a", fencing_token=1)
    await trio.sleep(TTL)
    [(at, _, standing)] = a.changes
    assert standing == Lost(1, "refused")
    assert at - ended <= 2 * TTL / 3
    # What was granted while the work may still run is kept for it, and given up with it.
    assert (await place.client().get_lease("team", "db")).fencing_token == 2
    await a.tenures.release(a.lease("db"), 1)
    lease = await place.client().get_lease("team", "db")
    assert (lease.state, lease.fencing_token) == ("free", 2)


@played()
async def test_what_is_at_least_once_goes_on_through_an_outage(place: Place) -> None:
    a = place.site("a")
    a.want(terms=SHARED)
    await trio.sleep(1)
    place.cut_off("a")
    await trio.sleep(3 * TTL)
    held = a.standing()
    assert isinstance(held, Held)
    assert held.token == 1
    assert held.trouble
    assert a.tenures.remaining_seconds(a.lease("db")) == float("inf")
    place.join("a")
    await trio.sleep(TTL)
    held = a.standing()
    assert isinstance(held, Held)
    assert (held.token, held.trouble) == (2, "")
    assert not [standing for standing in a.told() if isinstance(standing, Lost)]


@played("memory")
async def test_what_is_at_least_once_ends_when_it_is_refused(place: Place) -> None:
    a = place.site("a")
    a.want(terms=SHARED)
    await trio.sleep(1)
    place.server.crash()
    place.server.start()
    await trio.sleep(0.01)
    grabbed = await place.by_hand().acquire("team", "db", holder="grabber", ttl_seconds=60)
    assert grabbed.acquired
    await trio.sleep(TTL)
    assert a.standing() == Lost(1, "refused")


@played()
async def test_answers_that_take_almost_a_heartbeat_lose_nothing(place: Place) -> None:
    """The next renewal is due by then."""
    a = await holding(place)
    place.network.delays["s1", "a"] = 3.7
    await trio.sleep(10 * TTL)
    assert isinstance(a.standing(), Held)
    assert not [standing for standing in a.told() if isinstance(standing, Lost)]


@played()
async def test_a_session_that_an_admin_ends_takes_all_with_it_at_once(place: Place) -> None:
    names = [f"lease-{number}" for number in range(20)]
    a, b = await holding(place, *names), place.site("b")
    for name in names:
        b.want(name)
    await trio.sleep(1)
    [session] = [each async for each in place.client().list_sessions(holder="a")]
    ended = trio.current_time()
    await place.client().end_session(session.id)
    await trio.sleep(0.1)
    assert all(isinstance(b.standing(name), Held) for name in names)
    lost = {at for at, _, standing in a.changes if isinstance(standing, Lost)}
    assert len(a.changes) == len(names)
    assert max(lost) - ended < 0.05, "before the next heartbeat, for the watch tells it"
    for name in names:
        a.tenures.again(a.lease(name))
    await trio.sleep(TTL)
    assert all(a.standing(name) == Standby("b", "held") for name in names)


@played()
async def test_a_process_that_was_paused_finds_its_loss_before_anything_else(place: Place) -> None:
    a, b = await holding(place), place.site("b")
    b.want()
    await trio.sleep(1)
    a.host.pause()
    await trio.sleep(TTL + 1)
    assert isinstance(b.standing(), Held)
    a.host.resume()
    assert a.standing() == Lost(1, "deadline"), "by the clocks as they are now"
    await trio.sleep(0.1)
    assert a.told() == [Lost(1, "deadline")], "and it is told, though who asked knows it"


@played()
async def test_a_machine_that_slept_finds_its_loss_by_the_clock_that_went_on(place: Place) -> None:
    a = await holding(place)
    a.host.suspend()
    await trio.sleep(TTL + 1)
    a.host.resume()
    woken = trio.current_time()
    await trio.sleep(1.1)
    [(at, _, standing)] = a.changes
    assert isinstance(standing, Lost)
    assert at - woken <= 1.01


@played()
async def test_a_step_of_the_wall_clock_counts_against_the_holder(place: Place) -> None:
    a = await holding(place)
    a.host.clock.step_wall(LIFE_SECONDS - 1)
    assert a.tenures.remaining_seconds(a.lease("db")) < 1
    a.host.clock.step_wall(2)
    assert a.standing() == Lost(1, "deadline")
    a.host.clock.step_wall(-20)
    assert a.standing() == Lost(1, "deadline"), "what is lost stays lost"
    await trio.sleep(0.1)
    assert a.told() == [Lost(1, "deadline")]


@played()
async def test_news_that_is_older_than_the_tenure_ends_nothing(place: Place) -> None:
    a, b = place.site("a"), place.site("b")
    b.want()
    await trio.sleep(1)
    a.want()
    await trio.sleep(1)
    place.news_take_seconds = 2.0
    await b.tenures.release(b.lease("db"), 1)
    await trio.sleep(1)
    a.tenures.again(a.lease("db"))
    a.want(terms=replace(TERMS, lock_delay_seconds=1))  # asks before it hears of the release
    await trio.sleep(0.1)
    held = a.standing()
    assert isinstance(held, Held)
    await trio.sleep(2 * TTL)
    assert a.standing() == held
    assert len([standing for standing in a.told() if isinstance(standing, Held)]) == 1
