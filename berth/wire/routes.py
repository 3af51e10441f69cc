"""Routes: the operations of the lease API, in one table.

The server registers what is here, the client calls what is here, and the OpenAPI document describes it, so
that the three cannot differ.
"""

from typing import Literal

from msgspec import Struct

from berth.wire.problems import Code
from berth.wire.shapes import (
    AcquireBody,
    AcquireReply,
    BatchBody,
    BatchReply,
    ForceReleaseBody,
    ForceReleaseReply,
    LeaseList,
    LeaseObject,
    ReleaseBody,
    RenewBody,
    Role,
    SessionBody,
    SessionList,
    SessionObject,
    SessionRenewBody,
    VerifyBody,
    VerifyReply,
    VersionReply,
    WhoamiReply,
)

BODY_MAX_BYTES = 4096
BATCH_MAX_BYTES = 2 * 1024 * 1024
BATCH_MAX = 5_000
WAIT_MAX_SECONDS = 60
BOOKMARK_SECONDS = 15.0
LIST_LIMIT_DEFAULT = 500
LIST_LIMIT_MAX = 1000


class Query(Struct, frozen=True):
    name: str
    type: Literal["boolean", "integer", "string"]
    summary: str


class Operation(Struct, frozen=True):
    """One operation. `role` is the least role that may call it; None: anybody, without a key.

    `status` is the success; `reply` None means no body, or plain text where `text` says so; with it go the
    `text_failures`, as plain. One that `streams` answers with JSON lines when it is asked to watch.
    """

    id: str
    method: Literal["DELETE", "GET", "POST"]
    path: str
    summary: str
    role: Role | None
    body: type[Struct] | None = None
    reply: type[Struct] | None = None
    status: int = 200
    text: bool = False
    text_failures: tuple[int, ...] = ()
    query: tuple[Query, ...] = ()
    codes: tuple[Code, ...] = ()
    body_max_bytes: int = BODY_MAX_BYTES
    streams: bool = False

    @property
    def route(self) -> str:
        """The label that logs and metrics know the operation by."""
        return f"{self.method} {self.path}"


_LEASES = "/v1alpha1/namespaces/{namespace}/leases"
_LEASE = _LEASES + "/{name}"
_SESSIONS = "/v1alpha1/sessions"
_SESSION = _SESSIONS + "/{id}"
_LIMITED: tuple[Code, ...] = ("rate_limited",)
_KEY: tuple[Code, ...] = ("invalid_namespace", "invalid_name", "invalid_key")
_BODY: tuple[Code, ...] = ("invalid_body", "body_too_large", *_KEY)
_STORE: tuple[Code, ...] = ("store_unavailable", "internal")
_WRITE: tuple[Code, ...] = (*_STORE, "outcome_unknown")
_TTL: tuple[Code, ...] = ("invalid_ttl", "ttl_too_large", "ttl_too_small")
_HOLDER: tuple[Code, ...] = ("invalid_holder", "forbidden_namespace", "forbidden_holder", "forbidden_role")
_PAGE = (
    Query("limit", "integer", f"Items a page, 1 to {LIST_LIMIT_MAX}; {LIST_LIMIT_DEFAULT} by default"),
    Query("continue", "string", "The `continue` of the page before"),
)
_WATCH = (
    Query("watch", "boolean", "Changes of ownership as they happen, as JSON lines, instead of a page"),
    Query("revision", "string", "With watch: the `revision` after which it begins; from now without it"),
)
_LIST_CODES: tuple[Code, ...] = (
    "invalid_body",
    "forbidden_namespace",
    "revision_too_old",
    "too_many_connections",
    "shutting_down",
    *_STORE,
    *_LIMITED,
)

