"""How objects come to be, change and end on the test API server."""

from itertools import count
from typing import Any
from uuid import UUID

from tests.kube.server.kinds import BUILT_IN, JOBS, NAMESPACES, PODS, Kind
from tests.kube.server.refusing import (
    Refusal,
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_found,
)
from tests.kube.server.storage import Address, Storage

Object = dict[str, Any]

CREATED_AT = "2026-01-01T00:00:00Z"
SYSTEM_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
POD_GRACE_SECONDS = 30
FOREGROUND = "foregroundDeletion"

ANNOTATIONS_MAX = 256 * 1024

_uids = count(1)


class Writer:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._serial = count(1)

    def create(self, kind: Kind, namespace: str, obj: Object, *, dry_run: bool = False) -> Object:
        given = obj.get("metadata") or {}
        name = given.get("name") or ""
        if not name and given.get("generateName"):
            name = f"{given['generateName']}{next(self._serial):05x}"
        if not name:
            raise invalid(kind, "", "metadata.name: Required value: name or generateName is required")
        if given.get("namespace") not in {None, namespace}:
            raise bad_request("the namespace of the provided object does not match the request")
        if namespace and Address(NAMESPACES.plural, "", namespace) not in self._storage.objects:
            raise not_found(Kind(NAMESPACES), namespace)
        address = Address(kind.resource.plural, namespace, name)
        if address in self._storage.objects:
            raise already_exists(kind, name)
        if given.get("resourceVersion"):
            raise Refusal(500, "", "resourceVersion should not be set on objects to be created")
        kept = {key: value for key, value in given.items() if key in {"labels", "annotations", "finalizers"}}
        kept |= {key: given[key] for key in ("generateName", "ownerReferences") if key in given}
        metadata: Object = {"name": name, **({"namespace": namespace} if namespace else {}), **kept}
        metadata["uid"] = str(UUID(int=next(_uids) << 64 | 1))
        metadata["creationTimestamp"] = CREATED_AT
        if kind.generation:
            metadata["generation"] = 1
        made = {**obj, **_typed(kind), "metadata": metadata}
        if kind.status:
            made.pop("status", None)
        self._check(kind, name, made)
        whole = _with_defaults(kind, made)
        return whole if dry_run else self._storage.put(address, whole)

    def replace(self, kind: Kind, namespace: str, name: str, obj: Object) -> tuple[Object, bool]:
        """The object as stored, and whether it was made by this."""
        given = obj.get("metadata") or {}
        if given.get("name") != name:
            raise bad_request(
                f"the name of the object ({given.get('name', '')}) does not match the URL's ({name})"
            )
        address = Address(kind.resource.plural, namespace, name)
        current = self._storage.objects.get(address)
        if current is None:
            if not kind.made_by_put:
                raise not_found(kind, name)
            if given.get("uid"):
                raise conflict(kind, name, f"Precondition failed: UID in precondition: {given['uid']}")
            without = {key: value for key, value in given.items() if key != "resourceVersion"}
            return self.create(kind, namespace, {**obj, "metadata": without}), True
        if not given.get("resourceVersion") and not kind.lax:
            raise invalid(kind, name, "metadata.resourceVersion: must be specified for an update")
        new = {**obj, **({"status": current.get("status")} if kind.status else {})}
        return self._changed(kind, address, current, new, given), False

    def replace_status(self, kind: Kind, namespace: str, name: str, obj: Object) -> Object:
        address, current = self._found(kind, namespace, name)
        new = {**current, "status": obj.get("status")}
        return self._changed(kind, address, current, new, obj.get("metadata") or {})

    def scale(self, kind: Kind, namespace: str, name: str) -> Object:
        _, current = self._found(kind, namespace, name)
        _must_scale(kind)
        copied = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        spec, status = current.get("spec") or {}, current.get("status") or {}
        if kind.replicas_at not in spec:
            why = (
                f'Internal error occurred: the spec replicas field ".spec.{kind.replicas_at}" does not exist'
            )
            raise Refusal(500, "InternalError", why)
        replicas = spec[kind.replicas_at]
        selector = _selector(spec if kind in BUILT_IN else status)
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {key: current["metadata"][key] for key in copied},
            "spec": {"replicas": replicas} if replicas else {},
            "status": {"replicas": status.get(kind.replicas_at, 0), **selector},
        }

    def replace_scale(self, kind: Kind, namespace: str, name: str, scale: Object) -> Object:
        address, current = self._found(kind, namespace, name)
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if replicas < 0:
            raise invalid(kind, name, "spec.replicas: must be greater than or equal to 0")
        new = {**current, "spec": {**(current.get("spec") or {}), kind.replicas_at: replicas}}
        given = scale.get("metadata") or {}
        if kind not in BUILT_IN:
            given = {**given, "uid": ""}  # of custom resources it is not looked at
        self._changed(kind, address, current, new, given)
        return self.scale(kind, namespace, name)

    def patch(self, kind: Kind, namespace: str, name: str, patch: Object, subresource: str) -> Object:
        address, current = self._found(kind, namespace, name)
        given = patch.get("metadata") or {}
        if subresource == "scale":
            merged = merge(self.scale(kind, namespace, name), patch)
            return self.replace_scale(kind, namespace, name, merged)
        if given.get("uid") not in {None, "", current["metadata"]["uid"]}:
            raise invalid(kind, name, f'metadata.uid: Invalid value: "{given["uid"]}": field is immutable')
        merged = merge(current, patch)
        if subresource == "status":
            new = {**current, "status": merged.get("status")}
        else:
            new = {**merged, **({"status": current.get("status")} if kind.status else {})}
        return self._changed(kind, address, current, new, given)

    def delete(self, kind: Kind, namespace: str, name: str, options: Object) -> Object:
        address, current = self._found(kind, namespace, name)
        metadata = current["metadata"]
        wanted = options.get("preconditions") or {}
        for key, said in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if wanted.get(key) not in {None, metadata[key]}:
                why = f"the {said} in the precondition ({wanted[key]}) does not match the {said} in record"
                raise conflict(kind, name, why)
        grace_seconds = _grace_seconds(kind, current, options)
        if options.get("propagationPolicy") == "Foreground" and not metadata.get("deletionTimestamp"):
            # Whoever collects garbage takes this off, once all that it owns is gone.
            metadata = {**metadata, "finalizers": [*metadata.get("finalizers", ()), FOREGROUND]}
        if options.get("propagationPolicy") == "Orphan":
            self._orphan(metadata["uid"])
        if not metadata.get("finalizers") and not grace_seconds:
            ended = self._storage.remove(address)
            return ended if kind.answers_object and kind.resource == PODS else _gone(kind, ended)
        if metadata.get("deletionTimestamp") and metadata["deletionGracePeriodSeconds"] <= grace_seconds:
            return current
        ending = {**metadata, "deletionTimestamp": CREATED_AT, "deletionGracePeriodSeconds": grace_seconds}
        if kind.generation:
            ending["generation"] = metadata["generation"] + 1
        return self._storage.put(address, {**current, "metadata": ending})

    def _orphan(self, uid: str) -> None:
        """Lets go of all that an object owns."""
        for address, obj in [*self._storage.objects.items()]:
            owners = obj["metadata"].get("ownerReferences") or []
            kept = [owner for owner in owners if owner["uid"] != uid]
            if kept != owners:
                self._storage.put(address, {**obj, "metadata": {**obj["metadata"], "ownerReferences": kept}})

    def bind(self, namespace: str, binding: Object) -> Object:
        """Gives a pod to a node, once."""
        pods = Kind(PODS)
        address, pod = self._found(pods, namespace, binding["metadata"]["name"])
        if pod["metadata"].get("deletionTimestamp"):
            raise conflict(pods, address.name, f"pod {address.name} is being deleted, cannot be assigned")
        if pod["spec"].get("nodeName"):
            raise conflict(pods, address.name, f"pod {address.name} is already assigned to a node")
        spec = {**pod["spec"], "nodeName": binding["target"]["name"]}
        self._storage.put(address, {**pod, "spec": spec})
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    def _found(self, kind: Kind, namespace: str, name: str) -> tuple[Address, Object]:
        address = Address(kind.resource.plural, namespace, name)
        if address not in self._storage.objects:
            raise not_found(kind, name)
        return address, self._storage.objects[address]

    def _check(self, kind: Kind, name: str, obj: Object) -> None:
        annotations = obj["metadata"].get("annotations") or {}
        if sum(len(word) + len(value) for word, value in annotations.items()) > ANNOTATIONS_MAX:
            raise invalid(
                kind, name, f"metadata.annotations: Too long: may not be more than {ANNOTATIONS_MAX} bytes"
            )
        problem = kind.check(obj) if kind.check else None
        if problem:
            raise invalid(kind, name, problem)

    def _changed(self, kind: Kind, address: Address, current: Object, new: Object, given: Object) -> Object:
        """Stores `new` in the place of `current`, as the client who gave this metadata may."""
        old = current["metadata"]
        for key in ("resourceVersion", "uid"):
            if given.get(key) not in {None, "", old[key]}:
                raise conflict(kind, address.name)
        metadata = {**new["metadata"], **{key: old[key] for key in SYSTEM_FIELDS if key in old}}
        metadata["resourceVersion"] = old["resourceVersion"]
        metadata |= {key: old[key] for key in ("name", "namespace") if key in old}
        metadata = {key: value for key, value in metadata.items() if value not in (None, {}, [])}
        new = {key: value for key, value in new.items() if value is not None}
        new = {**new, **_typed(kind), "metadata": metadata}
        self._check(kind, address.name, new)
        if old.get("deletionTimestamp"):
            added = set(metadata.get("finalizers", ())) - set(old.get("finalizers", ()))
            if added:
                raise invalid(kind, address.name, "metadata.finalizers: Forbidden: no new finalizers")
        if kind.generation and _content(new) != _content(current):
            metadata["generation"] = old["generation"] + 1
        if new == current:
            return current
        done = old.get("deletionTimestamp") and not old.get("deletionGracePeriodSeconds")
        if done and not metadata.get("finalizers"):
            return self._storage.remove(address)  # as it was before its last finalizer went
        return self._storage.put(address, new)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def _must_scale(kind: Kind) -> None:
    if not kind.scale:
        raise Refusal(404, "NotFound", "the server could not find the requested resource")


