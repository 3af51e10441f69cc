"""Leases and sessions to write into a store: ordinary ones, and every edge that must come back unchanged."""

from collections.abc import Iterable

from msgspec.structs import replace

from berth.core.names import Key
from berth.core.records import TOKEN_MAX, Ended, Record, Session, Tenure
from berth.store.api import Write

KEY = Key("default", "a")
SECOND = 1_000_000


def held(
    key: Key = KEY, version: int = 1, token: int = 1, holder: str = "edge-1", session: str | None = None
) -> Record:
    """A lease that this write gives to `holder`."""
    ttl_us = 0 if session else 30 * SECOND
    return Record(key, version, token, (Tenure(holder, token, 7, ttl_us, session),))


def unmarked(write: Write) -> Write:
    """`write` as it was before the store marked it."""
    if isinstance(write, Session):
        return replace(write, mark=None)
    return replace(write, tenures=tuple(replace(tenure, mark=None) for tenure in write.tenures))


def handed_over(write: Write) -> Write:
    """A copy of `write`, for a store may complete in place what it is given."""
    if isinstance(write, Session):
        return replace(write)
    return replace(write, tenures=tuple(replace(tenure) for tenure in write.tenures))


def many_keys(count: int) -> list[Key]:
    """Keys in an order that is not theirs."""
    return [Key(f"ns-{(n * 7919) % 3}", f"lease-{(n * 7919) % count:06}") for n in range(count)]


def stored_keys(keys: Iterable[Key]) -> list[Record]:
    return [held(key) for key in keys]


HOLDERS = [
    "h" * 253,
    "edge-1/\u00e9quipe",  # one code point for é,
    "edge-1/e\u0301quipe",  # and two
    "trailing blanks  ",
    " leading, UPPER and lower",
    "東京-🚢",
    'it\'s "quoted"; -- \\ %_',
]

RECORDS = [
    held(Key("n" * 63, ".".join(["x" * 60] * 3) + ".abcde")),
    held(Key("0", "0")),
    held(token=TOKEN_MAX),
    Record(KEY, 1, 9, (), ended=Ended(3, 4, True)),
    Record(KEY, 1, 9, (), ended=Ended(2**52, 2**52 + 1, False), lock_delay_us=600 * SECOND),
    Record(KEY, 1, 2, (Tenure("by-session", 2, 5, 0, "s-1"),), ended=Ended(0, 0, False)),
    Record(KEY, 1, 2, (Tenure("a", 1, 0, 1), Tenure("b", 2, 0, 2)), "at-least-once", 2),
    Record(KEY, 1, 500, tuple(Tenure(f"h-{n}", n, n, n) for n in range(1, 501)), "at-least-once", None),
    Record(KEY, 1, 1, (Tenure("kept", 1, 5, 6, None, 12345),), "at-least-once", TOKEN_MAX),
    *(held(holder=holder) for holder in HOLDERS),
]

SESSIONS = [
    Session("s-1", 1, "edge-1", "", 60 * SECOND, 17),
    Session("S-1", 1, "edge-1/é ", "uid: 東京", 86_400 * SECOND, 2**52, 5, "clean", 2**52 + 1),
    Session("s-1 ", 1, "e", "i", 1, 0, 0, "expired", 0),
    Session("x" * 253, 1, "e", "i", 1, 0, None, "forced", 1),
]
