"""Specs of BerthLeases that can be followed, and those that cannot with what is wrong.

Both ways of judging a spec are held to them: our own, and the API server's by the CustomResourceDefinition.
"""

from copy import deepcopy
from itertools import product
from typing import Any

Object = dict[str, Any]

LEASE: Object = {
    "leaseName": "web",
    "holderIdentity": "east",
    "ttlSeconds": 30,
    "heartbeatIntervalSeconds": 10,
}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
CRON_JOB = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "web"}
UP, DOWN = {"scale": {"replicas": 2}}, {"scale": {"replicas": 0}}
GO, HALT = {"suspend": False}, {"suspend": True}


def kind(api_version: str, kind: str) -> Object:
    return {"apiVersion": api_version, "kind": kind, "name": "web"}


def lease(**fields: Any) -> Object:
    """One that is only held."""
    return {**deepcopy(LEASE), **fields}


def scaled(**fields: Any) -> Object:
    return lease(**{"target": DEPLOYMENT, "acquireAction": UP, "releaseAction": DOWN, **fields})


def suspended(**fields: Any) -> Object:
    return lease(**{"target": CRON_JOB, "acquireAction": GO, "releaseAction": HALT, **fields})


def without(spec: Object, *fields: str) -> Object:
    return {name: value for name, value in spec.items() if name not in fields}


FOLLOWED_BY_THE_REFERENCE: dict[str, Object] = {
    "only held": lease(semantics="at-most-once"),
    "at least once": lease(semantics="at-least-once"),
    "Deployment": scaled(semantics="at-most-once"),
    "StatefulSet": scaled(semantics="at-most-once", target=kind("apps/v1", "StatefulSet")),
    "ReplicaSet": scaled(semantics="at-most-once", target=kind("apps/v1", "ReplicaSet")),
    "CronJob": suspended(semantics="at-most-once"),
    "no replicas at all": scaled(semantics="at-most-once", acquireAction={"scale": {"replicas": 0}}),
    "the shortest": lease(semantics="at-most-once", ttlSeconds=2, heartbeatIntervalSeconds=1),
    "for ever": lease(semantics="at-most-once", ttlSeconds=2**31 - 1, heartbeatIntervalSeconds=2**31 - 2),
    "the longest names": lease(semantics="at-most-once", leaseName="a" * 253, holderIdentity="h" * 253),
    "a holder below a tenant": lease(semantics="at-most-once", holderIdentity="east/Pod ü"),
}

VALID: dict[str, Object] = {
    **FOLLOWED_BY_THE_REFERENCE,
    "semantics by default": lease(),
    "Job": suspended(target=kind("batch/v1", "Job")),
    "as many as before": scaled(acquireAction={"scale": {}}),
    "whatever can be scaled": scaled(target=kind("argoproj.io/v1alpha1", "Rollout")),
    "of the core group": scaled(target=kind("v1", "ReplicationController")),
    "a CronJob of somebody else's": scaled(target=kind("example.test/v1", "CronJob")),
    "the longest lock delay": lease(lockDelaySeconds=600),
    "no lock delay": lease(lockDelaySeconds=0),
    "half the ttl to stop": lease(ttlSeconds=9, stopBudgetSeconds=4, heartbeatIntervalSeconds=3),
    "without looking": scaled(drain=False),
    "a name with dots": lease(leaseName="a.b-c.9"),
}

NAME = (
    "spec.leaseName: must be an RFC 1123 DNS subdomain: lower-case letters, digits, '-' and '.', each part "
    "starting and ending with a letter or digit, at most 253 characters"
)
HOLDER = "spec.holderIdentity: must be 1 to 253 bytes without control characters"
TTL = "spec.ttlSeconds: must be 1 to 2147483647"
HEARTBEAT = "spec.heartbeatIntervalSeconds: must be 1 or more"
HEARTBEAT_LONG = "spec.heartbeatIntervalSeconds: must be less than ttlSeconds; a third of it is good"
DELAY = "spec.lockDelaySeconds: must be 0 to 600"
BUDGET = "spec.stopBudgetSeconds: must be 1 to half of ttlSeconds: renewals need the other half"
VERSION = "spec.target.apiVersion: must be the target's API group and version, as in apps/v1"
ALONE = "goes only with a target: name one, or leave this out"
REQUIRED = "is required with a target: suspend for a CronJob or Job, scale for any other"
ONE = "must have exactly one of suspend and scale"
NOT_SUSPENDED = "is for a CronJob or Job of batch/v1 alone: any other target has scale"
NOT_SCALED = "is not for a CronJob or Job of batch/v1, which has suspend"
COUNT = (
    "spec.acquireAction.scale.replicas: must be 0 to 2147483647, or left out for as many as there were before"
)
STOPPED = "must be 0: the target does not run without the lease"
HALTED = "must be true: the target does not run without the lease"
RUNS = "must be false: the target runs while the lease is held"