def _selector(found: Object) -> Object:
    """What a scale says of pods' labels."""
    selector = found.get("selector")
    if isinstance(selector, dict):
        selector = ",".join(f"{key}={value}" for key, value in selector.get("matchLabels", {}).items())
    return {"selector": selector} if selector else {}


def _typed(kind: Kind) -> Object:
    return {"apiVersion": kind.resource.api_version, "kind": kind.resource.kind}


def _content(obj: Object) -> Object:
    return {key: value for key, value in obj.items() if key not in {"metadata", "status"}}


def _with_defaults(kind: Kind, obj: Object) -> Object:
    if kind.scale and kind in BUILT_IN:
        spec = {"replicas": 1, **(obj.get("spec") or {})}
        return {**obj, "spec": spec}
    if kind.resource == JOBS:
        return {**obj, "spec": _with_selector(obj)}
    if kind.resource == PODS:
        return {**obj, "status": {"phase": "Pending"}}
    if kind.resource == NAMESPACES:
        return {**obj, "status": {"phase": "Active"}}
    return obj


def _with_selector(job: Object) -> Object:
    """A Job's spec, that its pods have labels of their own, and are found by them."""
    metadata, spec = job["metadata"], job["spec"]
    uid = {"batch.kubernetes.io/controller-uid": metadata["uid"], "controller-uid": metadata["uid"]}
    name = {"batch.kubernetes.io/job-name": metadata["name"], "job-name": metadata["name"]}
    template = spec.get("template") or {}
    of_template = template.get("metadata") or {}
    labelled = {**of_template, "labels": {**(of_template.get("labels") or {}), **uid, **name}}
    selector = {"matchLabels": {"batch.kubernetes.io/controller-uid": metadata["uid"]}}
    return {"selector": selector, **spec, "template": {**template, "metadata": labelled}}


def _grace_seconds(kind: Kind, obj: Object, options: Object) -> int:
    """Only a pod that was given to a node takes its time; no kubelet ends it here, but a second DELETE."""
    if kind.resource != PODS or not obj["spec"].get("nodeName"):
        return 0
    if (obj.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
        return 0
    default = obj["spec"].get("terminationGracePeriodSeconds", POD_GRACE_SECONDS)
    return options.get("gracePeriodSeconds", default)


def _gone(kind: Kind, obj: Object) -> Object:
    details = {"name": obj["metadata"]["name"], "kind": kind.resource.plural, "uid": obj["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
