"""Shapes: the JSON bodies of the lease API, in and out.

Owns the field names and their order. Requests refuse unknown keys; a missing key and `null` are the same and
reach the field checks as the zero value. Instants are RFC 3339 texts in UTC; the zero instant is
`0001-01-01T00:00:00Z`. `…Seconds` are seconds, in replies with up to six decimal places.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Semantics = Literal["at-most-once", "at-least-once"]
Role = Literal["reader", "holder", "admin"]


class _Body(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", gc=False):
    pass


class AcquireBody(_Body, frozen=True):
    """`holder` and one of `ttlSeconds` and `session` are required.

    `maxHolders` is for at-least-once only; absent: 1,000. With `waitSeconds` the reply comes when the
    lease is granted, or when that time is over.
    """

    holder: str | None = None
    ttl_seconds: Int32 | None = None
    session: str | None = None
    semantics: Semantics | None = None
    max_holders: Int32 | None = None
    lock_delay_seconds: Int32 | None = None
    wait_seconds: Int32 | None = None


class RenewBody(_Body, frozen=True):
    holder: str | None = None
    fencing_token: Int32 | None = None
    ttl_seconds: Int32 | None = None


class ReleaseBody(_Body, frozen=True):
    holder: str | None = None
    fencing_token: Int32 | None = None


class BatchAcquire(_Body, frozen=True, tag_field="op", tag="acquire"):
    """An acquire among others; it does not wait."""

    namespace: str = ""
    name: str = ""
    holder: str | None = None
    ttl_seconds: Int32 | None = None
    session: str | None = None
    semantics: Semantics | None = None
    max_holders: Int32 | None = None
    lock_delay_seconds: Int32 | None = None


class BatchRenew(_Body, frozen=True, tag_field="op", tag="renew"):
    namespace: str = ""
    name: str = ""
    holder: str | None = None
    fencing_token: Int32 | None = None
    ttl_seconds: Int32 | None = None


class BatchRelease(_Body, frozen=True, tag_field="op", tag="release"):
    namespace: str = ""
    name: str = ""
    holder: str | None = None
    fencing_token: Int32 | None = None


BatchOperation = BatchAcquire | BatchRenew | BatchRelease


class BatchBody(_Body, frozen=True):
    """At most 5,000 operations. Those on one lease act in order; each is judged by itself."""

    operations: list[BatchOperation]


class VerifyBody(_Body, frozen=True):
    """Without `holder` the token alone is looked at."""

    fencing_token: Int32 | None = None
    holder: str | None = None


class ForceReleaseBody(_Body, frozen=True):
    """The current token, so that nobody else's tenure is ended; the reason goes to the audit log."""

    fencing_token: Int32 | None = None
    reason: str | None = None


class SessionBody(_Body, frozen=True):
    """Another `instance` of a holder is another holder."""

    holder: str | None = None
    ttl_seconds: Int32 | None = None
    instance: str | None = None


class SessionRenewBody(_Body, frozen=True):
    """Nothing: the path says it all."""


class _Reply(Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    pass


class HolderObject(_Reply, frozen=True):
    """One tenure of a lease."""

    holder: str
    fencing_token: int
    acquired_at: str
    expires_at: str
    remaining_seconds: float
    session: str = ""


class AcquireReply(_Reply, frozen=True):
    """What acquire and renew answer. Held by somebody else is no error: `acquired` is false.

    `reason` is held, lock_delay, quarantine or waiters; a newer server may have others. `waitPosition` is
    told when a wait ended without the lease: 1 is next.
    """

    acquired: bool
    expires_at: str
    acquired_at: str
    holder: str = ""
    fencing_token: int = 0
    remaining_seconds: float | UnsetType = UNSET
    clean_handover: bool | UnsetType = UNSET
    session: str = ""
    holders: tuple[HolderObject, ...] = ()
    reason: str = ""
    available_after_seconds: float | UnsetType = UNSET
    wait_position: int | UnsetType = UNSET


class BatchResult(_Reply, frozen=True):
    """What one operation of a batch came to: its status, and what the single call would have answered."""

    status: int
    acquired: bool | UnsetType = UNSET
    expires_at: str = ""
    acquired_at: str = ""
    holder: str = ""
    fencing_token: int = 0
    remaining_seconds: float | UnsetType = UNSET
    clean_handover: bool | UnsetType = UNSET
    session: str = ""
    holders: tuple[HolderObject, ...] = ()
    reason: str = ""
    available_after_seconds: float | UnsetType = UNSET
    error: str = ""
    code: str = ""


class BatchReply(_Reply, frozen=True):
    """One result for each operation, in their order."""

    results: list[BatchResult]


class LeaseObject(_Reply, frozen=True):
    """A lease as anybody may see it. The top-level tenure fields are the newest live tenure's."""

    namespace: str
    name: str
    state: Literal["held", "free"]
    semantics: Semantics
    fencing_token: int
    holders: tuple[HolderObject, ...]
    max_holders: int | UnsetType = UNSET
    holder: str = ""
    acquired_at: str = ""
    expires_at: str = ""
    remaining_seconds: float | UnsetType = UNSET
    session: str = ""
    available_after_seconds: float | UnsetType = UNSET


class LeaseList(_Reply, frozen=True):
    """A page of leases, ordered by namespace and name. `continue` asks for the next; absent at the end."""

    items: list[LeaseObject]
    revision: str
    continue_: str = ""


class WatchEvent(_Reply, frozen=True):
    """One line of a watch: a change of ownership with the lease after it, or a bookmark without one."""

    type: Literal["acquired", "released", "expired", "forced", "bookmark"]
    revision: str
    object: LeaseObject | UnsetType = UNSET


class SessionObject(_Reply, frozen=True):
    """A session. One that is over has `alive` false and a `reason`: ended, expired or unknown.

    A session opened without an instance has an empty one.
    """

    id: str
    alive: bool
    holder: str = ""
    instance: str | UnsetType = UNSET
    ttl_seconds: int | UnsetType = UNSET
    expires_at: str = ""
    remaining_seconds: float | UnsetType = UNSET
    reason: str = ""


class SessionList(_Reply, frozen=True):
    """A page of sessions, in the order of their ids. `continue` asks for the next; absent at the end."""

    items: list[SessionObject]
    continue_: str = ""


class VerifyReply(_Reply, frozen=True):
    """Whether the token is current, and the highest ever issued. Advisory: time passes after the reply."""

    current: bool
    fencing_token: int


class ForcedTenure(_Reply, frozen=True):
    holder: str
    fencing_token: int


class ForceReleaseReply(_Reply, frozen=True):
    """Whose tenure was ended, and for how long it may still act on it."""

    released: ForcedTenure
    may_act_for_seconds: float


class WhoamiReply(Struct, frozen=True, rename="camel", gc=False):
    tenant: str
    role: Role
    auth_mode: str


class VersionReply(Struct, frozen=True, rename="camel", gc=False):
    version: str
    commit: str
    python: str


class ErrorReply(_Reply, frozen=True):
    """Every error. `code` is for programs, `error` for people."""

    error: str
    code: str
    request_id: str = ""
