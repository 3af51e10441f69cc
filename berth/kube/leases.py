"""The Lease object as client-go writes it for leader election, and back.

Owns the mapping of `core.election`'s record. Promises that what it does not know in an object stays.
"""

from collections.abc import Mapping
from typing import Any

from berth.core.election import ElectionRecord
from berth.kube.objects import LEASES, Object, mapping, text


def record_of(lease: Mapping[str, Any]) -> ElectionRecord:
    spec = mapping(lease.get("spec"))
    return ElectionRecord(
        holder=text(spec.get("holderIdentity")),
        lease_seconds=_number(spec.get("leaseDurationSeconds")),
        acquired=text(spec.get("acquireTime")),
        renewed=text(spec.get("renewTime")),
        transitions=_number(spec.get("leaseTransitions")),
    )


def with_record(lease: Object, record: ElectionRecord) -> Object:
    """The object to put in the place of `lease`."""
    spec = {
        **mapping(lease.get("spec")),
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.lease_seconds,
        "acquireTime": record.acquired,
        "renewTime": record.renewed,
        "leaseTransitions": record.transitions,
    }
    return {**lease, "spec": spec}


def new_lease(namespace: str, name: str) -> Object:
    """An object that is not there yet, without a record."""
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": {"namespace": namespace, "name": name},
    }


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
