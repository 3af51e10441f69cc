"""Ask: one request as the handlers see it, whatever framework carries it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from msgspec import Struct

from berth.core.names import Key
from berth.core.requests import Refused
from berth.roles.apiserver.auth import Identity, authorize
from berth.roles.apiserver.observe import Entry, label_of
from berth.service.asking import Origin
from berth.service.limits import Kind, Limits
from berth.wire import checks, routes
from berth.wire.problems import Code, Failure, refusal

OutcomeT = TypeVar("OutcomeT")

_CODES: dict[Kind, Code] = {
    "rate": "rate_limited",
    "renew_rate": "rate_limited",
    "waiting": "too_many_connections",
    "watching": "too_many_connections",
    "leases": "quota",
}


class Ask(Struct):
    """One request: who asks, the path's parts decoded, the query, and the body once it is wanted."""

    operation: routes.Operation
    identity: Identity
    entry: Entry
    parts: Mapping[str, str]
    query: Mapping[str, str]
    read_body: Callable[[], Awaitable[Any]]

    def authorize(self, holder: str | None = None) -> None:
        assert self.operation.role is not None
        authorize(self.identity, self.operation.role, holder)

    def key(self) -> Key:
        return checks.checked_key(self.parts["namespace"], self.parts["name"])

    def origin(self, reason: str = "") -> Origin:
        """Whom the audit log names."""
        return Origin(self.identity.tenant, self.entry.request_id, reason)


class Lines(Struct):
    """A reply that goes on: JSON lines as they come."""

    lines: AsyncIterator[bytes]


Handler = Callable[[Ask], Awaitable[object]]


def told(ask: Ask, outcome: OutcomeT | Refused) -> OutcomeT:
    """The outcome, noted for log and metrics; a refusal is raised as the failure it is told as."""
    if isinstance(outcome, Refused):
        raise refusal(outcome)
    ask.entry.outcome = label_of(cast("Any", outcome))
    return outcome


def note_bounds(limits: Limits, failure: Failure) -> None:
    """Count a ttl that was refused for its length."""
    if failure.code in ("ttl_too_large", "ttl_too_small"):
        limits.refused("ttl")


def limited(limits: Limits, kind: Kind, retry_after_seconds: float | None = None) -> Failure:
    """The failure for a tenant who is at a limit."""
    limits.refused(kind)
    return Failure(_CODES[kind], retry_after_seconds=retry_after_seconds)
