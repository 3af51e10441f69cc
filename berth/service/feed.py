"""Feed: every change of ownership in order, for whoever watches.

Owns the revisions and the latest changes, and the lines in which they are told. Promises that a reader who
comes with a revision misses nothing after it, or is told that it is too old; that a reader costs only his
place in the one sequence that all share; and that one who reads too slowly is cut off without anybody
waiting for him. A revision sorts as text and means something to the server that gave it only.
"""

from collections import deque
from collections.abc import Callable

import trio

from berth.core.ownership import Ownership

KEPT_MAX = 10_000
TAKEN_MAX = 500


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
        self._lines.append(_Line(change, self._revision(self._count)))
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
        behind = self._count - cursor.at
        first = len(self._lines) - behind
        lines = [self._lines[first + index] for index in range(min(behind, TAKEN_MAX))]
        cursor.at += len(lines)
        wanted = cursor.namespace
        return [self._text(line) for line in lines if wanted in (None, line.change.after.key.namespace)]

    def _text(self, line: _Line) -> bytes:
        if line.text is None:
            line.text = self._encode(line.change, line.revision)
        return line.text

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
