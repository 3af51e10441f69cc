"""What goes wrong, on request: a script that the test API server plays before and after its own work."""

from dataclasses import dataclass
from typing import Literal

Happening = Literal["status", "hang", "hang after", "cut", "cut after"]


@dataclass
class Fault:
    """The next `times` requests of this kind ("" any) go wrong so.

    `hang`: no answer, nothing done; `hang after`: done, and no answer; `cut` and `cut after`: the connection
    breaks instead.
    """

    happening: Happening = "status"
    verb: str = ""
    plural: str = ""
    times: int = 1
    status: int = 500
    reason: str = "InternalError"
    message: str = "scripted"
    retry_after_seconds: int | None = None

    def meets(self, verb: str, plural: str) -> bool:
        return self.times > 0 and self.verb in {"", verb} and self.plural in {"", plural}


class Script:
    """The faults to come, in order."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def then(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        self._faults = []

    def next(self, verb: str, plural: str) -> Fault | None:
        for fault in self._faults:
            if fault.meets(verb, plural):
                fault.times -= 1
                self._faults = [left for left in self._faults if left.times]
                return fault
        return None
