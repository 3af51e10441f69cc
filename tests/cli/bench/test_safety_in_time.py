"""The safety check over whole worlds: one lease, a network that delays and loses, and clocks that err.

A server that keeps its promise is never accused; one that takes leases away too early, or counts tokens anew,
always is.
"""

import heapq
from collections.abc import Callable
from itertools import count
from random import Random

import pytest

from berth.cli.bench.safety import Safety

S = 1_000_000
TTL = 10
CALLS = 400


class World:
    """Time, and a server for one lease. `life_us` is how long the server thinks that a ttl is."""

    def __init__(self, seed: int, life_us: int) -> None:
        self.rng = Random(seed)
        self.safety = Safety()
        self.now = 0
        self._life_us = life_us
        self._order = count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self.holder, self.token, self.expires = "", 0, -1

    def later(self, delay_us: int, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_us, next(self._order), event))

    def run(self) -> None:
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()

    def acquire(self, holder: str) -> int:
        """The token, or 0. It lives up to and including its last instant."""
        if self.now > self.expires:
            self.holder, self.token = holder, self.token + 1
        if self.holder != holder:
            return 0
        self.expires = self.now + self._life_us
        return self.token

    def renew(self, holder: str, token: int) -> int:
        live = (self.holder, self.token) == (holder, token) and self.now <= self.expires
        return self.acquire(holder) if live else 0

    def release(self, holder: str, token: int) -> None:
        if (self.holder, self.token) == (holder, token):
            self.expires = min(self.expires, self.now - 1)


class Party:
    """Makes one call after the other, whatever comes back."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._token = 0
        self._left = CALLS
        world.later(0, self._call)

    def _call(self) -> None:
        world, rng = self._world, self._world.rng
        self._left -= 1
        if not self._left:
            return
        sent, token = world.now, self._token
        verb = rng.choice(["renew", "renew", "renew", "release", "nothing"]) if token else "acquire"
        if verb == "release":
            world.safety.releasing("x", token, sent_us=sent)
            self._token = 0
        slow = 12 * S if rng.random() < 0.05 else S // 5
        lost = rng.random()

        def arrive() -> None:
            if verb == "acquire":
                got = world.acquire(self._name)
            elif verb == "renew":
                got = world.renew(self._name, token)
            else:
                got = 0
                if verb == "release":
                    world.release(self._name, token)
            if lost > 0.05:
                world.later(rng.randrange(slow), lambda: self._heard(verb, sent, token, got))

        if lost > 0.02:
            world.later(rng.randrange(slow), arrive)
        if lost <= 0.05:  # gives up on it; what it had, it may lose
            world.later(13 * S, self._call)

    def _heard(self, verb: str, sent: int, token: int, got: int) -> None:
        world = self._world
        if got:
            self._token = got
            world.safety.held("x", self._name, got, sent_us=sent, received_us=world.now, ttl_seconds=TTL)
        elif verb in ("renew", "release"):
            self._token = 0
            world.safety.over("x", token, received_us=world.now)
        world.later(world.rng.randrange(5 * S), self._call)


def played(seed: int, life_us: int) -> Safety:
    world = World(seed, life_us)
    for name in "ab":
        Party(world, name)
    world.run()
    assert world.safety.tenures > 20
    return world.safety


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("life_us", [TTL * S, TTL * S * 999 // 1000, TTL * S * 1001 // 1000, 2 * TTL * S])
def test_a_server_that_keeps_its_promise_is_never_accused(seed: int, life_us: int):
    assert played(seed, life_us).told == []


@pytest.mark.parametrize("seed", range(30))
def test_a_server_that_takes_leases_away_too_early_is_found(seed: int):
    assert any("two holders at once" in text for text in played(seed, TTL * S // 4).told)


@pytest.mark.parametrize("seed", range(10))
def test_a_server_that_forgets_its_tokens_is_found(seed: int, monkeypatch: pytest.MonkeyPatch):
    forgetful = World.acquire

    def acquire(world: World, holder: str) -> int:
        if world.now > world.expires and world.rng.random() < 0.2:
            world.token = 0
        return forgetful(world, holder)

    monkeypatch.setattr(World, "acquire", acquire)
    assert played(seed, TTL * S).told != []
