"""Keys: the API key that a call is signed with, given as it is or read from a file that others replace.

Owns the reading and the judging of the file. Promises that a key is in no repr and no error, that a file
which cannot be used does not displace the last good key, and that a replaced file is in use within a second.
"""

import math
from pathlib import Path

import trio

from berth.client.errors import Misconfigured
from berth.config import Secret

FRESH_SECONDS = 1.0
KEY_MAX_BYTES = 8192


class FixedKey:
    """A key that never changes. Raises Misconfigured when no header could carry it."""

    def __init__(self, key: str) -> None:
        self._key = _judged(key, "the API key")

    def current(self) -> Secret:
        return self._key

    def read_again(self) -> Secret:
        return self._key


class KeyFile:
    """A key in a file of its own. Raises Misconfigured when the file cannot be used at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = _read(path)
        self._read_at_seconds = -math.inf

    def current(self) -> Secret:
        """The key, from a reading of the file that is at most a second old."""
        if trio.current_time() - self._read_at_seconds > FRESH_SECONDS:
            return self.read_again()
        return self._key

    def read_again(self) -> Secret:
        """The key as the file has it now, or the last good one."""
        self._read_at_seconds = trio.current_time()
        try:
            self._key = _read(self._path)
        except Misconfigured:
            pass  # whoever writes the file may be in the middle of it
        return self._key


ApiKey = FixedKey | KeyFile


def api_key(key: str | None, file: Path | None) -> ApiKey | None:
    """The key that was given one way or the other, or None for a server that wants none."""
    if key is not None and file is not None:
        raise Misconfigured("api_key and api_key_file exclude each other; give one of them")
    if file is not None:
        return KeyFile(file)
    return None if key is None else FixedKey(key)


def _read(path: Path) -> Secret:
    try:
        with path.open("rb") as file:
            raw = file.read(KEY_MAX_BYTES + 1)
    except OSError as fault:
        raise Misconfigured(f"{path}: the API key file cannot be read: {fault.strerror}") from fault
    # What is no ASCII becomes a character that the judgement refuses.
    return _judged(raw.decode("ascii", "replace"), f"{path}: the API key")


def _judged(text: str, what: str) -> Secret:
    key = text.strip()
    if not key:
        raise Misconfigured(f"{what} is empty")
    if len(key) > KEY_MAX_BYTES:
        raise Misconfigured(f"{what} is longer than {KEY_MAX_BYTES} bytes")
    if not all("!" <= char <= "~" for char in key):
        raise Misconfigured(f"{what} must be one word of printable ASCII")
    return Secret(key)
