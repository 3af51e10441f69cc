"""Several requests in one write come to the same as one write for each, but for the version."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from berth.core.in_turn import decide_in_turn
from berth.core.records import Session
from berth.core.requests import (
    Acquire,
    Acquired,
    EndFirst,
    Expire,
    ForceRelease,
    Outcome,
    Release,
    Renew,
    Renewed,
)
from tests.core.world import Core, World, commit, observe, step

HOLDERS = st.sampled_from("abc")
TTLS = st.integers(min_value=1, max_value=3)
TOKENS = st.integers(min_value=1, max_value=4)
TERMS = (
    st.sampled_from(["at-most-once", "at-least-once"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([0, 1]),
)
REQUESTS = st.one_of(
    st.builds(Acquire, HOLDERS, TTLS, st.none(), *TERMS),
    st.sampled_from("abc").flatmap(
        lambda one: st.builds(Acquire, st.just(one), st.just(0), st.just(one), *TERMS)
    ),
    st.builds(Renew, HOLDERS, TOKENS, TTLS),
    st.builds(Release, HOLDERS, TOKENS),
    st.builds(ForceRelease, TOKENS),
    st.just(Expire()),
)
SESSIONS = tuple(Session(one, 1, one, "", ttl_us=2, opened_at_us=0, mark=0) for one in "abc")


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(
    history=st.lists(st.tuples(REQUESTS, st.integers(min_value=0, max_value=2)), max_size=6),
    requests=st.lists(REQUESTS, min_size=1, max_size=6),
)
def test_one_write_for_several_requests_is_as_one_for_each(history, requests):
    world = World(sessions=SESSIONS)
    for request, ticks in history:
        world, _ = step(Core(), world, request)
        world = world._replace(now=world.now + ticks)

    write, turns = decide_in_turn(observe(world), requests)
    outcomes = [turn.outcome for turn in turns]
    at_once = world if write is None else commit(world, write)
    one_by_one, expected = _one_by_one(world, requests)

    assert [_without_version(outcome) for outcome in outcomes] == [_without_version(one) for one in expected]
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, Acquired):
            again = any(
                isinstance(later, Acquired | Renewed) and _token(later) == outcome.view.token
                for later in outcomes[place + 1 :]
            )
            assert outcome.version == (0 if again else write.version if write else None)
    assert at_once is not None, "one write over what was read"
    if at_once.record is None or one_by_one.record is None:
        assert at_once.record == one_by_one.record
    else:
        assert replace(at_once.record, version=0) == replace(one_by_one.record, version=0)


def _without_version(outcome: Outcome) -> Outcome:
    return replace(outcome, version=0) if isinstance(outcome, Acquired) else outcome


def _one_by_one(world: World, requests) -> tuple[World, list[Outcome]]:
    """Up to the first that has to wait for the end of a session."""
    outcomes: list[Outcome] = []
    for request in requests:
        world, outcome = step(Core(), world, request)
        outcomes.append(outcome)
        if isinstance(outcome, EndFirst):
            break
    return world, outcomes


def test_after_one_that_must_wait_the_rest_waits():
    world, _ = step(Core(), World(sessions=SESSIONS), Acquire("a", 0, "a"))
    late = observe(world._replace(now=3))
    write, turns = decide_in_turn(late, [Release("b", 7), Acquire("b", 1), Acquire("c", 1)])
    assert write is None
    assert [turn.outcome for turn in turns[1:]] == [EndFirst(("a",))]


def test_a_grant_is_taken_back_unless_its_holder_was_told_of_it_again():
    world, granted = step(Core(), World(), Acquire("a", 5))
    assert isinstance(granted, Acquired)
    kept, again = step(Core(), world, Acquire("a", 5))
    assert isinstance(again, Acquired)
    take_back = Release("a", 1, granted.version)
    assert step(Core(), kept, take_back)[0].record == kept.record
    after, _ = step(Core(), world, take_back)
    assert after.record is not None
    assert after.record.tenures == ()
    after, _ = step(Core(), kept, Release("a", 1, again.version))
    assert after.record is not None
    assert after.record.tenures == ()


def test_nobody_asks_nothing_is_written():
    assert decide_in_turn(observe(World()), []) == (None, [])


def _token(outcome: Acquired | Renewed) -> int:
    return outcome.view.token if isinstance(outcome, Acquired) else outcome.token
