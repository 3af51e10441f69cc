"""Resuming: a process goes on with what the one before it has left, and loses nothing by it."""

import pytest
import trio
from msgspec.structs import replace

from berth.client.strays import LATE_SECONDS
from berth.client.tenures import Held, Lost, Standby, Unasked
from berth.client.tenures.keeping import ADOPTED_SECONDS
from berth.client.tenures.terms import RESUME_SECONDS
from tests.client.tenures.place import SHARED, TERMS, TTL, Place, Site, played

LONGER = replace(TERMS, ttl_seconds=24, heartbeat_seconds=8.0)


async def restarted(place: Place, *names: str, seconds: float = TTL / 2) -> Site:
    """A site whose process has been killed while it held these leases, with no other one yet."""
    a = place.site("a")
    for name in names or ("db",):
        a.want(name)
    await trio.sleep(1)
    a.crash()
    await trio.sleep(seconds)
    a.changes.clear()
    return a


@played()
async def test_within_the_ttl_the_next_process_holds_on_under_the_same_token(place: Place) -> None:
    names = [f"lease-{number}" for number in range(50)]
    a = await restarted(place, *names)
    b = place.site("b")
    for name in names:
        b.want(name)
    a.start()
    for name in names:
        a.want(name, recorded_token=1)
    assert a.standing("lease-7") == Unasked()
    assert a.tenures.remaining_seconds(a.lease("lease-7")) == pytest.approx(3, abs=0.02)
    await trio.sleep(5 * TTL)
    for name in names:
        [held] = a.told(name)
        assert isinstance(held, Held)
        assert (held.token, held.trouble) == (1, "")
    assert len(place.requests(text='/sessions {"holder":"a"')) == 1
    assert all(b.standing(name) == Standby("a", "held") for name in names)


@played()
async def test_the_deadline_counts_from_the_first_renewal_that_this_process_made(place: Place) -> None:
    a = await restarted(place)
    a.start()
    a.want(recorded_token=1)
    await trio.sleep(0.1)
    remaining = a.tenures.remaining_seconds(a.lease("db"))
    assert remaining == pytest.approx(11.976 - 3 - 0.1, abs=0.02)


@played()
async def test_of_several_sessions_those_are_gone_on_with_under_which_leases_are(place: Place) -> None:
    a = await restarted(place, "db", "queue")
    hand = place.by_hand()
    other = await hand.open_session(holder="a", ttl_seconds=TTL, instance="uid-a")
    longer = await hand.open_session(holder="a", ttl_seconds=24, instance="uid-a")
    unused = await hand.open_session(holder="a", ttl_seconds=TTL, instance="uid-a")
    stranger = await hand.open_session(holder="a", ttl_seconds=TTL, instance="uid-x")
    await hand.acquire("team", "mail", holder="a", session=other.id)
    await hand.acquire("team", "logs", holder="a", session=longer.id)
    await hand.acquire("team", "cron", holder="a", session=stranger.id)
    a.start()
    for name in ("db", "queue", "mail", "logs", "cron"):
        a.want(name, recorded_token=1)
    a.want("new")
    await trio.sleep(0.2)
    for name in ("db", "queue", "mail"):
        held = a.standing(name)
        assert isinstance(held, Held)
        assert (held.token, held.ttl_seconds) == (1, TTL)
    held = a.standing("logs")
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds) == (1, 24), "what is in effect"
    assert a.standing("cron") == Lost(1, "refused"), "another instance is another holder"
    first = (await hand.get_lease("team", "db")).session
    assert (await hand.get_lease("team", "new")).session == first
    await trio.sleep(3 * 24)
    assert {lease.name for _, lease, standing in a.changes if isinstance(standing, Lost)} == {"cron"}
    assert not (await hand.get_session(unused.id)).alive


@played()
async def test_a_ttl_that_was_changed_meanwhile_counts_with_the_next_tenure(place: Place) -> None:
    a = await restarted(place)
    a.start()
    a.want(terms=LONGER, recorded_token=1)
    await trio.sleep(3 * TTL)
    [held] = a.told()
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds) == (1, TTL)
    await a.tenures.release(a.lease("db"), 1)
    a.want(terms=LONGER)
    await trio.sleep(1)
    held = a.standing()
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds) == (2, 24)
    await trio.sleep(ADOPTED_SECONDS)
    since = trio.current_time()
    await trio.sleep(5 * 24)
    assert len(place.requests(since)) == 5 * 3, "the session before is not renewed any more"


@played()
async def test_a_recorded_token_that_is_somebody_elses_past_is_lost(place: Place) -> None:
    a, b = await restarted(place, "db", "queue", seconds=2 * TTL), place.site("b")
    b.want("db")
    await trio.sleep(0.5)
    a.start()
    a.want("db", recorded_token=1)
    a.want("queue", recorded_token=1)
    await trio.sleep(0.5)
    assert a.told("db") == [Lost(1, "refused")]
    assert a.told("queue") == [Lost(1, "refused")], "it is granted anew, by another token"
    await trio.sleep(TTL)
    a.tenures.again(a.lease("queue"))
    await trio.sleep(0.1)
    held = a.standing("queue")
    assert isinstance(held, Held)
    assert (held.token, held.clean_handover) == (2, False)


