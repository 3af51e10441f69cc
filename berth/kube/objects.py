"""Kubernetes objects as they come: JSON objects, and what is read from any of them.

Owns how a resource is addressed, the metadata that every object has, and the two ways in which time is
written. Promises that an object which lacks a field reads as empty, never as an error. Knows no kinds.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import quote

from msgspec import Struct

Object = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)


class Name(NamedTuple):
    """What an object is found by among those of its resource; no namespace where the resource has none."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Resource(Struct, frozen=True):
    """A kind of object, and where its server keeps it. The core group is ""."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The raw path of the collection (of all namespaces without one), of an object or its subresource."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *filter(None, (name, subresource))]
        return "".join(f"/{quote(part, safe='')}" for part in parts)

    def called(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The object, for people: `deployments/scale team/web`."""
        whole = f"{self.plural}/{subresource}" if subresource else self.plural
        where = str(Name(namespace if self.namespaced else "", name)) if name else namespace
        return f"{whole} {where}".rstrip()


LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("", "v1", "events", "Event")
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)


def metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object's metadata; empty where it has none."""
    return mapping(obj.get("metadata"))


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def name_of(obj: Mapping[str, Any]) -> Name:
    found = metadata(obj)
    return Name(text(found.get("namespace")), text(found.get("name")))


def text(value: Any) -> str:
    """`value` if it is a text, else an empty one."""
    return value if isinstance(value, str) else ""


def uid_of(obj: Mapping[str, Any]) -> str:
    return text(metadata(obj).get("uid"))


def version_of(obj: Mapping[str, Any]) -> str:
    """The object's resourceVersion."""
    return text(metadata(obj).get("resourceVersion"))


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(metadata(obj).get("annotations"))


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(metadata(obj).get("labels"))


def controller_of(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference that says `controller: true`."""
    owners = metadata(obj).get("ownerReferences")
    for owner in owners if isinstance(owners, list) else ():
        if mapping(owner).get("controller") is True:
            return owner
    return None


def being_deleted(obj: Mapping[str, Any]) -> bool:
    return bool(metadata(obj).get("deletionTimestamp"))


def reference_to(obj: Mapping[str, Any]) -> Object:
    """The ObjectReference by which an Event says what it is about."""
    found = metadata(obj)
    fields = {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "namespace": found.get("namespace"),
        "name": found.get("name"),
        "uid": found.get("uid"),
        "resourceVersion": found.get("resourceVersion"),
    }
    return {key: value for key, value in fields.items() if value}


def newer(version: str, other: str) -> bool | None:
    """Whether one resourceVersion is newer than another of the same resource; None when that is not known.

    Kubernetes promises the order since 1.35, and every server that keeps its objects in etcd has it.
    """
    if version.isdecimal() and other.isdecimal():
        return int(version) > int(other)
    return None


def micro_time(at_us: int) -> str:
    """A MicroTime: exactly six fractional digits, which the API server insists on."""
    return f"{_written(at_us)}.{at_us % 1_000_000:06d}Z"


def second_time(at_us: int) -> str:
    """A Time: whole seconds."""
    return f"{_written(at_us)}Z"


def _written(at_us: int) -> str:
    return (_EPOCH + timedelta(seconds=at_us // 1_000_000)).isoformat()[:19]


def parsed_time(written: Any) -> int | None:
    """A Time or MicroTime in microseconds since 1970-01-01 UTC; None for what is neither."""
    found = _INSTANT.fullmatch(text(written))
    if found is None:
        return None
    date, clock, fraction, zone = found.groups()
    try:
        whole = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        since = whole - _EPOCH
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + int((fraction or "0").ljust(9, "0")[:6])
