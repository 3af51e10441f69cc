"""The nemesis: what befalls replicas and their store, one thing after the other.

Owns the order and the length of faults, by a seed. Promises that each is over before the next begins, and
that everything runs again in the end.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

import trio

from tests.histories.backends import Backend, Fault
from tests.histories.replicas import Replica, Replicas

LONGER_THAN_A_TTL_SECONDS = (2.2, 3.5)
A_MOMENT_SECONDS = (0.1, 1.0)
STORE_SECONDS = ((0.3, 2.5), (4.5, 6.0))
"""Less than a server takes to give its store up, and more."""


class Nemesis:
    def __init__(
        self, replicas: Replicas, backend: Backend, rng: Random, told: Callable[[str], None]
    ) -> None:
        self.seen: Counter[str] = Counter()
        self._rng = rng
        self._replicas = replicas
        self._told = told
        self._faults: dict[str, Callable[[], Awaitable[None]]] = {
            "replica killed": self._kill,
            "replica stopped for longer than a ttl": self._pause,
            "replica drained": self._drain,
        }
        for name, fault in backend.faults.items():
            self._faults[name] = partial(self._befall, fault)

    async def run(self, until: float, pause_seconds: float) -> None:
        """All faults in a new order again and again, until then; what has begun is ended."""
        while True:
            faults = [*self._faults.items()]
            self._rng.shuffle(faults)
            for name, fault in faults:
                await trio.sleep(self._rng.uniform(0.5, 1.5) * pause_seconds)
                if trio.current_time() >= until:
                    return
                self._told(name)
                self.seen[name] += 1
                await fault()

    async def _kill(self) -> None:
        replica = self._one()
        await trio.to_thread.run_sync(replica.kill)
        await self._start_again(replica)

    async def _drain(self) -> None:
        replica = self._one()
        await trio.to_thread.run_sync(replica.drain)
        await self._start_again(replica)

    async def _pause(self) -> None:
        replica = self._one()
        replica.pause()
        try:
            await trio.sleep(self._rng.uniform(*LONGER_THAN_A_TTL_SECONDS))
        finally:
            replica.go_on()

    async def _befall(self, fault: Fault) -> None:
        await fault(self._rng.uniform(*self._rng.choice(STORE_SECONDS)))

    async def _start_again(self, replica: Replica) -> None:
        await trio.sleep(self._rng.uniform(*A_MOMENT_SECONDS))
        await trio.to_thread.run_sync(replica.start)

    def _one(self) -> Replica:
        return self._rng.choice(self._replicas.all)
