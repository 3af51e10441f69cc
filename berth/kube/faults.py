"""What a kube-apiserver refuses, and how it fails: a closed set, one class for each way to go on.

Owns the reading of a reply that is no success. Promises that a text holds no credential and is short. Does
not retry.
"""

from collections.abc import Mapping

import msgspec

from berth.kube.objects import mapping, text
from berth.runtime.http import Reply

TEXT_CHARACTERS = 500
RETRY_AFTER_SECONDS = 1.0
"""When the server says nothing."""

RETRY_AFTER_MAX_SECONDS = 60.0


class KubeFault(Exception):
    """The request was not answered by what it asked for. `outcome_known` says that nothing has changed."""

    outcome_known = True

    def __init__(self, told: str, *, status: int | None = None) -> None:
        super().__init__(told)
        self.status = status


class NotFound(KubeFault):
    """404: no such object, or no such resource."""


class AlreadyExists(KubeFault):
    """409 on create: an object of that name is there."""


class Conflict(KubeFault):
    """409: the object has changed, or a precondition does not hold. Read it again."""


class Gone(KubeFault):
    """410: the resourceVersion or the continue token is too old. List again."""


class Unauthorized(KubeFault):
    """401, also with fresh credentials."""


class Forbidden(KubeFault):
    """403: RBAC, an admission policy, or a namespace that is being deleted."""


class Invalid(KubeFault):
    """The request itself is wrong (400, 413, 415, 422 and the like); the same again will not do."""


class TooManyRequests(KubeFault):
    """429, from the server or from our own limit: nothing was done, come back later."""

    def __init__(self, told: str, *, retry_after_seconds: float, status: int | None = None) -> None:
        super().__init__(told, status=status)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(KubeFault):
    """No reply, a 5xx, or what no kube-apiserver says. A write may have been made, unless `outcome_known`."""

    def __init__(
        self,
        told: str,
        *,
        outcome_known: bool,
        retry_after_seconds: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(told, status=status)
        self.outcome_known = outcome_known
        self.retry_after_seconds = retry_after_seconds


_BY_STATUS: Mapping[int, type[KubeFault]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
}


def fault_of(reply: Reply, asked: str) -> KubeFault:
    """What a reply without success means; `asked` says in a few words what was asked for."""
    said = _status_object(reply.body)
    reason = text(said.get("reason"))
    message = text(said.get("message")) or f"the server answered with status {reply.status}"
    told = f"{asked}: {message}"[:TEXT_CHARACTERS]
    status = reply.status
    if status == 429:
        return TooManyRequests(told, retry_after_seconds=retry_after_seconds(reply), status=status)
    if status == 409 and reason == "AlreadyExists":
        return AlreadyExists(told, status=status)
    if status in _BY_STATUS:
        return _BY_STATUS[status](told, status=status)
    if 400 <= status < 500:
        return Invalid(told, status=status)
    retry_after = retry_after_seconds(reply) if "retry-after" in reply.headers else None
    return Unavailable(told, outcome_known=False, retry_after_seconds=retry_after, status=status)


def retry_after_seconds(reply: Reply) -> float:
    """What the server asks for, within reason. It speaks in whole seconds."""
    written = reply.headers.get("retry-after", "")
    asked = float(written) if written.isdecimal() and len(written) < 10 else RETRY_AFTER_SECONDS
    return min(asked, RETRY_AFTER_MAX_SECONDS)


def _status_object(body: bytes) -> Mapping[str, object]:
    try:
        return mapping(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
