"""Many leases kept and contended for under few sessions."""

from berth.client.tenures.alive import Kept, keep_alive
from berth.client.tenures.calls import Calls
from berth.client.tenures.tenures import Tenures
from berth.client.tenures.terms import Held, LeaseId, Loss, Lost, Standby, Standing, Terms, Unasked

__all__ = [
    "Calls", "Held", "Kept", "LeaseId", "Loss", "Lost", "Standby", "Standing", "Tenures", "Terms", "Unasked",
    "keep_alive",
]  # fmt: skip
