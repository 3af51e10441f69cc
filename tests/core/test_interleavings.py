"""Several servers on one store: every interleaving of their reads and writes, and of time.

Each actor reads, decides, then writes with a compare-and-swap; a loser reads again. A server may have seen
less of an idle time than has passed (`lag`), never more. At every write it is judged that a tenure is taken
from nobody whose renewal could still be accepted, that no token is given twice, and that nobody is told of a
tenure that is not stored.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import pytest

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
    Request,
)
from berth.core.sessions import EndSession, RenewSession, SessionAlive, SessionOutcome, SessionRequest
from tests.core.rules import check_write
from tests.core.world import Core, World, commit, commit_session, observe, promise, step


class Actor(NamedTuple):
    """One request on its way through one server: about the lease, or about the `session` named."""

    request: Request | SessionRequest
    session: str = ""
    lag: int = 0
    read: World | None = None
    in_doubt: tuple[str, ...] = ()
    """The sessions that it has yet to end, one write each, before it asks again."""
    outcome: Outcome | SessionOutcome | None = None


class Moment(NamedTuple):
    world: World
    actors: tuple[Actor, ...]
    ticks: int
    """How much time may yet pass."""


class Scene(NamedTuple):
    name: str
    world: World
    actors: tuple[Actor, ...]
    ticks: int = 2


def moments(core: Core, scene: Scene) -> Iterator[Moment]:
    """Every moment of every interleaving of `scene`. Raises AssertionError where a write breaks a rule."""
    start = Moment(scene.world, scene.actors, scene.ticks)
    seen, frontier = {start}, deque([start])
    while frontier:
        moment = frontier.popleft()
        yield moment
        for after in _next_moments(core, moment):
            if after not in seen:
                seen.add(after)
                frontier.append(after)


def _next_moments(core: Core, moment: Moment) -> Iterator[Moment]:
    if moment.ticks:
        world = moment.world._replace(now=moment.world.now + 1)
        yield moment._replace(world=world, ticks=moment.ticks - 1)
    for index, actor in enumerate(moment.actors):
        if actor.outcome is None:
            world, moved = _move(core, moment.world, actor)
            actors = (*moment.actors[:index], moved, *moment.actors[index + 1 :])
            yield moment._replace(world=world, actors=actors)


def _move(core: Core, world: World, actor: Actor) -> tuple[World, Actor]:
    """The next read or write of `actor`, and no more."""
    if actor.read is None:
        return world, actor._replace(read=world)
    if actor.in_doubt:
        world, _ = _write_session(core, world, actor, actor.in_doubt[0], EndSession("expired"))
        rest = actor.in_doubt[1:]
        return world, actor._replace(in_doubt=rest, read=actor.read if rest else None)
    if isinstance(actor.request, SessionRequest):
        world, outcome = _write_session(core, world, actor, actor.session, actor.request)
    else:
        world, outcome = _write(core, world, actor, actor.request)
    if isinstance(outcome, EndFirst):
        return world, actor._replace(in_doubt=outcome.sessions)
    return world, actor._replace(read=None, outcome=outcome)


def _write(core: Core, world: World, actor: Actor, request: Request) -> tuple[World, Outcome | None]:
    assert actor.read is not None
    decision = core.decide(observe(actor.read, actor.lag), request)
    if decision.write is None:
        return world, decision.outcome
    after = commit(world, decision.write)
    if after is None:
        return world, None
    after = promise(after, request, decision.outcome, actor.read.now)
    check_write(world, request, decision.outcome, after)
    return after, decision.outcome


def _write_session(
    core: Core, world: World, actor: Actor, session: str, request: SessionRequest
) -> tuple[World, SessionOutcome | None]:
    assert actor.read is not None
    seen = observe(actor.read, actor.lag).sessions.get(session)
    decision = core.decide_session(seen, actor.read.now, request)
    if decision.write is None:
        return world, decision.outcome
    after = commit_session(world, decision.write)
    if after is None:
        return world, None
    before = world.session(session)
    assert before is not None
    assert before.ended is None, "an ended session was written again"
    return after, decision.outcome


def _held(request: Acquire, idle: int) -> World:
    """A world whose lease was granted to `request`, `idle` ago; its sessions a, b and c are as old."""
    sessions = tuple(Session(one, 1, one, "", ttl_us=2, opened_at_us=0, mark=0) for one in "abc")
    world, outcome = step(Core(), World(sessions=sessions), request)
    assert isinstance(outcome, Acquired)
    return world._replace(now=idle)


_SHARED = Acquire("b", 0, "b", "at-least-once", 2)

SCENES = [
    Scene(
        "two takers, and the renewal of the holder by a server that saw less",
        _held(Acquire("a", 2), idle=2),
        (Actor(Acquire("b", 2)), Actor(Acquire("c", 2)), Actor(Renew("a", 1, 1), lag=2)),
    ),
    Scene(
        "two takers, and the renewal of the session by a server that saw less",
        _held(Acquire("a", 0, "a"), idle=2),
        (Actor(Acquire("b", 2)), Actor(Acquire("c", 2)), Actor(RenewSession(), "a", lag=2)),
    ),
    Scene(
        "a taker under a session of its own that others take for expired",
        _held(Acquire("a", 0, "a"), idle=2),
        (
            Actor(Acquire("b", 0, "b"), lag=2),
            Actor(EndSession("expired"), "b"),
            Actor(RenewSession(), "a", lag=2),
        ),
    ),
    Scene(
        "a taker, and the holder that comes back and gives up its session",
        _held(Acquire("a", 0, "a"), idle=2),
        (Actor(Acquire("b", 2)), Actor(Acquire("a", 0, "a"), lag=2), Actor(EndSession("clean"), "a")),
    ),
    Scene(
        "a taker, the sweeper, and the release of the holder, sent twice",
        _held(Acquire("a", 0, "a"), idle=2),
        (Actor(Acquire("b", 2)), Actor(Expire()), Actor(Release("a", 1)), Actor(Release("a", 1))),
    ),
    Scene(
        "a taker, a forced release, and a renewal",
        _held(Acquire("a", 2), idle=1),
        (Actor(Acquire("b", 2)), Actor(ForceRelease(1)), Actor(Renew("a", 1, 2)), Actor(Acquire("a", 1))),
    ),
    Scene(
        "the last place of a shared lease, while a session is in doubt",
        step(Core(), _held(Acquire("a", 0, "a", "at-least-once", 2), idle=1), _SHARED)[0]._replace(now=2),
        (
            Actor(Acquire("c", 2, None, "at-least-once", 2)),
            Actor(RenewSession(), "a", lag=1),
            Actor(Expire()),
        ),
    ),
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_no_interleaving_breaks_a_rule(scene: Scene):
    ends = 0
    for moment in moments(Core(), scene):
        views = [actor.outcome.view for actor in moment.actors if isinstance(actor.outcome, Acquired)]
        assert len({view.token for view in views}) == len({(view.token, view.holder) for view in views})
        ends += all(actor.outcome is not None for actor in moment.actors)
    assert ends > 1, "the actors do get in each other's way"


@pytest.mark.parametrize("scene", SCENES[1:2], ids=lambda scene: scene.name)
def test_of_a_renewal_and_a_takeover_each_wins_in_some_order(scene: Scene):
    outcomes = {
        tuple(type(actor.outcome) for actor in moment.actors)
        for moment in moments(Core(), scene)
        if all(actor.outcome is not None for actor in moment.actors)
    }
    assert any(SessionAlive in kinds for kinds in outcomes)
    assert any(Acquired in kinds for kinds in outcomes)
    assert not any(SessionAlive in kinds and Acquired in kinds for kinds in outcomes)
