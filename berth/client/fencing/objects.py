"""The fence of object stores: a conditional put that replaces only what no later tenure has written.

Owns the order of the two calls and what the object says about its writer. Promises that no put with a lower
token lands after one with a higher, as long as the store's conditional put is atomic and the object is never
deleted. Speaks no store's protocol and has no deadline of its own: whoever implements `Objects` sets both.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from berth.client.fencing.errors import Contended, StaleToken
from berth.client.fencing.stamp import Stamp

METADATA = "berth-fencing-token"
TRIES = 4


class Version(NamedTuple):
    """What an object is now."""

    etag: str
    metadata: Mapping[str, str]
    """The user's own entries, with names in lower case and without the store's prefix."""


class Objects(Protocol):
    """An object store, by the two calls that fencing needs. Their faults pass through `fenced_put`."""

    async def head(self, key: str) -> Version | None:
        """The object's current version, read consistently; None when there is none."""
        ...

    async def put(self, key: str, body: bytes, *, metadata: Mapping[str, str], if_match: str | None) -> bool:
        """Replaces the object with this ETag (`If-Match`), or makes it where there is none (None:
        `If-None-Match: *`). False when the store says that the condition does not hold (409, 412).
        """
        ...


async def fenced_put(objects: Objects, key: str, body: bytes, *, lease: str, token: int) -> None:
    """Writes `body` to the object `key` if no higher token of `lease` has written it.

    The body must contain its stamp, `str(Stamp.of(lease, token))`: many stores make the ETag from the bytes
    alone, and a later tenure that writes the same bytes again must not get the same ETag again. A payload
    that cannot carry a stamp goes to an object with a name of its own, and a small stamped object says which
    is current.

    Raises StaleToken when the lease is lost, Contended after losing four times to others of this tenure,
    ValueError for a body without its stamp, for an object that another lease fences, and for what is no lease
    or no token. After a fault of the store, whose outcome is unknown, the same call may be made again.
    """
    stamp = Stamp.of(lease, token)
    if str(stamp).encode() not in body:
        raise ValueError(f"the body must contain its stamp, {stamp}, so that its ETag is its own")
    for _ in range(TRIES):
        version = await objects.head(key)
        if version is not None:
            _judge(version, key, stamp)
        etag = None if version is None else version.etag
        if await objects.put(key, body, metadata={METADATA: str(stamp)}, if_match=etag):
            return
    raise Contended(f"object {key} was changed by others {TRIES} times in a row, and was not written")


def _judge(version: Version, key: str, stamp: Stamp) -> None:
    text = version.metadata.get(METADATA)
    if text is None:
        return  # from before there was a fence
    seen = Stamp.parse(text)
    if seen.lease != stamp.lease:
        raise ValueError(f"object {key} is fenced by lease {seen.lease}, not by {stamp.lease}")
    if seen.token > stamp.token:
        raise StaleToken(stamp.lease, token=stamp.token, highest=seen.token)
