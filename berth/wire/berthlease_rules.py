"""What must hold of a BerthLease's spec, said twice: for the kube-apiserver in CEL, and here.

Owns the rules and their texts. Promises that both ways find the same problems in the same words: the API
server refuses at once, and the operator tells of what was stored before there were rules. What shape a spec
has, and how long its texts may be, is the schema's affair; whether the target exists, the operator's.
"""

import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from berth.core.names import holder_problem, name_problem
from berth.wire.berthlease import Action, Spec, Target
from berth.wire.checks import LOCK_DELAY_MAX_SECONDS

INT32_MAX = 2**31 - 1

SUSPENDED_VERSION, SUSPENDED_KINDS = "batch/v1", ("CronJob", "Job")
"""These are suspended; all other targets are scaled."""

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = rf"{_LABEL}(\.{_LABEL})*"
_API_VERSION = f"({_NAME}/)?v[0-9][a-z0-9]*"
_TYPE = ("target.apiVersion", "target.kind")
_SUSPENDS = f"self.target.apiVersion == '{SUSPENDED_VERSION}' && self.target.kind in {[*SUSPENDED_KINDS]}"


class Rule(Struct, frozen=True):
    """`cel` and `holds` are the same. Where it does not hold, `field` of the spec has the problem `words`."""

    field: str
    words: str
    cel: str
    holds: Callable[[Spec], bool]


class Transition(Struct, frozen=True):
    """How a spec may change, which only the API server sees."""

    field: str
    words: str
    cel: str


def suspends(target: Target) -> bool:
    """Whether the target is started and stopped by `suspend`; else by `scale`."""
    return target.api_version == SUSPENDED_VERSION and target.kind in SUSPENDED_KINDS


def problems(spec: Spec) -> list[str]:
    """Why it cannot be followed, each with what to do; empty where it can."""
    return [f"spec.{rule.field}: {rule.words}" for rule in RULES if not rule.holds(spec)]


def _given(*fields: str, then: str) -> str:
    """CEL that holds where one of these is missing: it may be, and where not that is told otherwise.

    Also of a stored object that lacks what is required: an error in CEL would bar every change of it.
    """
    paths = dict.fromkeys(
        ".".join(parts[:length])
        for parts in (field.split(".") for field in fields)
        for length in range(1, len(parts) + 1)
    )
    return "".join(f"!has(self.{path}) || " for path in paths) + f"({then})"


def _lease_rules() -> Iterator[Rule]:
    yield Rule(
        "leaseName",
        "must be an RFC 1123 DNS subdomain: lower-case letters, digits, '-' and '.', each part starting and "
        "ending with a letter or digit, at most 253 characters",
        _given("leaseName", then=f"self.leaseName.matches(r'^{_NAME}$')"),
        lambda spec: name_problem(spec.lease_name) is None,
    )
    yield Rule(
        "holderIdentity",
        "must be 1 to 253 bytes without control characters",
        _given(
            "holderIdentity",
            then=r"self.holderIdentity.matches(r'^\P{Cc}+$') && bytes(self.holderIdentity).size() <= 253",
        ),
        lambda spec: holder_problem(spec.holder_identity) is None,
    )
    yield Rule(
        "ttlSeconds",
        f"must be 1 to {INT32_MAX}",
        _given("ttlSeconds", then=f"self.ttlSeconds >= 1 && self.ttlSeconds <= {INT32_MAX}"),
        lambda spec: 1 <= spec.ttl_seconds <= INT32_MAX,
    )
    yield Rule(
        "heartbeatIntervalSeconds",
        "must be 1 or more",
        _given("heartbeatIntervalSeconds", then="self.heartbeatIntervalSeconds >= 1"),
        lambda spec: spec.heartbeat_interval_seconds >= 1,
    )
    yield Rule(
        "heartbeatIntervalSeconds",
        "must be less than ttlSeconds; a third of it is good",
        _given(
            "heartbeatIntervalSeconds", "ttlSeconds", then="self.heartbeatIntervalSeconds < self.ttlSeconds"
        ),
        lambda spec: spec.heartbeat_interval_seconds < spec.ttl_seconds,
    )
    yield Rule(
        "lockDelaySeconds",
        f"must be 0 to {LOCK_DELAY_MAX_SECONDS}",
        _given(
            "lockDelaySeconds",
            then=f"self.lockDelaySeconds >= 0 && self.lockDelaySeconds <= {LOCK_DELAY_MAX_SECONDS}",
        ),
        lambda spec: 0 <= spec.lock_delay_seconds <= LOCK_DELAY_MAX_SECONDS,
    )
    yield Rule(
        "stopBudgetSeconds",
        "must be 1 to half of ttlSeconds: renewals need the other half",
        _given(
            "stopBudgetSeconds",
            "ttlSeconds",
            then="self.stopBudgetSeconds >= 1 && self.stopBudgetSeconds <= self.ttlSeconds / 2",
        ),
        lambda spec: (
            spec.stop_budget_seconds is None or 1 <= spec.stop_budget_seconds <= spec.ttl_seconds // 2
        ),
    )


