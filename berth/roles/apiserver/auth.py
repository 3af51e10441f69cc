"""Auth: who is calling, and what that one may do.

Owns the static key file (its format, its reload), the identity that follows from a key, and the rules of
roles and tenants. Keys are known by their SHA-256 only; neither a key nor a hash is ever logged. Every way in
which a key can be wrong looks the same from outside.
"""

import hashlib
import re
from pathlib import Path
from typing import Protocol, get_args

from msgspec import Struct

from berth.core.names import speaks_for
from berth.wire.problems import Failure
from berth.wire.shapes import Role

FILE_MAX_BYTES = 1 << 20
KEY_MAX_BYTES = 8192

_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_RANK: dict[Role, int] = {"reader": 0, "holder": 1, "admin": 2}
_SCHEME = "Bearer "


class Identity(Struct, frozen=True):
    """A caller. `tenant` owns the holders that it may act as; without authentication it is empty."""

    tenant: str
    role: Role
    anybody: bool = False

    def has_role(self, role: Role) -> bool:
        return self.anybody or _RANK[self.role] >= _RANK[role]

    def speaks_for(self, holder: str) -> bool:
        return self.anybody or speaks_for(self.tenant, holder)


ANYBODY = Identity("", "admin", anybody=True)


class Authenticator(Protocol):
    mode: str

    def identify(self, authorization: list[str]) -> Identity:
        """The caller behind the request's Authorization headers. Raises `Failure`."""
        ...

    def reload(self) -> int:
        """Take up changed keys, and tell how many there are. Raises `KeysInvalid` and keeps the old ones."""
        ...


class NoAuthentication:
    """Everybody may do everything."""

    mode = "none"

    def identify(self, authorization: list[str]) -> Identity:
        del authorization
        return ANYBODY

    def reload(self) -> int:
        return 0


class KeysInvalid(Exception):
    """The key file cannot be used; the text says why, line by line, and holds no key."""


class StaticKeys:
    """Callers known by the keys of a file."""

    mode = "static-keys"

    def __init__(self, file: Path) -> None:
        self._file = file
        self._by_hash: dict[str, Identity] = {}
        self.reload()

    def __len__(self) -> int:
        return len(self._by_hash)

    def identify(self, authorization: list[str]) -> Identity:
        key = _bearer_key(authorization)
        # What is looked up is a digest that the caller cannot steer, so the look-up's time tells nothing.
        identity = self._by_hash.get(hashlib.sha256(key.encode("latin-1", "replace")).hexdigest())
        if identity is None:
            raise Failure("unauthenticated")
        return identity

    def reload(self) -> int:
        self._by_hash = _parse(_read(self._file), self._file)
        return len(self._by_hash)


def authorize(identity: Identity, role: Role, holder: str | None = None) -> None:
    """Raise `Failure` unless the caller has `role`, a tenant, and may act as `holder`, in this order."""
    if identity.anybody:
        return
    if not identity.has_role(role):
        raise Failure("forbidden_role", f"this needs the role {role}; the key has the role {identity.role}")
    if not identity.tenant or "/" in identity.tenant:
        raise Failure("forbidden_namespace")
    if holder is not None and not identity.speaks_for(holder):
        raise Failure("forbidden_holder")


def _bearer_key(authorization: list[str]) -> str:
    if len(authorization) != 1 or not authorization[0].startswith(_SCHEME):
        raise Failure("unauthenticated", "missing or malformed Authorization header")
    key = authorization[0].removeprefix(_SCHEME).strip()
    if not key or len(key) > KEY_MAX_BYTES:
        raise Failure("unauthenticated", "missing or malformed Authorization header")
    return key


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise KeysInvalid(f"api keys file {file} cannot be read: {error.strerror}") from error
    if len(content) > FILE_MAX_BYTES:
        raise KeysInvalid(f"api keys file {file} is larger than {FILE_MAX_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise KeysInvalid(f"api keys file {file} is not UTF-8 text") from error


def _parse(content: str, file: Path) -> dict[str, Identity]:
    by_hash: dict[str, Identity] = {}
    problems: list[str] = []
    for number, line in enumerate(content.splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        parsed = _parse_line(text)
        if isinstance(parsed, str):
            problems.append(f"line {number}: {parsed}")
        elif parsed[0] in by_hash:
            problems.append(f"line {number}: the same hash stands on an earlier line")
        else:
            by_hash[parsed[0]] = parsed[1]
    if problems:
        raise KeysInvalid(f"api keys file {file}: " + "; ".join(problems))
    return by_hash


def _parse_line(text: str) -> tuple[str, Identity] | str:
    """The hash and the identity of one entry, or what is wrong with it."""
    key_id, *rest = (part.strip() for part in text.split(":"))
    if not key_id or "/" in key_id:
        return "the key id must not be empty or contain '/'"
    if len(rest) not in (1, 2) or not _HASH.fullmatch(rest[0]):
        return "expected ID:SHA256[:ROLE], with the SHA-256 of the key as 64 lower-case hex digits"
    role = rest[1] if len(rest) == 2 else "holder"
    for known in get_args(Role):
        if role == known:
            return rest[0], Identity(key_id, known)
    return f"the role must be one of {', '.join(get_args(Role))}"
