"""Nodes: machines on which actors run, and come again after a crash as new processes."""

from collections.abc import Awaitable, Callable
from random import Random

import trio

from tests.sim.actors import Actor
from tests.sim.hosts import Host
from tests.sim.ledger import Ledger, innermost
from tests.sim.network import Network

Role = Callable[[Actor], Awaitable[None]]
"""What an actor does once; it is done again and again."""


class Node:
    """One machine and what runs on it."""

    def __init__(
        self,
        host: Host,
        roles: list[Role],
        *,
        network: Network,
        ledger: Ledger,
        rng: Random,
        urls: list[str],
        steady: bool,
        nursery: trio.Nursery,
    ) -> None:
        self.host = host
        self._roles = roles
        self._network = network
        self._ledger = ledger
        self._rng = rng
        self._urls = urls
        self._steady = steady
        self._nursery = nursery
        self._actor: Actor | None = None
        self._leaving = False
        self._running = 0
        self.done = trio.Event()
        """Set when it has left."""

    def start(self) -> None:
        self._ledger.note(self.host.name, "starts")
        urls = self._rng.sample(self._urls, len(self._urls))
        self._actor = Actor(
            self.host,
            network=self._network,
            ledger=self._ledger,
            rng=self._rng,
            urls=urls,
            steady=self._steady,
        )
        self._running = len(self._roles)
        for role in self._roles:
            self.host.process.spawn(self._nursery, self._play, self._actor, role)
        if self._leaving:
            self._actor.leaving.set()

    def crash(self) -> None:
        self.host.crash()

    def leave(self) -> None:
        """Stop what runs and begin nothing new."""
        self._leaving = True
        assert self._actor is not None
        self._actor.leaving.set()

    async def _play(self, actor: Actor, role: Role) -> None:
        try:
            await actor.again_and_again(lambda: role(actor))
        except* Exception as defects:  # noqa: BLE001 - no call may raise anything else
            self._ledger.fail(f"a defect ends a node: {innermost(defects)!r}")
        if actor is self._actor:
            self._running -= 1
            if not self._running:
                self.done.set()
