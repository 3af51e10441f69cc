"""Operations: what was asked of a lease and what was told, with both instants of one machine's boot clock.

Owns the shape of a history, its JSON lines, and what must hold of it before it can be judged at all. An
operation that nobody knows the outcome of has no return: it may take effect at any instant after its
invocation, or never. One that certainly was not carried out is no part of a history.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

Kind = Literal["acquire", "renew", "release", "force", "get", "open", "keep", "end"]
"""The last three are a session's: opened, renewed, ended."""

Word = Literal[
    "granted",  # acquire: the caller holds the lease under `token`
    "held",  # acquire or get: `holder` does
    "closed",  # acquire: nobody does, but others wait for it, or time is in doubt
    "renewed",
    "lost",  # renew: the tenure is not, or no longer, the caller's
    "released",
    "not_holder",
    "forced",
    "stale_token",
    "free",  # get
    "never",  # get and force: the lease was never used
    "session_ended",  # acquire: nothing can be had under it
    "held_by_session",  # acquire, renew and force: the tenure is
    "held_by_ttl",  # acquire under a session: the tenure is not
    "alive",  # open and keep
    "over",  # keep
    "ended",
]


class Told(Struct, frozen=True, omit_defaults=True):
    """The reply. `token` is the highest ever given, where one is told. `session` is one just opened."""

    word: Word
    token: int = 0
    holder: str = ""
    clean: bool | None = None
    session: str = ""


class Operation(Struct, frozen=True, omit_defaults=True):
    """One operation on one lease, or on the `session` alone: then there is no key.

    `waits`: in line, so that its grant may be taken back if it has gone.
    """

    client: str
    kind: Kind
    key: str
    invoked_us: int
    returned_us: int | None = None
    told: Told | None = None
    holder: str = ""
    token: int = 0
    ttl_us: int = 0
    waits: bool = False
    session: str = ""

    def __str__(self) -> str:
        returned = "?" if self.returned_us is None else seconds(self.returned_us)
        asked = [self.kind] + [self.key] * bool(self.key)
        asked += [f"by {self.holder}"] * bool(self.holder)
        asked += [f"session {self.session[:6]}"] * bool(self.session)
        asked += [f"under token {self.token}"] * bool(self.token)
        asked += [f"for {self.ttl_us / 1e6:g} s"] * bool(self.ttl_us)
        told = "nobody knows" if self.told is None else words(self.told)
        return f"{seconds(self.invoked_us)} to {returned}, {self.client}: {' '.join(asked)}: {told}"


def words(told: Told) -> str:
    """A reply, for people."""
    parts = [told.word.replace("_", " ")]
    parts += [f"token {told.token}"] * bool(told.token)
    parts += [f"of {told.holder}"] * bool(told.holder)
    parts += [] if told.clean is None else ["after a clean end" if told.clean else "after no clean end"]
    return ", ".join(parts)


def seconds(at_us: float) -> str:
    return f"{at_us / 1e6:.6f}"


def by_key(history: Iterable[Operation]) -> dict[str, list[Operation]]:
    """The history of each lease, with those of all sessions under which it was asked for.

    A history of leases by ttl is linearizable if and only if each of these is. Where two leases are under one
    session, an order that both allow is not looked for.
    """
    leases: defaultdict[str, list[Operation]] = defaultdict(list)
    sessions: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.key:
            leases[operation.key].append(operation)
        else:
            sessions[operation.session].append(operation)
    for operations in leases.values():
        for session in dict.fromkeys(each.session for each in operations if each.session):
            operations += sessions[session]
    return dict(sorted(leases.items()))


def must_be_whole(history: Sequence[Operation]) -> None:
    """Assert what every judgement takes for granted.

    A client has one request outstanding, which may be a batch of operations on several leases; one that does
    not know what came of its request asks nothing more under the same name.
    """
    last: dict[str, Operation] = {}
    keys: set[str] = set()
    for operation in sorted(history, key=lambda each: (each.client, each.invoked_us)):
        assert (operation.told is None) == (operation.returned_us is None), f"half an answer: {operation}"
        assert operation.returned_us is None or operation.returned_us >= operation.invoked_us, operation
        before = last.get(operation.client)
        if before is not None and before.invoked_us == operation.invoked_us:
            assert operation.key not in keys, f"two on one lease in one batch: {operation}"
        else:
            keys = set()
            over = before is None or (
                before.returned_us is not None and before.returned_us <= operation.invoked_us
            )
            assert over, f"two at a time: {before} and {operation}"
        keys.add(operation.key)
        last[operation.client] = operation


def write_lines(path: Path, history: Iterable[Operation]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in history))


def read_lines(path: Path) -> list[Operation]:
    return [msgspec.json.decode(line, type=Operation) for line in path.read_bytes().splitlines()]
