"""Errors: every way a call can fail, told apart by what the caller should do next.

A lease that somebody else holds is no error, and neither is a lost renewal: both are replies with `acquired`
false.
"""

from berth.core.holding import Loss
from berth.wire.shapes import AcquireReply


class BerthError(Exception):
    """The root of everything that the client raises on purpose; the text is for people.

    `server_defect`: the last word of a server was a 500, which is a defect of its own.
    """

    server_defect = False


class Misconfigured(BerthError):
    """The client cannot be made from these arguments. Correct what the text names; no server was asked."""


class ApiError(BerthError):
    """A server refused, and nothing was changed. Look at `code`; the same call will be refused again, unless
    `retry_after_seconds` says when it may not be.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int,
        code: str,
        request_id: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.code = code
        """For programs; empty when the server gave none."""
        self.request_id = request_id
        """What the server's log knows the call by; empty when it gave none."""
        self.retry_after_seconds = retry_after_seconds


class Invalid(ApiError):
    """400 or 413: no server will accept these arguments. Correct them."""


class NotAllowed(ApiError):
    """401 or 403: the key is not known, or may not do this. Use another key, holder or namespace."""


class NotFound(ApiError):
    """404: there is no such thing; with code `not_found`, a lease that was never used."""


class WrongAddress(ApiError):
    """404 for what every API server has: the base URL leads elsewhere. Correct it."""


class Conflict(ApiError):
    """409: the lease stands otherwise than the call supposed. Read it, then decide anew."""


class RevisionTooOld(ApiError):
    """410: the server cannot tell what happened since that revision, or did not give it. List again, and
    watch from there.
    """


class Unreachable(BerthError):
    """No server could do it, and nothing was changed. Call again later."""


class OutcomeUnknown(BerthError):
    """The change may have been made, or may yet be. Count neither on it nor on its absence: a holder keeps
    its old deadline. Read the lease; acquire, renew and release may be called again with the same arguments.
    """


class LeaseLost(BerthError):
    """The lease was lost while the work ran; the work has been stopped.

    `loss`: `refused` when the server said so, `deadline` when it could not be asked in time.
    """

    def __init__(self, what: str, loss: Loss) -> None:
        why = "the server says that it is over" if loss == "refused" else "it could not be renewed in time"
        super().__init__(f"lost {what}: {why}")
        self.loss = loss


class LeaseNotAcquired(BerthError):
    """The lease could not be had in time; `reply` is the last word of the server, if there was one."""

    def __init__(self, text: str, reply: AcquireReply | None) -> None:
        super().__init__(text)
        self.reply = reply
