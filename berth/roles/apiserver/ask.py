"""Ask: one request as the handlers see it, whatever framework carries it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from msgspec import Struct

from berth.core.names import Key
from berth.core.requests import Refused
from berth.roles.apiserver.auth import Identity, authorize
from berth.roles.apiserver.observe import Entry, label_of
from berth.wire import checks, routes
from berth.wire.problems import refusal

OutcomeT = TypeVar("OutcomeT")


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


Handler = Callable[[Ask], Awaitable[object]]


def told(ask: Ask, outcome: OutcomeT | Refused) -> OutcomeT:
    """The outcome, noted for log and metrics; a refusal is raised as the failure it is told as."""
    if isinstance(outcome, Refused):
        raise refusal(outcome)
    ask.entry.outcome = label_of(cast("Any", outcome))
    return outcome
