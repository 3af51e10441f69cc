"""Releases: those of which nobody knows whether they were, or will be, carried out.

Owns what is remembered of them. A release that is late ends its tenure whenever it arrives, also after the
same holder has asked again and was told that it still holds: under the same token, which the late release
names.
"""

from collections import OrderedDict

REMEMBERED_MAX = 10_000

Tenure = tuple[str, str, str]
"""Namespace and name of the lease, and the holder."""


class Releases:
    """The newest token of each tenure whose release is in doubt."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[Tenure, int] = OrderedDict()

    def begin(self, tenure: Tenure, token: int) -> None:
        """It is about to be sent: from now on it may arrive."""
        self._tokens[tenure] = token
        self._tokens.move_to_end(tenure)
        if len(self._tokens) > REMEMBERED_MAX:
            self._tokens.popitem(last=False)

    def end(self, tenure: Tenure, token: int) -> None:
        """The server has answered: under this token nothing is held any more."""
        if self._tokens.get(tenure) == token:
            del self._tokens[tenure]

    def in_doubt(self, tenure: Tenure, token: int) -> bool:
        """Whether a release of this token may yet arrive."""
        return self._tokens.get(tenure) == token