def _target_rules() -> Iterator[Rule]:
    yield Rule(
        "target.apiVersion",
        "must be the target's API group and version, as in apps/v1",
        _given("target.apiVersion", then=f"self.target.apiVersion.matches(r'^{_API_VERSION}$')"),
        lambda spec: spec.target is None or re.fullmatch(_API_VERSION, spec.target.api_version) is not None,
    )
    yield Rule(
        "target.kind",
        "must not be empty",
        _given("target.kind", then="self.target.kind != ''"),
        lambda spec: spec.target is None or spec.target.kind != "",
    )
    yield Rule(
        "target.name",
        "must not be empty",
        _given("target.name", then="self.target.name != ''"),
        lambda spec: spec.target is None or spec.target.name != "",
    )


def _action_rules(field: str, action_of: Callable[[Spec], Action | None]) -> Iterator[Rule]:
    """What holds of both actions."""
    yield Rule(
        field,
        "goes only with a target: name one, or leave this out",
        f"has(self.target) || !has(self.{field})",
        lambda spec: spec.target is not None or action_of(spec) is None,
    )
    yield Rule(
        field,
        "is required with a target: suspend for a CronJob or Job, scale for any other",
        f"has(self.{field}) || !has(self.target)",
        lambda spec: action_of(spec) is not None or spec.target is None,
    )
    yield Rule(
        field,
        "must have exactly one of suspend and scale",
        _given(field, then=f"has(self.{field}.suspend) != has(self.{field}.scale)"),
        lambda spec: (
            (action := action_of(spec)) is None or (action.suspend is None) != (action.scale is None)
        ),
    )
    yield Rule(
        f"{field}.suspend",
        "is for a CronJob or Job of batch/v1 alone: any other target has scale",
        _given(f"{field}.suspend", *_TYPE, then=_SUSPENDS),
        lambda spec: (
            (action := action_of(spec)) is None
            or action.suspend is None
            or spec.target is None
            or suspends(spec.target)
        ),
    )
    yield Rule(
        f"{field}.scale",
        "is not for a CronJob or Job of batch/v1, which has suspend",
        _given(f"{field}.scale", *_TYPE, then=f"!({_SUSPENDS})"),
        lambda spec: (
            (action := action_of(spec)) is None
            or action.scale is None
            or spec.target is None
            or not suspends(spec.target)
        ),
    )


def _start_rules() -> Iterator[Rule]:
    field = "acquireAction"
    yield from _action_rules(field, lambda spec: spec.acquire_action)
    yield Rule(
        f"{field}.suspend",
        "must be false: the target runs while the lease is held",
        _given(f"{field}.suspend", then=f"!self.{field}.suspend"),
        lambda spec: spec.acquire_action is None or not spec.acquire_action.suspend,
    )
    replicas = f"self.{field}.scale.replicas"
    yield Rule(
        f"{field}.scale.replicas",
        f"must be 0 to {INT32_MAX}, or left out for as many as there were before",
        _given(f"{field}.scale.replicas", then=f"{replicas} >= 0 && {replicas} <= {INT32_MAX}"),
        lambda spec: (
            spec.acquire_action is None
            or spec.acquire_action.scale is None
            or 0 <= (spec.acquire_action.scale.replicas or 0) <= INT32_MAX
        ),
    )


def _stop_rules() -> Iterator[Rule]:
    field = "releaseAction"
    yield from _action_rules(field, lambda spec: spec.release_action)
    yield Rule(
        f"{field}.suspend",
        "must be true: the target does not run without the lease",
        _given(f"{field}.suspend", then=f"self.{field}.suspend"),
        lambda spec: spec.release_action is None or spec.release_action.suspend is not False,
    )
    scale = f"self.{field}.scale"
    yield Rule(
        f"{field}.scale.replicas",
        "must be 0: the target does not run without the lease",
        _given(f"{field}.scale", then=f"has({scale}.replicas) && {scale}.replicas == 0"),
        lambda spec: (
            spec.release_action is None
            or spec.release_action.scale is None
            or spec.release_action.scale.replicas == 0
        ),
    )


def _kept(field: str) -> Transition:
    """`target` and `releaseAction` may be missing; what is required may be in a stored object."""
    return Transition(
        field,
        "cannot be changed, added or removed: make another BerthLease",
        f"has(self.{field}) == has(oldSelf.{field})"
        f" && (!has(self.{field}) || self.{field} == oldSelf.{field})",
    )


RULES = (*_lease_rules(), *_target_rules(), *_start_rules(), *_stop_rules())
TRANSITIONS = tuple(map(_kept, ("leaseName", "holderIdentity", "target", "releaseAction")))
