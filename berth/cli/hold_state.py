"""What the command under a lease is told: environment variables, and a file that follows the renewals.

Owns their names and forms. Promises that a reader of the file sees one whole state, and never a later end
than the holder itself goes by. Decides nothing: `berth.core.holding` does.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from berth.client import Held
from berth.runtime.clock import MICROSECONDS, Clock, boot_id


class StateFile:
    """The file of the leases that are held, in their order; readable by its owner only."""

    def __init__(self, path: Path, held: Sequence[Held], clock: Clock) -> None:
        self.path = path
        self._held = held
        self._clock = clock
        self._boot_id = boot_id()

    def write(self) -> None:
        """Put the state as it is now in the place of the old one. Raises OSError."""
        state = {"bootId": self._boot_id, "leases": [self._told(held) for held in self._held]}
        new = self.path.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            json.dump(state, opened, indent=2)
            opened.write("\n")
        new.replace(self.path)

    def _told(self, held: Held) -> dict[str, Any]:
        return {
            "namespace": held.namespace,
            "name": held.name,
            "holder": held.holder,
            "fencingToken": held.token,
            "mayActUntilBootUs": self._until_us(held),
        }

    def _until_us(self, held: Held) -> int | None:
        """The end as far as it is known; 0 once the lease is lost, None where only the server ends it."""
        if held.lost is not None:
            return 0
        if not held.holding.deadline:
            return None
        return self._clock.boot_us() + int(held.remaining() * MICROSECONDS)


def variables(held: Sequence[Held], state: StateFile) -> Mapping[str, str]:
    """What the environment of the command says of its leases."""
    return {
        "BERTH_LEASE": ",".join(f"{one.namespace}/{one.name}" for one in held),
        "BERTH_FENCING_TOKEN": ",".join(str(one.token) for one in held),
        "BERTH_STATE_FILE": str(state.path),
    }
