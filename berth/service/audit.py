"""Audit: one structured line for each change of who holds a lease, on a logger of its own.

Owns the words: who asked (tenant, request id), what happened, the holder and token that it happened to and,
for a take-over, those before. What ends by itself has nobody who asked. It is told of what has been
written, or has ended, and can refuse nothing.
"""

from berth.core.ownership import Ownership
from berth.runtime.log import Logger
from berth.service.asking import Origin


class Audit:
    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def tell(self, change: Ownership, origin: Origin) -> None:
        fields: dict[str, object] = {
            "lease": str(change.after.key),
            "holder": change.holder,
            "fencing_token": change.token,
        }
        if change.kind == "acquired":
            fields |= {
                "previous_holder": change.before_holder,
                "previous_fencing_token": change.before_token,
                "clean_handover": change.clean,
            }
        asked = {"tenant": origin.tenant, "request_id": origin.request_id, "reason": origin.reason}
        fields |= {name: text for name, text in asked.items() if text}
        write = self._logger.warning if change.kind == "forced" else self._logger.info
        write(f"lease.{change.kind}", **fields)
