"""Limits: how much one tenant may ask for, so that it leaves room for the others.

Owns the counts: requests in a second, with a lane of their own for what keeps leases alive; connections
that wait or watch; leases held. A limit of 0 is none. Promises that a tenant within its limits is never
refused for another's sake, and that renewals are not held up by anything else that their tenant does. Does
not know how a refusal is told.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct

from berth.core.ownership import Ownership
from berth.core.records import Observed
from berth.core.standing import live_views

BURST_SECONDS = 2.0
"""A tenant that was quiet may ask at once for what it may ask for in so long."""

TENANTS_MAX = 10_000

Lane = Literal["rate", "renew_rate"]
Kind = Literal["rate", "renew_rate", "waiting", "watching", "leases", "ttl"]


class LimitSettings(Struct, frozen=True):
    """Each of one tenant; 0: no limit. Rates are operations in a second."""

    rate: int = 0
    renew_rate: int = 0
    waiting: int = 0
    watching: int = 0
    leases: int = 0


class Rate:
    """A bucket for each tenant that holds `BURST_SECONDS` of its rate. `now_us` is the time."""

    def __init__(self, per_second: int, now_us: Callable[[], int]) -> None:
        self._per_second = per_second
        self._now_us = now_us
        self._full_at_us: OrderedDict[str, float] = OrderedDict()
        """When a tenant's bucket is full again, if nothing is taken; the least recently asked first."""

    def take(self, tenant: str) -> float | None:
        """Take one operation; None, or the seconds after which there is one again."""
        if not self._per_second:
            return None
        now_us = self._now_us()
        one_us = 1_000_000 / self._per_second
        full_at_us = max(self._full_at_us.get(tenant, 0.0), now_us) + one_us
        over_us = full_at_us - now_us - max(BURST_SECONDS * 1_000_000, one_us)
        if over_us > 0:
            return over_us / 1_000_000
        self._full_at_us[tenant] = full_at_us
        self._full_at_us.move_to_end(tenant)
        if len(self._full_at_us) > TENANTS_MAX:
            self._full_at_us.popitem(last=False)
        return None


class Places:
    """So many at a time for each tenant."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[str] = Counter()

    @contextmanager
    def one(self, tenant: str) -> Generator[bool]:
        """A place while the body runs, or False where there is none."""
        if self._limit and self._taken[tenant] >= self._limit:
            yield False
            return
        self._taken[tenant] += 1
        try:
            yield True
        finally:
            self._taken[tenant] -= 1
            if not self._taken[tenant]:
                del self._taken[tenant]

    def __len__(self) -> int:
        return self._taken.total()


class Holdings:
    """How many leases each tenant holds, as far as this server knows, and how many more it asks for."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()

    def note_found(self, observed: Observed) -> None:
        """What was held before this server looked."""
        for view in live_views(observed):
            self._held[_tenant_of(view.holder)] += 1

    def note(self, change: Ownership) -> None:
        tenant = _tenant_of(change.holder)
        self._held[tenant] += 1 if change.kind == "acquired" else -1
        if self._held[tenant] <= 0:
            del self._held[tenant]

    @contextmanager
    def asking(self, holders: Iterable[str]) -> Generator[list[bool]]:
        """Of each, in order, whether its tenant may hold one more; while the body runs they count as if
        they did.

        Who may not can still ask for what is his already.
        """
        may: list[bool] = []
        asked: Counter[str] = Counter()
        for holder in holders:
            tenant = _tenant_of(holder)
            count = self._held[tenant] + self._asked[tenant] + asked[tenant] if self._limit else -1
            may.append(count < self._limit)
            asked[tenant] += may[-1]
        self._asked += asked
        try:
            yield may
        finally:
            self._asked -= asked


def _tenant_of(holder: str) -> str:
    return holder.partition("/")[0]


class Limits:
    """All limits of one server. `refused` is told of each refusal, by its kind."""

    def __init__(
        self, settings: LimitSettings, *, now_us: Callable[[], int], refused: Callable[[Kind], None]
    ) -> None:
        self.rates: dict[Lane, Rate] = {
            "rate": Rate(settings.rate, now_us),
            "renew_rate": Rate(settings.renew_rate, now_us),
        }
        self.rated = bool(settings.rate or settings.renew_rate)
        """Whether there is any limit on rates."""
        self.waiting = Places(settings.waiting)
        self.watching = Places(settings.watching)
        self.holdings = Holdings(settings.leases)
        self.refused = refused
