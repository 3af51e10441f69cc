"""Lease objects: how a lease and a session stand in a Kubernetes cluster, and back.

Owns the mapping. A lease of one exclusive tenure by ttl, or of none, is in the fields and annotations of
skaphos/berth, which mean what they mean there. What these have no room for is JSON in an annotation, and
belongs to the version that it names: a server that knows only the others may have written since. Sessions
are objects of their own. Promises that every record comes back as it was, that each renewal is written with a
mark that no other has, and that what others have put into an object's metadata stays.

Marks here are what is in the object: instants of the writers' wall clocks, told apart and never compared.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from berth.core.names import Key
from berth.core.records import Ended, Record, Semantics, Session, SessionEnd, Tenure
from berth.kube.objects import (
    LEASES,
    Object,
    annotations_of,
    labels_of,
    mapping,
    metadata,
    micro_time,
    parsed_time,
    text,
)

PREFIX = "berth.skaphos.io/"
MANAGED_BY = PREFIX + "managed-by"
LEASE, SESSION = "berth", "berth-session"
SELECTOR = f"{MANAGED_BY} in ({LEASE},{SESSION})"

NAMESPACE, NAME, VERSION = PREFIX + "tenant-namespace", PREFIX + "lease-name", PREFIX + "version"
MORE = PREFIX + "more"
TRIAL = "berth-trial"
FLOOR = "berth-token-floor"
"""Made by hand after a restore, of a lease's label: no token up to its leaseTransitions is given any more."""

SECOND_US = 1_000_000

ANNOTATIONS_MAX_BYTES = 256 * 1024
"""What a cluster takes for one object, names and values."""

ROOM_BYTES = ANNOTATIONS_MAX_BYTES - 16 * 1024
"""What is left is for others' annotations, so that no renewal is ever refused for want of room."""

T = TypeVar("T")


class StoredTenure(Struct, frozen=True, gc=False, array_like=True):
    """A tenure as it is written: many may share one object's room."""

    holder: str
    token: int
    acquired_at_us: int
    ttl_us: int
    session: str | None
    mark: int | None


