"""One candidate's dealings with one Lease: look, claim, renew, release.

Owns what this process has seen of the record and what it has written. Every write carries a renewTime of its
own, and a record that carries it was ours; but what was not heard in time never counts for a deadline: only
the answer to a write does. Whether to lead, and how long, is `election`'s.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from berth.core.election import (
    ElectionRecord,
    Seen,
    Timing,
    claim,
    left_us,
    release,
    renewal,
    same_tenure,
    seen,
    standing,
)
from berth.core.holding import Reading
from berth.kube.api import KubeClient
from berth.kube.faults import AlreadyExists, Conflict, KubeFault, NotFound
from berth.kube.leases import new_lease, record_of, with_record
from berth.kube.objects import LEASES, Object, micro_time, version_of

ATTEMPTS_MAX = 16
"""Writes whose outcome was not heard; of more than these the oldest have long been settled."""

RENEW_TRIES = 4
RELEASE_TRIES = 3


class Win(NamedTuple):
    """A write of ours that is in the record: sent when, and the version that it made."""

    sent: Reading
    version: str


class Candidate:
    """`now` reads this machine's clocks."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing,
        now: Callable[[], Reading],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing
        self._now = now
        self._view: Seen | None = None
        self._lease: Object | None = None
        self._mine: ElectionRecord | None = None
        """Our newest write: made, or perhaps made."""

        self._attempts: deque[ElectionRecord] = deque(maxlen=ATTEMPTS_MAX)
        self._written_us = 0

    @property
    def transitions(self) -> int:
        """The count of our tenure."""
        assert self._mine is not None, "nothing has been claimed"
        return self._mine.transitions

    @property
    def leader(self) -> str:
        """Whom the record named when it was last seen; "" for nobody."""
        record = self._view.record if self._view else None
        return record.holder if record else ""

    def free_in_us(self) -> int:
        """How long until the record's time is over, as far as we have seen."""
        return left_us(self._view, self._now().boot_us) if self._view else 0

    async def campaign(self) -> Win | None:
        """Look, and claim it if it may be claimed. Raises KubeFault."""
        await self._look()
        assert self._view is not None
        found = self._view.record
        if found is not None and found.holder and found in self._attempts:
            # Ours after all. When it was sent is long ago; what counts from now is a renewal.
            record = renewal(found, self._instant())
        elif standing(self._view, self._now().boot_us) == "held":
            return None
        else:
            record = claim(self._view, self._identity, self._timing.lease_seconds, self._instant())
        try:
            return await self._write(record)
        except (AlreadyExists, Conflict, NotFound):
            return None

    async def renew(self) -> Win | None:
        """Write a new renewTime; None: it is ours no more.

        Raises KubeFault when that is not known.
        """
        assert self._mine is not None, "nothing has been claimed"
        for _ in range(RENEW_TRIES):
            try:
                return await self._write(renewal(self._mine, self._instant()))
            except (AlreadyExists, Conflict, NotFound):
                # Somebody changed the object around the record, or an earlier write had won after all.
                await self._look()
            if not self._still_ours():
                return None
        raise Conflict(f"the Lease {self._namespace}/{self._name} is changed by others all the time")

    async def release(self) -> bool:
        """Give it up, if it is still ours: whether it is free now."""
        for _ in range(RELEASE_TRIES):
            try:
                if self._mine is None or not self._still_ours():
                    return False
                await self._write(release(self._mine, self._instant()))
                return True
            except (AlreadyExists, Conflict, NotFound):
                try:
                    await self._look()
                except KubeFault:
                    return False
            except KubeFault:
                return False
        return False

    async def withdraw(self) -> None:
        """Give up a claim whose outcome was not heard, should it have won."""
        if not self._attempts:
            return
        try:
            await self._look()
        except KubeFault:
            return
        await self.release()

    def _still_ours(self) -> bool:
        record = self._view.record if self._view else None
        return self._mine is not None and same_tenure(self._mine, record)

    async def _look(self) -> None:
        try:
            lease = await self._client.get(
                LEASES, self._name, self._namespace, timeout_seconds=self._request_seconds()
            )
        except NotFound:
            lease = None
        self._saw(lease)

    def _saw(self, lease: Object | None) -> None:
        self._lease = lease
        record = record_of(lease) if lease else None
        self._view = seen(self._view, record, self._now().boot_us)

    async def _write(self, record: ElectionRecord) -> Win:
        sent = self._now()
        self._mine = record
        self._attempts.append(record)
        timeout_seconds = self._request_seconds()
        if self._lease is None:
            lease = with_record(new_lease(self._namespace, self._name), record)
            stored = await self._client.create(LEASES, lease, timeout_seconds=timeout_seconds)
        else:
            lease = with_record(self._lease, record)
            stored = await self._client.replace(LEASES, lease, timeout_seconds=timeout_seconds)
        self._saw(stored)
        return Win(sent, version_of(stored))

    def _request_seconds(self) -> float:
        return max(1.0, self._timing.renew_deadline_seconds / 2)

    def _instant(self) -> str:
        """The time for people, and never the same twice."""
        self._written_us = max(self._now().wall_us, self._written_us + 1)
        return micro_time(self._written_us)
