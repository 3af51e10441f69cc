"""Many leases kept and contended for under few sessions."""

from berth.client.tenures.calls import Calls
from berth.client.tenures.tenures import Tenures
from berth.client.tenures.terms import Held, LeaseId, Loss, Lost, Standby, Standing, Terms, Unasked

__all__ = ["Calls", "Held", "LeaseId", "Loss", "Lost", "Standby", "Standing", "Tenures", "Terms", "Unasked"]