class LeaseMore(Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """What a lease has beside the fields of skaphos/berth. `tenures` None: the one in the fields, if any."""

    version: int
    semantics: Semantics = "at-most-once"
    max_holders: int | None = None
    lock_delay_us: int = 0
    ended: Ended | None = None
    tenures: tuple[StoredTenure, ...] | None = None


class SessionMore(Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    """What a session is, but for its holder and its mark."""

    id: str
    instance: str
    ttl_us: int
    opened_at_us: int
    ended: SessionEnd | None = None
    ended_at_us: int | None = None


class NotOurs(Exception):
    """The object cannot be read as a lease or a session of ours; the text says why."""


class NoRoom(Exception):
    """The lease has more holders than an object has room for."""


_encode = msgspec.json.Encoder().encode


def lease_name(key: Key) -> str:
    """No namespace has a dot, so no two keys share a name."""
    return f"{key.namespace}.{key.name}"


def session_name(session: str) -> str:
    """Without a dot, so that it is no lease's; an id may be any text."""
    return "session-" + hashlib.sha256(session.encode()).hexdigest()[:40]


def object_name(target: Key | str) -> str:
    """Of a lease's key, or a session's id."""
    return lease_name(target) if isinstance(target, Key) else session_name(target)


def token_floor_in(obj: Mapping[str, Any]) -> int | None:
    """The tokens that are not given any more, if the object is what says so."""
    if metadata(obj).get("name") != FLOOR:
        return None
    return _number(mapping(obj.get("spec")).get("leaseTransitions"))


def is_session(obj: Mapping[str, Any]) -> bool:
    """By its name: anybody may touch a label."""
    return "." not in text(metadata(obj).get("name"))


def is_labelled(obj: Mapping[str, Any]) -> bool:
    """Whether the watch tells of it."""
    return labels_of(obj).get(MANAGED_BY) in (LEASE, SESSION)


def is_ours(obj: Mapping[str, Any]) -> bool:
    """Whether it can be read as a lease or a session."""
    try:
        session_in(obj) if is_session(obj) else lease_in(obj)
    except NotOurs:
        return False
    return True


def labelled(obj: Object) -> Object:
    """The object with the label that it should have. Raises NotOurs."""
    session_in(obj) if is_session(obj) else lease_in(obj)
    if is_labelled(obj):
        return obj
    label = {MANAGED_BY: SESSION if is_session(obj) else LEASE}
    about = {**metadata(obj), "labels": {**labels_of(obj), **label}}
    return {**obj, "metadata": about}


def version_in(obj: Mapping[str, Any]) -> int:
    """Ours, not the cluster's."""
    written = text(annotations_of(obj).get(VERSION))
    return max(1, int(written)) if written.isdecimal() and len(written) < 19 else 1


def lease_object(record: Record, base: Object | None, namespace: str, at_us: int) -> Object:
    """The object to write in the place of `base`. What has no mark gets `at_us`, or an instant after it that
    no mark of `base` is. Raises NoRoom.
    """
    kept = {tenure.token: tenure.mark for tenure in lease_in(base).tenures} if base is not None else {}
    while at_us in kept.values():
        at_us += 1
    tenures = tuple(
        [
            replace(tenure, mark=at_us if tenure.mark is None else kept.get(tenure.token, at_us))
            for tenure in record.tenures
        ]
    )
    spec = {
        "holderIdentity": tenures[-1].holder if tenures else "",
        "leaseTransitions": record.token,
        **_times(tenures, record),
    }
    fits = _fits(tenures, record)
    more = LeaseMore(
        record.version,
        record.semantics,
        record.max_holders,
        record.lock_delay_us,
        record.ended,
        None if fits else tuple([StoredTenure(*astuple(tenure)) for tenure in tenures]),
    )
    plain = fits and tenures and more == LeaseMore(record.version)
    annotations = {
        NAMESPACE: record.key.namespace,
        NAME: record.key.name,
        VERSION: str(record.version),
        MORE: None if plain else _encode(more).decode(),
    }
    obj = _object(base, namespace, lease_name(record.key), LEASE, annotations, spec)
    if tenures and tenures[-1].token not in kept and _annotated_bytes(obj) > ROOM_BYTES:
        raise NoRoom
    return obj


def session_object(session: Session, base: Object | None, namespace: str, at_us: int) -> Object:
    """The object to write in the place of `base`. Without a mark it gets `at_us`, or another than `base`."""
    kept_us = session_in(base).mark if base is not None else None
    mark = at_us + (at_us == kept_us) if session.mark is None or kept_us is None else kept_us
    more = SessionMore(
        session.id,
        session.instance,
        session.ttl_us,
        session.opened_at_us,
        session.ended,
        session.ended_at_us,
    )
    spec = {
        "holderIdentity": session.holder,
        "leaseDurationSeconds": max(1, -(-session.ttl_us // SECOND_US)),
        "acquireTime": micro_time(session.opened_at_us),
        "renewTime": micro_time(mark),
    }
    annotations = {VERSION: str(session.version), MORE: _encode(more).decode()}
    return _object(base, namespace, session_name(session.id), SESSION, annotations, spec)


def trial_object(namespace: str) -> Object:
    """Neither a lease nor a session, to see whether one could be made."""
    about = {"namespace": namespace, "name": TRIAL, "labels": {MANAGED_BY: LEASE}}
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": about, "spec": {}}


def lease_in(obj: Mapping[str, Any]) -> Record:
    """The record that the object is, with the marks that are in it. Raises NotOurs."""
    written, spec = annotations_of(obj), mapping(obj.get("spec"))
    key = Key(text(written.get(NAMESPACE)), text(written.get(NAME)))
    if not key.namespace or not key.name or lease_name(key) != text(metadata(obj).get("name")):
        name = text(metadata(obj).get("name"))
        raise NotOurs(f"the Lease object {name} is in the way: its annotations are not berth's")
    version, token = version_in(obj), _number(spec.get("leaseTransitions"))
    acquired_at_us = parsed_time(spec.get("acquireTime")) or 0
    renewed_at_us = parsed_time(spec.get("renewTime")) or 0
    tenures: tuple[Tenure, ...] = ()
    ttl_seconds, holder = _number(spec.get("leaseDurationSeconds")), text(spec.get("holderIdentity"))
    if holder:
        tenures = (Tenure(holder, token, acquired_at_us, ttl_seconds * SECOND_US, None, renewed_at_us),)
    more = _more(obj, LeaseMore)
    if more is None or more.version != version:
        # Freed by a server that does not tell how: nobody may rely on a clean end.
        ended = None if tenures else Ended(acquired_at_us, renewed_at_us, False)
        return Record(key, version, token, tenures, ended=ended)
    if more.tenures is not None:
        tenures = tuple([Tenure(*astuple(tenure)) for tenure in more.tenures])
    terms = (more.semantics, more.max_holders, more.lock_delay_us, more.ended)
    return Record(key, version, token, tenures, *terms)


def session_in(obj: Mapping[str, Any]) -> Session:
    """The session that the object is, with the mark that is in it. Raises NotOurs."""
    more = _more(obj, SessionMore)
    name, spec = text(metadata(obj).get("name")), mapping(obj.get("spec"))
    if more is None or session_name(more.id) != name:
        raise NotOurs(f"the Lease object {name} is in the way: its annotations are not those of a session")
    return Session(
        more.id,
        version_in(obj),
        text(spec.get("holderIdentity")),
        more.instance,
        more.ttl_us,
        more.opened_at_us,
        parsed_time(spec.get("renewTime")) or 0,
        more.ended,
        more.ended_at_us,
    )


def _fits(tenures: tuple[Tenure, ...], record: Record) -> bool:
    """Whether the fields hold all of the tenures."""
    if len(tenures) != 1:
        return not tenures
    (tenure,) = tenures
    whole = tenure.ttl_us > 0 and tenure.ttl_us % SECOND_US == 0
    return whole and tenure.token == record.token and record.semantics == "at-most-once"


def _times(tenures: tuple[Tenure, ...], record: Record) -> dict[str, Any]:
    if not tenures:
        assert record.ended is not None
        ended = record.ended
        return {"acquireTime": micro_time(ended.acquired_at_us), "renewTime": micro_time(ended.ended_at_us)}
    newest = tenures[-1]
    marks = [tenure.mark for tenure in tenures if tenure.mark is not None]
    duration_seconds = -(-newest.ttl_us // SECOND_US)
    return {
        # The API server refuses a duration of nothing.
        **({"leaseDurationSeconds": duration_seconds} if duration_seconds else {}),
        "acquireTime": micro_time(newest.acquired_at_us),
        "renewTime": micro_time(max(marks)),
    }


def _object(
    base: Object | None,
    namespace: str,
    name: str,
    managed_by: str,
    annotations: Mapping[str, str | None],
    spec: Mapping[str, Any],
) -> Object:
    about = dict(metadata(base)) if base is not None else {}
    kept = {**mapping(about.get("annotations")), **annotations}
    about |= {
        "namespace": namespace,
        "name": name,
        "labels": {**mapping(about.get("labels")), MANAGED_BY: managed_by},
        "annotations": {word: value for word, value in kept.items() if value is not None},
    }
    about.pop("managedFields", None)
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": about, "spec": dict(spec)}


def _annotated_bytes(obj: Object) -> int:
    written: Mapping[str, str] = obj["metadata"]["annotations"]
    return sum(len(word.encode()) + len(value.encode()) for word, value in written.items())


def _more(obj: Mapping[str, Any], kind: Callable[..., T]) -> T | None:
    written = text(annotations_of(obj).get(MORE))
    if not written:
        return None
    try:
        return msgspec.json.decode(written, type=kind)  # type: ignore[arg-type]  # a struct is a type
    except (msgspec.MsgspecError, RecursionError):
        return None


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
