"""An elector that does as client-go does, for ours to meet: its algorithm, its timings, its record.

It looks at what it has itself observed, renews by the version it has cached, gives up when a round of
renewals has taken the renew deadline, and releases nothing.
"""

from random import Random

import trio

from berth.kube.api import KubeClient
from berth.kube.faults import KubeFault, NotFound
from berth.kube.objects import LEASES, Object, micro_time

LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0
JITTER_FACTOR = 1.2


class ClientGo:
    """`terms` are when it led, by Trio's clock."""

    def __init__(self, client: KubeClient, identity: str) -> None:
        self._client = client
        self._identity = identity
        self._rng = Random(identity)
        self._lease: Object | None = None
        self._observed: Object | None = None
        self._observed_at = 0.0
        self.terms: list[tuple[float, float]] = []

    async def campaign_for_ever(self) -> None:
        while True:
            while not await self._acquire_or_renew():  # noqa: ASYNC110 - it polls
                await trio.sleep(RETRY_SECONDS * (1 + JITTER_FACTOR * self._rng.random()))
            started = trio.current_time()
            try:
                await self._renew()
            finally:
                self.terms.append((started, trio.current_time()))

    async def _renew(self) -> None:
        while True:
            renewed = False
            with trio.move_on_after(RENEW_DEADLINE_SECONDS):
                while not await self._acquire_or_renew():  # noqa: ASYNC110 - it polls
                    await trio.sleep(RETRY_SECONDS)
                renewed = True
            if not renewed:
                return
            await trio.sleep(RETRY_SECONDS)

    async def _acquire_or_renew(self) -> bool:
        now = trio.current_time()
        try:
            if self._leads() and self._valid(now):
                try:
                    await self._update(now)
                    return True
                except KubeFault:
                    pass
            return await self._slowly(now)
        except KubeFault:
            return False

    async def _slowly(self, now: float) -> bool:
        try:
            self._lease = await self._client.get(LEASES, "boss", "default", timeout_seconds=5)
        except NotFound:
            made = {"metadata": {"name": "boss", "namespace": "default"}, "spec": self._spec(now, {})}
            self._observe(await self._client.create(LEASES, made, timeout_seconds=5))
            return True
        if self._lease["spec"] != self._observed:
            self._observe(self._lease)
        assert self._observed is not None
        if self._observed.get("holderIdentity") and self._valid(now) and not self._leads():
            return False
        await self._update(now)
        return True

    def _leads(self) -> bool:
        return self._observed is not None and self._observed.get("holderIdentity") == self._identity

    def _valid(self, now: float) -> bool:
        assert self._observed is not None
        return self._observed_at + self._observed.get("leaseDurationSeconds", 0) > now

    async def _update(self, now: float) -> None:
        assert self._lease is not None
        wanted = {**self._lease, "spec": self._spec(now, self._lease["spec"])}
        self._observe(await self._client.replace(LEASES, wanted, timeout_seconds=5))

    def _spec(self, now: float, old: Object) -> Object:
        instant = micro_time(round(now * 1_000_000))
        ours = old.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": old["acquireTime"] if ours else instant,
            "renewTime": instant,
            "leaseTransitions": old["leaseTransitions"] + (not ours) if old else 0,
        }

    def _observe(self, lease: Object) -> None:
        self._lease, self._observed = lease, lease["spec"]
        self._observed_at = trio.current_time()
