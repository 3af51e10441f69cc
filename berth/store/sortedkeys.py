"""Sorted keys: a set of keys in order, that grows or shrinks by one at the same small cost at any size.

Owns the order in which a store in memory is listed.
"""

from bisect import bisect_left, bisect_right, insort
from itertools import chain, islice
from typing import Generic, TypeVar

from berth.core.names import Key

_SHELF_MAX = 1_000


KeyT = TypeVar("KeyT", Key, str)


class SortedKeys(Generic[KeyT]):
    """Keys on short sorted shelves: inserting moves at most one shelf, not a million keys."""

    def __init__(self) -> None:
        self._shelves: list[list[KeyT]] = [[]]
        self._firsts: list[KeyT] = []
        """The first key of every shelf but the leftmost, which also takes whatever is smaller."""

    def add(self, key: KeyT) -> None:
        """Add a key that is not there yet."""
        index = bisect_right(self._firsts, key)
        shelf = self._shelves[index]
        insort(shelf, key)
        if len(shelf) > _SHELF_MAX:
            right = shelf[_SHELF_MAX // 2 :]
            del shelf[_SHELF_MAX // 2 :]
            self._shelves.insert(index + 1, right)
            self._firsts.insert(index, right[0])

    def remove(self, key: KeyT) -> None:
        """Take a key out that is there."""
        index = bisect_right(self._firsts, key)
        shelf = self._shelves[index]
        del shelf[bisect_left(shelf, key)]
        if not shelf and index:
            # The leftmost shelf stays, whatever is on it.
            del self._shelves[index]
            del self._firsts[index - 1]

    def after(self, key: KeyT | None, limit: int) -> list[KeyT]:
        """The first `limit` keys beyond `key` (None: from the start), in order."""
        if key is None:
            return list(islice(chain.from_iterable(self._shelves), limit))
        index = bisect_right(self._firsts, key)
        shelf = self._shelves[index]
        rest = islice(shelf, bisect_right(shelf, key), None)
        further = chain.from_iterable(islice(self._shelves, index + 1, None))
        return list(islice(chain(rest, further), limit))
