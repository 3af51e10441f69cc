"""Stamps: a lease and a fencing token in one text, `default/payments;7`, as headers and metadata carry it.

Owns the form, and what a lease's key and a token may be. Promises that a stamp is valid, and that there is
one text for it.
"""

import re
from typing import NamedTuple, Self

from berth.core.names import Key, key_problem, name_problem, namespace_problem, shown

HEADER = "Berth-Fencing-Token"
TOKEN_MAX = 2**31 - 1

_TOKEN = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


class Stamp(NamedTuple):
    """Whose write this is: a tenure of a lease. Make one with `of` or `parse`, which judge it."""

    lease: str
    """Namespace and name, as in `default/payments`."""
    token: int

    def __str__(self) -> str:
        return f"{self.lease};{self.token}"

    @classmethod
    def of(cls, lease: str, token: int) -> Self:
        """Raises ValueError when this is no lease's key or no token, TypeError when the token is no int."""
        if type(token) is not int:
            raise TypeError(f"a fencing token is an int, got {type(token).__name__}")
        if not 1 <= token <= TOKEN_MAX:
            raise ValueError(f"a fencing token must be from 1 to {TOKEN_MAX}, got {token}")
        return cls(judged_lease(lease), token)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The stamp that `str` gave as `text`. Raises ValueError."""
        lease, semicolon, token = text.rpartition(";")
        if not semicolon or not _TOKEN.fullmatch(token):
            raise ValueError(f"{shown(text)} is no fencing token: must be NAMESPACE/NAME;TOKEN")
        return cls.of(lease, int(token))


def judged_lease(lease: str) -> str:
    """`lease`, which is NAMESPACE/NAME. Raises ValueError."""
    namespace, slash, name = lease.partition("/")
    if not slash:
        raise ValueError(f"{shown(lease)} is no lease: must be NAMESPACE/NAME")
    key = Key(namespace, name)
    problem = namespace_problem(namespace) or name_problem(name) or key_problem(key)
    if problem:
        raise ValueError(problem)
    return lease
