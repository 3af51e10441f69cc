"""The gate: whether a request's `Berth-Fencing-Token` lets it in, and the reply when it does not.

Owns the judgement that both middlewares share. Knows neither ASGI nor WSGI.
"""

import json
from typing import NamedTuple

from berth.client.fencing.errors import StaleToken
from berth.client.fencing.marks import Marks
from berth.client.fencing.stamp import HEADER, Stamp, judged_lease


class Refusal(NamedTuple):
    """A reply to a request that the application never sees."""

    status: int
    code: str
    text: str

    @property
    def body(self) -> bytes:
        return json.dumps({"error": self.text, "code": self.code}).encode() + b"\n"

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Content-Type", "application/json"), ("Content-Length", str(len(self.body)))]


class Gate:
    """Lets in who holds `lease`, or is its newest known holder. Raises ValueError when it is no lease."""

    def __init__(self, lease: str, marks: Marks) -> None:
        self._lease = judged_lease(lease)
        self._marks = marks

    def read(self, values: list[str]) -> Stamp | Refusal:
        """The stamp in the header's values, of which there must be one."""
        if not values:
            text = f"header {HEADER} is missing: send {self._lease};TOKEN"
            return Refusal(400, "fencing_token_required", text)
        if len(values) > 1:
            return Refusal(400, "invalid_fencing_token", f"header {HEADER} is given more than once")
        try:
            stamp = Stamp.parse(values[0].strip(" \t"))
        except ValueError as fault:
            return Refusal(400, "invalid_fencing_token", f"header {HEADER}: {fault}")
        if stamp.lease != self._lease:
            text = f"header {HEADER} is of lease {stamp.lease}; here lease {self._lease} counts"
            return Refusal(400, "wrong_lease", text)
        return stamp

    def pass_(self, stamp: Stamp) -> Refusal | None:
        """None for a stamp that is not stale, after its token has been entered. May block."""
        highest = self._marks.raise_to(stamp)
        if highest <= stamp.token:
            return None
        return Refusal(409, "stale_token", str(StaleToken(stamp.lease, token=stamp.token, highest=highest)))
