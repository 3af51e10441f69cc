"""Watching: how a standby hears that a lease is free, instead of asking again and again.

Owns one watch of one party. Promises that a watch which broke is opened again; what was missed meanwhile the
party's next beat asks for.
"""

from contextlib import suppress

import msgspec
import trio

from berth.cli.bench.asking import Asking
from berth.cli.bench.caller import REQUEST_SECONDS, code_of, code_of_fault
from berth.cli.bench.party import Party, lease_of
from berth.runtime.http import HttpFault, NotSent
from berth.wire import routes
from berth.wire.shapes import WatchEvent

AGAIN_SECONDS = 1.0
SILENCE_SECONDS = 3 * routes.BOOKMARK_SECONDS

_read_event = msgspec.json.Decoder(WatchEvent).decode


class Watching:
    """`party` asks for each lease that comes free, unless it had that lease last."""

    def __init__(self, asking: Asking, party: Party) -> None:
        self._asking = asking
        self._party = party
        self._open = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Until cancelled; started once the first watch is open or has failed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_again_and_again, nursery)
            await self._open.wait()
            task_status.started()

    async def _watch_again_and_again(self, nursery: trio.Nursery) -> None:
        while True:
            code = await self._watch(nursery)
            if code:
                self._asking.tally.bad("watch", code)
            self._open.set()
            await trio.sleep(AGAIN_SECONDS)

    async def _watch(self, nursery: trio.Nursery) -> str:
        """One watch to its end; the code of what ended it, empty when the server did so in order."""
        caller = self._asking.caller
        request = caller.request(routes.LIST, query="?watch=true", namespace=self._asking.namespace)
        caller.tally.requests += 1
        try:
            async with await caller.connection() as connection:
                reply = await connection.open_stream(request, timeout_seconds=REQUEST_SECONDS)
                if reply.status != routes.LIST.status:
                    return code_of(reply)
                self._open.set()
                if reply.body:
                    return "unbelievable"  # a page: this server knows no watch
                while (line := await connection.line(timeout_seconds=SILENCE_SECONDS)) is not None:
                    if line and not self._heard(line, nursery):
                        return "unbelievable"
        except NotSent:
            return "unreachable"
        except HttpFault as fault:
            return code_of_fault(fault)
        return ""

    def _heard(self, line: bytes, nursery: trio.Nursery) -> bool:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            event = _read_event(line)
            self._asking.tally.events += 1
            if event.type in ("released", "expired", "forced") and event.object:
                lease = lease_of(event.object.name)
                if lease is not None and self._asking.may_ask(self._party, lease):
                    nursery.start_soon(self._asking.acquire, self._party, [lease])
            return True
        return False
