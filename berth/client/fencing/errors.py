"""Errors of fencing: why a write was not made. What a program got wrong itself is a ValueError."""

from berth.client.errors import BerthError


class StaleToken(BerthError):
    """A later tenure has been here: whoever sent `token` has lost the lease. Stop; do not try again.

    Inside a transaction, let it pass, so that the transaction is rolled back.
    """

    def __init__(self, lease: str, *, token: int, highest: int) -> None:
        super().__init__(f"fencing token {token} of lease {lease} is stale: {highest} has been seen")
        self.lease = lease
        self.token = token
        self.highest = highest
        """The highest token that the target has seen."""


class NotInTransaction(BerthError):
    """Each statement commits by itself, so the check would not hold until the write. Begin a transaction."""


class Contended(BerthError):
    """Others of the same tenure kept changing the object, and nothing was written. Let one of them write."""