INVALID: dict[str, tuple[Object, list[str]]] = {
    "no name": (lease(leaseName=""), [NAME]),
    "a name with a space": (lease(leaseName="a b"), [NAME]),
    "a name in capitals": (lease(leaseName="Web"), [NAME]),
    "a name with a line end": (lease(leaseName="web\n"), [NAME]),
    "a name that ends in a dot": (lease(leaseName="web."), [NAME]),
    "no holder": (lease(holderIdentity=""), [HOLDER]),
    "a holder with a line end": (lease(holderIdentity="east\n"), [HOLDER]),
    "a holder with a control character of Latin-1": (lease(holderIdentity="a\x85b"), [HOLDER]),
    "a holder of too many bytes": (lease(holderIdentity="ü" * 127), [HOLDER]),
    "no ttl": (lease(ttlSeconds=0), [TTL, HEARTBEAT_LONG]),
    "a negative ttl": (lease(ttlSeconds=-1, heartbeatIntervalSeconds=-2), [TTL, HEARTBEAT]),
    "no heartbeat": (lease(heartbeatIntervalSeconds=0), [HEARTBEAT]),
    "a heartbeat as long as the ttl": (lease(heartbeatIntervalSeconds=30), [HEARTBEAT_LONG]),
    "a negative lock delay": (lease(lockDelaySeconds=-1), [DELAY]),
    "too long a lock delay": (lease(lockDelaySeconds=601), [DELAY]),
    "no time to stop": (lease(stopBudgetSeconds=0), [BUDGET]),
    "more than half the ttl to stop": (lease(ttlSeconds=11, stopBudgetSeconds=6), [BUDGET]),
    "a target of no version": (scaled(target=kind("", "Deployment")), [VERSION]),
    "a target of no such version": (scaled(target=kind("apps/v1/", "Deployment")), [VERSION]),
    "a target of no kind": (scaled(target=kind("apps/v1", "")), ["spec.target.kind: must not be empty"]),
    "a target without a name": (
        scaled(target={**DEPLOYMENT, "name": ""}),
        ["spec.target.name: must not be empty"],
    ),
    "actions without a target": (
        without(scaled(), "target"),
        [f"spec.acquireAction: {ALONE}", f"spec.releaseAction: {ALONE}"],
    ),
    "a target without actions": (
        lease(target=DEPLOYMENT),
        [f"spec.acquireAction: {REQUIRED}", f"spec.releaseAction: {REQUIRED}"],
    ),
    "a target that is never stopped": (
        without(scaled(), "releaseAction"),
        [f"spec.releaseAction: {REQUIRED}"],
    ),
    "empty actions": (
        scaled(acquireAction={}, releaseAction={}),
        [f"spec.acquireAction: {ONE}", f"spec.releaseAction: {ONE}"],
    ),
    "suspended and scaled": (
        scaled(acquireAction={**UP, **GO}),
        [f"spec.acquireAction: {ONE}", f"spec.acquireAction.suspend: {NOT_SUSPENDED}"],
    ),
    "a Deployment to be resumed": (
        scaled(acquireAction=GO),
        [f"spec.acquireAction.suspend: {NOT_SUSPENDED}"],
    ),
    "a CronJob to be scaled": (
        suspended(acquireAction=UP, releaseAction=DOWN),
        [f"spec.acquireAction.scale: {NOT_SCALED}", f"spec.releaseAction.scale: {NOT_SCALED}"],
    ),
    "a CronJob the wrong way round": (
        suspended(acquireAction=HALT, releaseAction=GO),
        [f"spec.acquireAction.suspend: {RUNS}", f"spec.releaseAction.suspend: {HALTED}"],
    ),
    "less than no replicas": (scaled(acquireAction={"scale": {"replicas": -1}}), [COUNT]),
    "some replicas left": (scaled(releaseAction=UP), [f"spec.releaseAction.scale.replicas: {STOPPED}"]),
    "as many left as before": (
        scaled(releaseAction={"scale": {}}),
        [f"spec.releaseAction.scale.replicas: {STOPPED}"],
    ),
}

UNREADABLE: dict[str, tuple[Object, str]] = {
    "nothing": ({}, "spec: object missing required field `leaseName`"),
    "no ttl": (without(lease(), "ttlSeconds"), "spec: object missing required field `ttlSeconds`"),
    "a ttl in words": (lease(ttlSeconds="30"), "spec.ttlSeconds: expected `int`, got `str`"),
    "half a second": (lease(ttlSeconds=0.5), "spec.ttlSeconds: expected `int`, got `float`"),
    "semantics unheard of": (lease(semantics="twice"), "spec.semantics: invalid enum value 'twice'"),
    "a target without a kind": (
        scaled(target=without(DEPLOYMENT, "kind")),
        "spec.target: object missing required field `kind`",
    ),
    "drained perhaps": (lease(drain="yes"), "spec.drain: expected `bool`, got `str`"),
}
"""What has not the shape of a spec. The API server says it in words of its own."""

_ACTIONS: tuple[Object | None, ...] = (None, {}, UP, DOWN, {"scale": {}}, GO, HALT, {**GO, **DOWN})
_TARGETS: tuple[Object | None, ...] = (None, DEPLOYMENT, CRON_JOB, {**CRON_JOB, "apiVersion": ""})


def combinations() -> list[Object]:
    """Every target with every way to start and to stop it, right and wrong."""
    found: list[Object] = []
    for target, start, stop in product(_TARGETS, _ACTIONS, _ACTIONS):
        fields = {"target": target, "acquireAction": start, "releaseAction": stop}
        found.append(lease(**{name: value for name, value in fields.items() if value is not None}))
    return found