ACQUIRE = Operation(
    "acquire",
    "POST",
    f"{_LEASE}/acquire",
    "Take the lease or, as its live holder, keep it",
    "holder",
    AcquireBody,
    AcquireReply,
    codes=(
        *_BODY,
        *_HOLDER,
        *_TTL,
        *_WRITE,
        *_LIMITED,
        "quota",
        "too_many_connections",
        "shutting_down",
        "semantics_mismatch",
        "ttl_and_session",
        "session_holder_mismatch",
        "session_ended",
        "held_by_session",
        "held_by_ttl",
        "quarantine",
        "token_exhausted",
    ),
)
RENEW = Operation(
    "renew",
    "POST",
    f"{_LEASE}/renew",
    "Keep a lease that is held; a renewal that comes too late is refused with `acquired` false",
    "holder",
    RenewBody,
    AcquireReply,
    codes=(*_BODY, *_HOLDER, *_TTL, "invalid_token", *_WRITE, *_LIMITED, "held_by_session"),
)
RELEASE = Operation(
    "release",
    "POST",
    f"{_LEASE}/release",
    "Give the lease up; releasing what is free succeeds",
    "holder",
    ReleaseBody,
    None,
    204,
    codes=(*_BODY, *_HOLDER, "invalid_token", *_WRITE, *_LIMITED, "not_holder"),
)
BATCH = Operation(
    "batch",
    "POST",
    "/v1alpha1/leases:batch",
    f"Up to {BATCH_MAX} acquires, renewals and releases in one; each has its own result",
    "reader",
    BatchBody,
    BatchReply,
    codes=("invalid_body", "body_too_large"),
    body_max_bytes=BATCH_MAX_BYTES,
)
VERIFY = Operation(
    "verify",
    "POST",
    f"{_LEASE}/verify",
    "Ask whether a fencing token is current (advisory: time passes after the reply)",
    "reader",
    VerifyBody,
    VerifyReply,
    codes=(*_BODY, "invalid_token", "invalid_holder", "forbidden_namespace", *_STORE, *_LIMITED),
)
FORCE_RELEASE = Operation(
    "force-release",
    "POST",
    f"{_LEASE}/force-release",
    "End the tenure under a token at once, though its holder may still act",
    "admin",
    ForceReleaseBody,
    ForceReleaseReply,
    codes=(
        *_BODY,
        "invalid_token",
        "forbidden_namespace",
        "forbidden_role",
        *_WRITE,
        *_LIMITED,
        "not_found",
        "stale_token",
        "held_by_session",
    ),
)
GET = Operation(
    "get",
    "GET",
    _LEASE,
    "One lease",
    "reader",
    None,
    LeaseObject,
    codes=(*_KEY, "forbidden_namespace", "not_found", *_STORE, *_LIMITED),
)
LIST = Operation(
    "list",
    "GET",
    _LEASES,
    "The leases of a namespace, free ones included; or, watching, their changes",
    "reader",
    None,
    LeaseList,
    query=(*_PAGE, *_WATCH),
    codes=("invalid_namespace", *_LIST_CODES),
    streams=True,
)
LIST_ALL = Operation(
    "list-all",
    "GET",
    "/v1alpha1/leases",
    "The leases of all namespaces, free ones included; or, watching, their changes",
    "reader",
    None,
    LeaseList,
    query=(*_PAGE, *_WATCH),
    codes=_LIST_CODES,
    streams=True,
)
OPEN_SESSION = Operation(
    "open-session",
    "POST",
    _SESSIONS,
    "Open a session: one sign of life for any number of leases",
    "holder",
    SessionBody,
    SessionObject,
    201,
    codes=("invalid_body", "body_too_large", *_HOLDER, *_TTL, *_WRITE, *_LIMITED),
)
RENEW_SESSION = Operation(
    "renew-session",
    "POST",
    f"{_SESSION}/renew",
    "Keep a session and all leases under it; one that is over answers with `alive` false",
    "holder",
    SessionRenewBody,
    SessionObject,
    codes=("invalid_body", "body_too_large", "forbidden_holder", "forbidden_role", *_WRITE, *_LIMITED),
)
END_SESSION = Operation(
    "end-session",
    "DELETE",
    _SESSION,
    "End a session and free all leases under it; also when it is over already",
    "holder",
    None,
    None,
    204,
    codes=("forbidden_holder", "forbidden_role", *_WRITE, *_LIMITED),
)
GET_SESSION = Operation(
    "get-session",
    "GET",
    _SESSION,
    "One session",
    "reader",
    None,
    SessionObject,
    codes=("not_found", *_STORE, *_LIMITED),
)
LIST_SESSIONS = Operation(
    "list-sessions",
    "GET",
    _SESSIONS,
    "The sessions, those that are over included",
    "reader",
    None,
    SessionList,
    query=(
        Query("holder", "string", "Only this holder's"),
        Query("instance", "string", "Only this instance's"),
        *_PAGE,
    ),
    codes=("invalid_body", *_STORE, *_LIMITED),
)
WHOAMI = Operation(
    "whoami",
    "GET",
    "/v1alpha1/whoami",
    "Whom the server takes the caller for",
    "reader",
    None,
    WhoamiReply,
    codes=_LIMITED,
)
VERSION = Operation("version", "GET", "/version", "What the server runs", None, None, VersionReply)
OPENAPI = Operation("openapi", "GET", "/openapi.json", "This document", None)
HEALTHZ = Operation("healthz", "GET", "/healthz", "Alive; depends on nothing", None, text=True)
LIVEZ = Operation("livez", "GET", "/livez", "Alive; depends on nothing", None, text=True)
READYZ = Operation(
    "readyz", "GET", "/readyz", "Ready: the store can be written to", None, text=True, text_failures=(503,)
)

OPERATIONS = (
    ACQUIRE,
    RENEW,
    RELEASE,
    BATCH,
    VERIFY,
    FORCE_RELEASE,
    GET,
    LIST,
    LIST_ALL,
    OPEN_SESSION,
    RENEW_SESSION,
    END_SESSION,
    GET_SESSION,
    LIST_SESSIONS,
    WHOAMI,
    VERSION,
    OPENAPI,
    HEALTHZ,
    LIVEZ,
    READYZ,
)
