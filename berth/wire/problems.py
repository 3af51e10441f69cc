"""Problems: every way a call can fail, in one table.

Owns the machine-readable codes with their status, the command line's exit code, the label of the outcome
metric, and the texts that the reference server's users know. A reply is `{"error", "code"}`, for a 500 also
`requestId`.
"""

from typing import Literal, assert_never

from msgspec import Struct

from berth.core.requests import Refused

Code = Literal[
    "body_too_large",
    "forbidden_holder",
    "forbidden_namespace",
    "forbidden_role",
    "held_by_session",
    "held_by_ttl",
    "internal",
    "invalid_body",
    "invalid_holder",
    "invalid_key",
    "invalid_name",
    "invalid_namespace",
    "invalid_token",
    "invalid_ttl",
    "method_not_allowed",
    "not_found",
    "not_holder",
    "outcome_unknown",
    "quarantine",
    "quota",
    "rate_limited",
    "revision_too_old",
    "semantics_mismatch",
    "session_ended",
    "session_holder_mismatch",
    "shutting_down",
    "stale_token",
    "store_unavailable",
    "token_exhausted",
    "too_many_connections",
    "ttl_and_session",
    "ttl_too_large",
    "ttl_too_small",
    "unauthenticated",
]

Label = Literal[
    "acquired",
    "held-by-other",
    "renewed",
    "released",
    "conflict",
    "unauthorized",
    "invalid-key",
    "error",
    "",
]


class Problem(Struct, frozen=True, gc=False):
    """How one code is told: HTTP status, text for people, exit code of the command line, outcome label."""

    status: int
    text: str
    exit_code: int
    label: Label = ""


EXIT_FAULT, EXIT_USAGE, EXIT_CONDITION, EXIT_DENIED, EXIT_UNREACHABLE = 1, 2, 3, 5, 6

PROBLEMS: dict[Code, Problem] = {
    "invalid_body": Problem(400, "invalid json body", EXIT_USAGE),
    "invalid_holder": Problem(400, "holder is required", EXIT_USAGE),
    "invalid_ttl": Problem(400, "ttlSeconds must be positive", EXIT_USAGE),
    "ttl_too_large": Problem(400, "ttlSeconds is too large", EXIT_USAGE),
    "ttl_too_small": Problem(400, "ttlSeconds is too small", EXIT_USAGE),
    "ttl_and_session": Problem(
        400, "give either ttlSeconds or session: a session has a ttl of its own", EXIT_USAGE
    ),
    "invalid_token": Problem(400, "fencingToken must be non-zero", EXIT_USAGE),
    "invalid_namespace": Problem(400, "invalid namespace", EXIT_USAGE, "invalid-key"),
    "invalid_name": Problem(400, "invalid name", EXIT_USAGE, "invalid-key"),
    "invalid_key": Problem(400, "invalid key", EXIT_USAGE, "invalid-key"),
    "session_holder_mismatch": Problem(400, "the session belongs to another holder", EXIT_USAGE),
    "body_too_large": Problem(413, "request body must be at most 4096 bytes", EXIT_USAGE),
    "unauthenticated": Problem(401, "unauthorized", EXIT_DENIED, "unauthorized"),
    "forbidden_namespace": Problem(403, "not authorized for this namespace", EXIT_DENIED),
    "forbidden_holder": Problem(403, "holder not authorized for this identity", EXIT_DENIED),
    "forbidden_role": Problem(403, "this identity's role does not allow the operation", EXIT_DENIED),
    "not_found": Problem(404, "not found", EXIT_CONDITION),
    "method_not_allowed": Problem(405, "method not allowed", EXIT_FAULT),
    "not_holder": Problem(409, "lease held by another identity or token", EXIT_CONDITION, "conflict"),
    "stale_token": Problem(
        409, "fencingToken is not the lease's current token; read the lease again", EXIT_CONDITION, "conflict"
    ),
    "semantics_mismatch": Problem(
        409,
        "the lease is held under other semantics; they change only while it is free",
        EXIT_CONDITION,
        "conflict",
    ),
    "session_ended": Problem(
        409, "the session has ended; open a new one and acquire again", EXIT_CONDITION, "conflict"
    ),
    "held_by_session": Problem(
        409, "the holder's tenure is under a session; renew that session instead", EXIT_CONDITION, "conflict"
    ),
    "held_by_ttl": Problem(
        409,
        "the holder's tenure is by ttl; release it before acquiring under a session",
        EXIT_CONDITION,
        "conflict",
    ),
    "revision_too_old": Problem(
        410, "the revision is not this server's, or too old; list again and watch from there", EXIT_CONDITION
    ),
    "rate_limited": Problem(429, "this tenant asks too often; try again later", EXIT_UNREACHABLE),
    "quota": Problem(429, "this tenant holds as many leases as it may; release some", EXIT_UNREACHABLE),
    "too_many_connections": Problem(
        429, "this tenant waits or watches on as many connections as it may; end some", EXIT_UNREACHABLE
    ),
    "quarantine": Problem(
        503,
        "no lease is granted until what was granted before the restart has expired",
        EXIT_UNREACHABLE,
        "error",
    ),
    "store_unavailable": Problem(
        503, "the store is unavailable and nothing was changed; try again", EXIT_UNREACHABLE, "error"
    ),
    "outcome_unknown": Problem(
        503,
        "the store did not confirm the change, which may have been made; read or try again",
        EXIT_UNREACHABLE,
        "error",
    ),
    "token_exhausted": Problem(
        503, "the lease has used its last fencing token; use another name", EXIT_UNREACHABLE, "error"
    ),
    "shutting_down": Problem(503, "the server is shutting down; try another", EXIT_UNREACHABLE),
    "internal": Problem(500, "internal error", EXIT_FAULT, "error"),
}


class Failure(Exception):
    """A call that ends in a problem. `text` replaces the table's where there is more to say."""

    def __init__(
        self,
        code: Code,
        text: str | None = None,
        *,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.code: Code = code
        self.problem = PROBLEMS[code]
        self.text = text or self.problem.text
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.text)


def refusal(refused: Refused) -> Failure:
    """The failure that a refusal of the core is told as."""
    match refused.reason:
        case (
            "held_by_session"
            | "held_by_ttl"
            | "not_found"
            | "not_holder"
            | "quarantine"
            | "semantics_mismatch"
            | "session_ended"
            | "session_holder_mismatch"
            | "stale_token"
            | "token_exhausted"
        ):
            after_us = refused.retry_after_us
            seconds = None if after_us is None else after_us / 1_000_000
            return Failure(refused.reason, retry_after_seconds=seconds)
        case _:
            assert_never(refused.reason)
