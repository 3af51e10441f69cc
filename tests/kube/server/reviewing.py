"""Who somebody is and what they may do, as the test API server tells those who ask about others.

Only paths that are no resources' can be asked about.
"""

from collections.abc import Container, Mapping
from typing import Any

from berth.kube.objects import ACCESS_REVIEWS, TOKEN_REVIEWS
from tests.kube.server.kinds import Kind
from tests.kube.server.refusing import invalid

Object = dict[str, Any]
REVIEWS = (TOKEN_REVIEWS, ACCESS_REVIEWS)


def reviewed(
    kind: Kind, review: Object, tokens: Mapping[str, str], readers: Container[tuple[str, str]]
) -> Object:
    """The answer to what is asked. Raises Refusal."""
    spec = review.get("spec") or {}
    status = _who(spec, tokens) if kind.resource == TOKEN_REVIEWS else _whether(kind, spec, readers)
    return {**review, "status": status}


def _who(spec: Object, tokens: Mapping[str, str]) -> Object:
    user = tokens.get(spec.get("token", ""))
    if user is None:
        return {"user": {}, "error": "invalid bearer token"}
    return {"authenticated": True, "user": {"username": user, "groups": ["system:authenticated"]}}


def _whether(kind: Kind, spec: Object, readers: Container[tuple[str, str]]) -> Object:
    user = spec.get("user", "")
    if not (user or spec.get("groups")):
        raise invalid(kind, "", "spec.user: at least one of user or group must be specified")
    asked = spec.get("nonResourceAttributes")
    if not asked:
        raise invalid(kind, "", "exactly one of nonResourceAttributes or resourceAttributes is wanted")
    return {"allowed": asked["verb"] == "get" and (user, asked["path"]) in readers}
