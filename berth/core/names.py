"""Names: which namespaces, lease names, holders and tenants exist, and who may speak for whom.

Owns the rules and the texts that refuse a name. Promises total functions: a text goes in, `None` or one
sentence comes out. It does not decode, trim, fold case or normalise: names are compared byte by byte.
"""

import re
from functools import lru_cache
from typing import NamedTuple

NAMESPACE_MAX = 63
NAME_MAX = 253
KEY_MAX = 253
HOLDER_MAX_BYTES = 253

CACHED_MAX = 16_384
"""The same names are checked again with every renewal."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHOWN_MAX = 100


class Key(NamedTuple):
    """What a lease is found by."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def shown(text: str) -> str:
    """`text` in double quotes for a message: escaped, and cut after 100 characters."""
    escaped = text[:_SHOWN_MAX].encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}…"' if len(text) > _SHOWN_MAX else f'"{escaped}"'


def namespace_problem(namespace: str) -> str | None:
    """Why `namespace` is no RFC 1123 DNS label, or None."""
    if len(namespace) <= NAMESPACE_MAX and _LABEL.fullmatch(namespace):
        return None
    return (
        f"invalid namespace {shown(namespace)}: must be an RFC 1123 DNS label "
        f"(lower-case letters, digits and '-', starting and ending with a letter or digit, "
        f"at most {NAMESPACE_MAX} characters)"
    )


def name_problem(name: str) -> str | None:
    """Why `name` is no RFC 1123 DNS subdomain, or None."""
    if len(name) <= NAME_MAX and _SUBDOMAIN.fullmatch(name):
        return None
    return (
        f"invalid name {shown(name)}: must be an RFC 1123 DNS subdomain "
        f"(lower-case letters, digits, '-' and '.', each part starting and ending with a letter or digit, "
        f"at most {NAME_MAX} characters)"
    )


def key_problem(key: Key) -> str | None:
    """Why two valid names are too long together, or None. Both are one object name in Kubernetes."""
    length = len(key.namespace) + 1 + len(key.name)
    if length <= KEY_MAX:
        return None
    return (
        f"invalid key {key}: namespace and name together must be at most {KEY_MAX} characters, got {length}"
    )


@lru_cache(maxsize=CACHED_MAX)
def holder_problem(holder: str, *, length_limited: bool = True) -> str | None:
    """Why `holder` cannot be stored and compared, or None.

    A release is not `length_limited`, so that a holder from before the limit can still give up.
    """
    if not holder:
        return "holder is required"
    if _CONTROL.search(holder):
        return "holder must not contain control characters"
    try:
        length_bytes = len(holder.encode())
    except UnicodeEncodeError:
        return "holder must be valid Unicode (it contains a lone surrogate)"
    if length_limited and length_bytes > HOLDER_MAX_BYTES:
        return f"holder must be at most {HOLDER_MAX_BYTES} bytes"
    return None


def speaks_for(tenant: str, holder: str) -> bool:
    """Whether `tenant` may act as `holder`: as itself, or as anything below `tenant/`.

    A tenant has no slash: `a/b` would be owned by `a` as well as by `a/b`.
    """
    if not tenant or "/" in tenant:
        return False
    return holder == tenant or holder.startswith(tenant + "/")
