"""Feed: every change of ownership in order, for whoever watches.

Owns the revisions and the latest changes, and the lines in which they are told. Promises that a reader who
comes with a revision misses nothing after it, or is told that it is too old; that a reader costs only his
place in the one sequence that all share; and that one who reads too slowly is cut off without anybody
waiting for him. A revision sorts as text and means something to the server that gave it only.
"""

from collections import deque
from collections.abc import Callable

import trio
from msgspec.structs import replace

from berth.core.ownership import Ownership

KEPT_MAX = 10_000
TAKEN_MAX = 500
TAKEN_BYTES = 256 * 1024
KEPT_TEXT_BYTES = 4096
"""A longer text, of a lease with many holders, is made again for each reader."""


class _Line:
    """One change, and the text in which it is told once somebody reads it."""

    __slots__ = ("change", "revision", "text")

    def __init__(self, change: Ownership, revision: str) -> None:
        self.change = change
        self.revision = revision
        self.text: bytes | None = None


class Cursor:
    """A reader's place: he has read all changes up to number `at`."""

    def __init__(self, namespace: str | None, at: int) -> None:
        self.namespace = namespace
        self.at = at


class Feed:
    """The latest changes. `encode` makes the line of a change and its revision."""

    def __init__(self, *, incarnation: int, encode: Callable[[Ownership, str], bytes]) -> None:
        self._incarnation = f"{incarnation:016x}"
        self._encode = encode
        self._lines: deque[_Line] = deque(maxlen=KEPT_MAX)
        self._count = 0
        self._more = trio.Event()
        self._ended = False

    @property
    def revision(self) -> str:
        """The revision of the latest change."""
        return self._revision(self._count)

    def tell(self, change: Ownership) -> None:
        self._count += 1
        self._lines.append(_Line(_by_itself(change), self._revision(self._count)))
        self._more.set()
        if not self._ended:
            self._more = trio.Event()

    def open(self, namespace: str | None, revision: str | None) -> Cursor | None:
        """A place after `revision`, or after the latest change; None where changes since then are gone."""
        at = self._count if revision is None else self._number(revision)
        return None if at is None or self._lost(at) else Cursor(namespace, at)

    def end(self) -> None:
        """There is no more to come: the server stops."""
        self._ended = True
        self._more.set()

    @property
    def ended(self) -> bool:
        return self._ended

    async def more(self, cursor: Cursor) -> list[bytes] | None:
        """The next lines for the reader, once there are any; None when he has been too slow.

        At the feed's end what is left, then nothing.
        """
        while cursor.at == self._count and not self._ended:
            await self._more.wait()
        if self._lost(cursor.at):
            return None
        texts: list[bytes] = []
        taken_bytes = 0
        first = len(self._lines) - (self._count - cursor.at)
        for place in range(first, min(len(self._lines), first + TAKEN_MAX)):
            line = self._lines[place]
            cursor.at += 1
            if cursor.namespace in (None, line.change.after.key.namespace):
                texts.append(self._text(line))
                taken_bytes += len(texts[-1])
                if taken_bytes >= TAKEN_BYTES:
                    break
        return texts

    def _text(self, line: _Line) -> bytes:
        if line.text is not None:
            return line.text
        text = self._encode(line.change, line.revision)
        if len(text) <= KEPT_TEXT_BYTES:
            line.text = text
        return text

    def exhausted(self, cursor: Cursor) -> bool:
        """Whether the feed has ended and the reader has read it all."""
        return self._ended and cursor.at == self._count

    def revision_of(self, cursor: Cursor) -> str:
        """Where a reader would go on."""
        return self._revision(cursor.at)

    def _revision(self, number: int) -> str:
        return f"{self._incarnation}-{number:016x}"

    def _number(self, revision: str) -> int | None:
        """The number of a revision that this server has given, else None."""
        incarnation, _, digits = revision.partition("-")
        if incarnation != self._incarnation or len(digits) != 16:
            return None
        try:
            number = int(digits, 16)
        except ValueError:
            return None
        return number if number <= self._count and self._revision(number) == revision else None

    def _lost(self, at: int) -> bool:
        return self._count - at > len(self._lines)


def _by_itself(change: Ownership) -> Ownership:
    """Without the other sessions that were read with the lease."""
    after = change.after
    tenures = after.record.tenures if after.record is not None else ()
    if len(after.sessions) <= len(tenures):
        return change
    own = {tenure.session for tenure in tenures}
    sessions = {each: seen for each, seen in after.sessions.items() if each in own}
    return replace(change, after=replace(after, sessions=sessions))
