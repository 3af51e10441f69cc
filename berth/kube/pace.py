"""A client's own limit on its requests: so many a second, and a burst.

Owns one bucket of tokens, on Trio's clock. Promises first come, first served. Does not look at the server:
what that says (429) is heard in `api`.
"""

import trio


class Pace:
    """`qps` requests a second in the long run, `burst` at once."""

    def __init__(self, qps: float, burst: int) -> None:
        self._qps = qps
        self._burst = float(burst)
        self._tokens = float(burst)
        self._filled_at = trio.current_time()

    def reserve(self) -> float:
        """Takes the next place; how many seconds it is away."""
        now = trio.current_time()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._qps)
        self._filled_at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self._qps)

    def give_back(self) -> None:
        """Gives up the place that was taken last."""
        self._tokens += 1
