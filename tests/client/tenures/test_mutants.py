"""Mutants: rules of the holder's half, broken one by one: then two act under one lease, and not otherwise."""

from collections.abc import Callable
from functools import partial
from math import inf

import pytest
import trio
from msgspec.structs import replace

from berth.client.tenures.book import Book
from berth.client.tenures.entry import Entry
from berth.client.tenures.session import Session
from berth.core import holding
from berth.core.holding import Holding, Reading
from tests.client.tenures.operating import Site, operate, terms_of
from tests.sim.plan import MANY
from tests.sim.scenes import Scene, near, near_plan, one_by_one, turns
from tests.sim.world import World, simulate

KEY = MANY[0]
Break = Callable[[pytest.MonkeyPatch], None]


def two_sites(world: World, ttl_seconds: int) -> None:
    sites = [Site({KEY: terms_of(ttl_seconds)}, work_seconds=inf, stops_slowly=True) for _ in "ab"]
    near(world, *[partial(operate, site=site) for site in sites])


def cut_off(world: World, name: str) -> None:
    world.network.cut |= {(name, "s1"), ("s1", name)}


async def renewed(world: World, name: str, *, after: float) -> None:
    """Wait until the server has renewed the session of a site."""
    while not any(  # noqa: ASYNC110 - the ledger has no events of its own
        at > after and "/renew" in str(event) and f'"holder":"{name}"' in str(event)
        for at, event in world.ledger.events[-20:]
    ):
        await trio.sleep(0.01)


async def cut_off_after_a_slow_reply(world: World) -> None:
    """The replies to a take long; then a is cut off, and b takes over."""
    two_sites(world, 6)
    world.network.delays["s1", "a"] = 1.5
    world.nodes[0].start()
    await turns(world, 1)
    world.nodes[1].start()
    await renewed(world, "a", after=trio.current_time() + 6)
    await trio.sleep(1.55)
    cut_off(world, "a")
    await trio.sleep(14)


async def cut_off_with_slow_clocks(world: World) -> None:
    """As slow as clocks may be on a, as fast as they may be where expiry is judged, and a long ttl."""
    two_sites(world, 120)
    world.store_host.clock.set_rates(1.001, 1.001)
    world.hosts[1].clock.set_rates(0.999, 0.999)
    await one_by_one(world)
    await trio.sleep(0.5)
    cut_off(world, "a")
    await trio.sleep(130)


async def suspended_machine(world: World) -> None:
    """The machine of a sleeps longer than the ttl, and goes on cut off."""
    two_sites(world, 4)
    await one_by_one(world)
    host = world.nodes[0].host
    world.ledger.stood_still(host.process)
    host.suspend()
    await trio.sleep(6)
    cut_off(world, "a")
    world.ledger.went_on(host.process)
    host.resume()
    await trio.sleep(6)


def _from_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Book.renewed

    def renewed(self: Book, session: Session, _: Reading, *, confirm: bool) -> None:
        real(self, session, self.now(), confirm=confirm)

    monkeypatch.setattr(Book, "renewed", renewed)


def _without_time_for_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    left_us, held = Session.left_us, Entry.holding

    def holding_to_the_end(self: Entry) -> Holding | None:
        found = held(self)
        return None if found is None else replace(found, budget_us=0)

    monkeypatch.setattr(Session, "left_us", lambda self, _, now: left_us(self, 0, now))
    monkeypatch.setattr(Entry, "holding", holding_to_the_end)


def _without_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "lifetime_us", lambda ttl_us: ttl_us)


def _by_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "elapsed_us", lambda since, now: now.raw_us - since.raw_us)


MUTANTS: list[tuple[Break, Scene]] = [
    (_from_the_reply, cut_off_after_a_slow_reply),
    (_without_time_for_stopping, cut_off_after_a_slow_reply),
    (_without_drift, cut_off_with_slow_clocks),
    (_by_one_clock, suspended_machine),
]


def name(each: object) -> str:
    return getattr(each, "__name__", "").strip("_")


@pytest.mark.parametrize(("breach", "scene"), MUTANTS, ids=name)
def test_a_broken_rule_is_noticed(breach: Break, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    breach(monkeypatch)
    verdict = simulate(near_plan(), scene)
    assert verdict.ledger.violations
    assert " s: S1: " in verdict.ledger.violations[0]


@pytest.mark.parametrize("scene", {scene for _, scene in MUTANTS}, ids=name)
def test_the_unbroken_rule_stands_in_the_same_scene(scene: Scene) -> None:
    verdict = simulate(near_plan(), scene)
    assert verdict.ledger.violations == []
    assert verdict.ledger.tenures.total() >= 2, "the other had no turn"
