"""Orphans: tenures that are kept alive with the others under a session, and that nobody wants here.

Owns what has been seen of them: a process before has won them. It ends none: whether something runs under
one it cannot know.
"""

from berth.client.tenures.book import Book
from berth.client.tenures.terms import LeaseId
from berth.wire.shapes import HolderObject, LeaseObject


class Orphans:
    def __init__(self, book: Book) -> None:
        self._book = book
        self._seen: dict[LeaseId, HolderObject] = {}
        """Tenures of our holders that were not wanted when they were first seen."""

    def sighted(self, seen: LeaseObject) -> None:
        """A lease stood so at some time past."""
        for holder in {holder for holder, _ in self._book.groups}:
            lease = LeaseId(seen.namespace, seen.name, holder)
            ours = next((each for each in seen.holders if each.holder == holder), None)
            if ours is None:
                self._seen.pop(lease, None)
            elif lease in self._seen or self._book.find(lease) is None:
                self._seen[lease] = ours

    def tokens(self) -> dict[LeaseId, int]:
        return {
            lease: ours.fencing_token
            for lease, ours in self._seen.items()
            if ours.session in self._book.sessions and self._book.find(lease) is None
        }
