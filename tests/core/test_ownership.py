"""Ownership: what is told of each way in which a lease changes hands, and of what changes nothing."""

from msgspec.structs import replace

from berth.core.in_turn import decide_in_turn
from berth.core.ownership import ended_by_now, ownership
from berth.core.records import Session
from berth.core.requests import Acquire, Expire, ForceRelease, Release, Renew, Request
from tests.core.world import World, commit, observe


def tell(world: World, *requests: Request) -> tuple[World, list[tuple[str, str, int]]]:
    """The world after the requests, asked in one write, and what was told."""
    write, turns = decide_in_turn(observe(world), requests)
    told = [(each.kind, each.holder, each.token) for turn in turns for each in ownership(*turn)]
    after = world if write is None else commit(world, write)
    assert after is not None
    return after, told


def later(world: World, ticks: int) -> World:
    return world._replace(now=world.now + ticks)


def test_an_acquire_is_told_once_and_keeping_it_is_not():
    world, told = tell(World(), Acquire("a", 5))
    assert told == [("acquired", "a", 1)]
    world, told = tell(world, Acquire("a", 5), Renew("a", 1, 5), Acquire("b", 5))
    assert told == []


def test_a_release_and_the_next_holder_in_one_write_are_two_changes_in_order():
    world, _ = tell(World(), Acquire("a", 5))
    world, told = tell(world, Release("a", 1), Acquire("b", 5))
    assert told == [("released", "a", 1), ("acquired", "b", 2)]


def test_a_change_shows_the_lease_as_it_was_then():
    _, turns = decide_in_turn(observe(World()), [Acquire("a", 5), Release("a", 1), Acquire("b", 5)])
    shown = [each.after.record for turn in turns for each in ownership(*turn)]
    assert [[tenure.holder for tenure in record.tenures] for record in shown if record] == [["a"], [], ["b"]]


def test_a_take_over_tells_whom_it_follows_and_how():
    world, _ = tell(World(), Acquire("a", 5))
    _, turns = decide_in_turn(observe(later(world, 6)), [Acquire("b", 5)])
    expired, acquired = ownership(*turns[0])
    assert (expired.kind, expired.holder, expired.token) == ("expired", "a", 1)
    assert (acquired.before_holder, acquired.before_token, acquired.clean) == ("a", 1, False)


def test_force_and_expiry_say_so():
    world, _ = tell(World(), Acquire("a", 5))
    assert tell(world, ForceRelease(1))[1] == [("forced", "a", 1)]
    assert tell(later(world, 6), Expire())[1] == [("expired", "a", 1)]
    assert tell(later(world, 6), Release("a", 1))[1] == [("released", "a", 1)]


def test_what_ended_by_itself_is_told_by_how_its_session_ended():
    session = Session("s", 1, "a", "", ttl_us=5, opened_at_us=0, mark=0)
    world, _ = tell(World(sessions=(session,)), Acquire("a", 0, "s"))
    assert list(ended_by_now(observe(world), ())) == []
    for how, kind in (("clean", "released"), ("forced", "forced"), ("expired", "expired")):
        over = world._replace(sessions=(replace(session, ended=how, ended_at_us=1),))
        (change,) = ended_by_now(observe(over), ())
        assert (change.kind, change.holder, change.token) == (kind, "a", 1)
        assert list(ended_by_now(observe(over), {1})) == [], "what was told is not told again"
    (change,) = ended_by_now(observe(later(world, 6)), ())
    assert change.kind == "expired", "a session that nobody has ended yet, and nobody can renew"
