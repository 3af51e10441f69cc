"""The calls that holding makes, told to people: who holds what is waited for, and when it is held.

Owns the words. Promises a line for each change, and none for a lease that is free at once. Withholds the
release of what must be left to expire.
"""

from typing import Any

from berth.cli.hold_run import say
from berth.client import BerthClient, OutcomeUnknown, Unreachable
from berth.wire.shapes import AcquireReply


class ToldLeases:
    """The client's calls. With `waits` false there is one try and nothing to tell."""

    def __init__(self, client: BerthClient, *, waits: bool) -> None:
        self._client = client
        self._waits = waits
        self._told: dict[str, str] = {}
        self.left_to_expire = False

    async def acquire(self, namespace: str, name: str, **terms: Any) -> AcquireReply:
        key = f"{namespace}/{name}"
        try:
            reply = await self._client.acquire(namespace, name, **terms)
        except (Unreachable, OutcomeUnknown) as fault:
            self._tell(key, f"waiting for {key}: {fault}")
            raise
        if not reply.acquired:
            self._tell(key, f"waiting for {key}: {_why(reply)}")
        elif key in self._told:
            say(f"holding {key} with token {reply.fencing_token}")
        return reply

    async def renew(self, namespace: str, name: str, **tenure: Any) -> AcquireReply:
        return await self._client.renew(namespace, name, **tenure)

    async def release(self, namespace: str, name: str, **tenure: Any) -> None:
        if not self.left_to_expire:
            await self._client.release(namespace, name, **tenure)

    def _tell(self, key: str, text: str) -> None:
        if self._waits and self._told.get(key) != text:
            self._told[key] = text
            say(text)


def _why(reply: AcquireReply) -> str:
    if reply.holder:
        return f"held by {reply.holder} (token {reply.fencing_token})"
    return "others are in line for it" if reply.reason == "waiters" else f"closed for now ({reply.reason})"
