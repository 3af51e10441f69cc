"""List, then watch: what to ask a kube-apiserver next, and what its answers say, as a state machine.

Pure: pages and bytes go in, changes and commands come out; nothing is sent and no time is read. Promises
that whoever applies the changes in order has what the server has, however the bytes were cut, whatever was
dropped, refused or too old; that nothing older follows what is newer; and that no failure is followed at once
by the same request again.
"""

from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from berth.kube.objects import Object, mapping, newer, version_of
from berth.runtime.retry import backoff_seconds

PAGE_LIMIT = 500
LINE_MAX_BYTES = 8 * 1024 * 1024
"""More than an etcd takes for one object."""

FIRST_PAUSE_SECONDS = 0.25
PAUSE_MAX_SECONDS = 30.0
RELIST_JITTER_SECONDS = 1.0
"""Watches of many clients become too old at one instant."""

STALE_LISTS_MAX = 3
"""So often an older list than what was seen is a server that lags; after that, one that was restored."""

SILENT_WATCHES_MAX = 2
"""So many watches in a row that tell nothing, not even how far the server is, may begin where the server that
was restored has not come to yet: it takes them, and is silent.
"""


class ListPage(Struct, frozen=True):
    """Ask for the next page, of at most `limit` objects (0: all)."""

    limit: int
    continue_token: str


class StartWatch(Struct, frozen=True):
    """Watch what changes after this."""

    resource_version: str


class Pause(Struct, frozen=True):
    """Wait, then ask what comes next."""

    seconds: float


Command = ListPage | StartWatch | Pause


class Snapshot(Struct, frozen=True):
    """All there is, in place of what was known. `rolled_back`: older than that, and not by a lag."""

    objects: list[Object]
    resource_version: str
    rolled_back: bool


class Put(Struct, frozen=True):
    """The object is there, and so."""

    obj: Object


class Removed(Struct, frozen=True):
    """The object is not there, or not chosen, any more; this is how it was."""

    obj: Object


class Progress(Struct, frozen=True):
    """Everything up to here has been told."""

    resource_version: str


Change = Snapshot | Put | Removed | Progress


class ListWatch:
    """Ask `next_command`, carry it out, tell what came of it by one of the other methods; again."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._pauses = backoff_seconds(rng, first_seconds=FIRST_PAUSE_SECONDS, cap_seconds=PAUSE_MAX_SECONDS)
        self._pause_seconds = 0.0
        self._listed: list[Object] = []
        self._continue_token = ""
        self._limit = PAGE_LIMIT
        self._stale_lists = 0
        self._rest = bytearray()
        self._searched = 0
        self._heard = False
        self._silent_watches = 0
        self.listing = True
        """Whether a list is wanted, or a watch."""

        self.watching = False
        """Whether what comes on the watch is still of use; when not, close it."""

        self.resource_version = ""
        """Up to where everything has been told."""

    def next_command(self) -> Command:
        if self._pause_seconds:
            seconds, self._pause_seconds = self._pause_seconds, 0.0
            return Pause(seconds)
        if self.listing:
            return ListPage(self._limit, self._continue_token)
        self.watching, self._heard = True, False
        self._rest.clear()
        self._searched = 0
        return StartWatch(self.resource_version)

    def page(self, items: list[Object], resource_version: str, continue_token: str) -> Snapshot | None:
        """A page has come; with the last one the list is whole."""
        self._listed += items
        self._continue_token = continue_token
        if continue_token:
            return None
        listed, self._listed = self._listed, []
        self._limit = PAGE_LIMIT
        stale = bool(self.resource_version) and newer(self.resource_version, resource_version) is True
        if stale and self._stale_lists < STALE_LISTS_MAX:
            self._stale_lists += 1
            self._pause_seconds = next(self._pauses)
            return None
        self._stale_lists = 0
        self.resource_version = resource_version
        self.listing = False
        return Snapshot(listed, resource_version, stale)

    def failed(self, *, expired: bool = False, retry_after_seconds: float = 0.0) -> None:
        """The list, or the beginning of a watch, was refused. `expired`: by 410."""
        self.watching = False
        if self.listing:
            self._listed, self._continue_token = [], ""
            if expired:
                self._limit = 0  # a list in pages takes longer than this server remembers
        if expired:
            self._list_again()
        else:
            self._pause_seconds = max(retry_after_seconds, next(self._pauses))

    def doubt(self) -> None:
        """What was told is not what the server has: list, if that is not under way already."""
        if not self.listing:
            self.watching = False
            self._list_again()

    def _list_again(self) -> None:
        self.listing = True
        self._silent_watches = 0
        self._pause_seconds = self._rng.uniform(0, RELIST_JITTER_SECONDS) + next(self._pauses)

    def received(self, data: bytes) -> list[Change]:
        """What has come on the watch. Look at `watching` afterwards."""
        self._rest += data
        changes: list[Change] = []
        while self.watching and (end := self._rest.find(b"\n", self._searched)) >= 0:
            line = bytes(self._rest[:end]).strip()
            del self._rest[: end + 1]
            self._searched = 0
            if line:
                changes += self._told(line)
        self._searched = len(self._rest)
        if self.watching and len(self._rest) > LINE_MAX_BYTES:
            self._broken()
        return changes

    def ended(self, *, clean: bool) -> None:
        """The watch has ended: as servers end them, or by a fault. It goes on from where it was, unless
        nothing was heard for too long.
        """
        if not self.watching:
            return  # it was we who ended it
        self.watching = False
        self._silent_watches = 0 if self._heard else self._silent_watches + 1
        if self._silent_watches >= SILENT_WATCHES_MAX:
            self._list_again()
        elif not clean or not self._heard:
            self._pause_seconds = next(self._pauses)

    def _told(self, line: bytes) -> list[Change]:
        try:
            event: Any = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            event = None
        obj = mapping(event).get("object")
        if not isinstance(obj, dict):
            self._broken()
            return []
        kind = event.get("type")
        if kind == "ERROR":
            # Most say 410. Whatever it is, that the watch could go on is not said.
            self.failed(expired=True)
            return []
        version = version_of(obj)
        if not version or kind not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}:
            return []
        if newer(version, self.resource_version) is False:
            # Told before, or older than the list; or that nothing has changed.
            self._heard = self._heard or version == self.resource_version
            return []
        self._hear(version)
        if kind == "BOOKMARK":
            return [Progress(version)]
        return [Removed(obj) if kind == "DELETED" else Put(obj)]

    def _hear(self, version: str) -> None:
        self.resource_version = version
        self._heard = True
        self._pauses = backoff_seconds(
            self._rng, first_seconds=FIRST_PAUSE_SECONDS, cap_seconds=PAUSE_MAX_SECONDS
        )

    def _broken(self) -> None:
        """What came is no event: begin again from the last that was one."""
        self.failed()