@played()
async def test_a_recorded_token_that_nobody_confirms_counts_for_a_short_while(place: Place) -> None:
    a = await restarted(place, "db")
    place.cut_off("a")
    a.start()
    a.want("db", recorded_token=1)
    a.want("slow", LONGER, recorded_token=4)
    a.want("shared", SHARED, recorded_token=5)
    began = trio.current_time()
    await trio.sleep(RESUME_SECONDS + 0.5)
    lost = {lease.name: (at - began, standing) for at, lease, standing in a.changes}
    assert lost["db"] == (pytest.approx(3, abs=0.02), Lost(1, "deadline"))
    assert lost["slow"] == (pytest.approx(RESUME_SECONDS, abs=0.02), Lost(4, "deadline"))
    assert "shared" not in lost
    assert a.tenures.remaining_seconds(a.lease("shared")) == float("inf")
    await trio.sleep(TTL)
    assert isinstance(a.standing("shared"), Unasked)
    place.join("a")
    await trio.sleep(TTL)
    assert a.standing("db") == Lost(1, "deadline"), "a late answer reopens nothing"
    assert isinstance(a.standing("shared"), Held)


@played()
async def test_a_recorded_token_counts_once(place: Place) -> None:
    a = place.site("a")
    a.want()
    await trio.sleep(1)
    await a.tenures.release(a.lease("db"), 1)
    a.want(recorded_token=1)
    assert a.standing() == Unasked()
    assert a.tenures.remaining_seconds(a.lease("db")) == float("inf")
    await trio.sleep(1)
    held = a.standing()
    assert isinstance(held, Held)
    assert held.token == 2


@played()
async def test_a_recorded_tenure_by_ttl_is_changed_over_with_nobody_in_between(place: Place) -> None:
    hand = place.by_hand()
    await hand.acquire("team", "db", holder="a", ttl_seconds=20)
    await hand.acquire("team", "queue", holder="a", ttl_seconds=20)
    b = place.site("b")
    b.want()
    await trio.sleep(1)
    a = place.site("a")
    a.want(recorded_token=1)
    a.want("queue", recorded_token=7)
    await trio.sleep(0.1)
    [held] = a.told()
    assert isinstance(held, Held)
    assert (held.token, held.ttl_seconds) == (2, TTL)
    assert a.told("queue") == [Lost(7, "refused")], "another process has it by now"
    await trio.sleep(40)
    assert a.standing() == held
    assert b.standing() == Standby("a", "held")


@played()
async def test_semantics_that_were_changed_meanwhile_are_asked_for_after_a_stop(place: Place) -> None:
    a = place.site("a")
    a.want()
    a.want("queue", SHARED)
    a.want("other")
    await trio.sleep(1)
    a.crash()
    a.start()
    a.want(terms=SHARED, recorded_token=1)
    a.want("queue", recorded_token=1)
    a.want("other", recorded_token=1)
    await trio.sleep(1)
    for name in ("db", "queue"):
        assert a.standing(name) == Lost(1, "refused")
        lease = await place.by_hand().get_lease("team", name)
        assert (lease.state, lease.fencing_token) == ("held", 1), "for what may run still"
        a.tenures.again(a.lease(name))
    await trio.sleep(1)
    held = [a.standing(name) for name in ("db", "queue", "other")]
    won = [(each.token, each.exclusive) for each in held if isinstance(each, Held)]
    assert won == [(2, False), (2, True), (1, True)]


@played()
async def test_what_nobody_wants_any_more_is_named_until_it_is_released(place: Place) -> None:
    a = await restarted(place, "db", "queue", "mail")
    hand = place.by_hand()
    stranger = await hand.open_session(holder="a", ttl_seconds=10 * TTL, instance="uid-x")
    await hand.acquire("team", "cron", holder="a", session=stranger.id)
    b = place.site("b")
    b.want("queue")
    b.want("logs")
    a.start()
    assert a.tenures.orphans() == {}
    a.want("db", recorded_token=1)
    await trio.sleep(5 * TTL)
    assert a.tenures.orphans() == {a.lease("queue"): 1, a.lease("mail"): 1}
    assert b.tenures.orphans() == {}
    a.want("mail", recorded_token=1)
    assert a.tenures.orphans() == {a.lease("queue"): 1}
    await a.tenures.release(a.lease("queue"), 1)
    assert a.tenures.orphans() == {}
    await trio.sleep(1)
    assert isinstance(b.standing("queue"), Held)
    await trio.sleep(LATE_SECONDS + 2)
    assert a.tenures.orphans() == {}
    assert isinstance(a.standing("mail"), Held)


@played()
async def test_what_nobody_wants_expires_with_a_session_that_nobody_needs(place: Place) -> None:
    a = await restarted(place, "db")
    a.start()
    a.want("other", LONGER)
    await trio.sleep(TTL)
    assert a.tenures.orphans() == {a.lease("db"): 1}
    await trio.sleep(ADOPTED_SECONDS + TTL)
    assert a.tenures.orphans() == {}
    assert (await place.by_hand().get_lease("team", "db")).state == "free"
