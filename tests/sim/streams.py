"""Streams: replies that go on, chunk by chunk, at one end of the way."""

from collections import deque

import trio


class Stream:
    """What has come so far and was not taken yet."""

    def __init__(self) -> None:
        self.over: str | None = None
        """Why there is no more: empty at a clean end."""
        self._chunks: deque[bytes] = deque()
        self._news = trio.Event()

    def put(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._tell()

    def end(self, why: str = "") -> None:
        if self.over is None:
            self.over = why
            self._tell()

    async def next(self) -> bytes | None:
        """The next chunk; None at the end, whatever it is."""
        while not self._chunks and self.over is None:
            await self._news.wait()
        return self._chunks.popleft() if self._chunks else None

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
