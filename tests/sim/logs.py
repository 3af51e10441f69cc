"""Logs: what the simulated servers log to."""

from typing import Any

from tests.sim.ledger import Ledger


class SimLogger:
    """A log that nobody reads, in which nothing may be an error."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def debug(self, msg: str, /, **fields: Any) -> None:
        pass

    info = warning = debug

    def error(self, msg: str, /, **fields: Any) -> None:
        self._ledger.fail(f"logged as an error: {msg} {fields}")
