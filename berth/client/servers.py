"""Servers: one call, tried over several base URLs within one deadline.

Owns which server is asked next, when, and for how long. Promises bounded tries, each server its share of the
time, and a pause between rounds over the servers. What the tries amount to is not decided here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import Generic, cast

import trio

from berth.client.answers import Answer, Done, NotDone, Reader, Refused, ResultT, Unclear, judged
from berth.client.keys import ApiKey
from berth.client.tries import Tries
from berth.config import Secret
from berth.runtime import http
from berth.runtime.retry import backoff_seconds
from berth.wire.routes import Operation

ROUNDS = 4
"""How often each server is asked at most."""

FIRST_PAUSE_SECONDS = 0.1
PAUSE_MAX_SECONDS = 1.0
LINES = "application/x-ndjson"
RETRY_AFTER_MAX_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Call(Generic[ResultT]):
    """One operation with everything that it sends, and the reader of its reply.

    A server may take `wait_seconds` before it answers; `body` is told what is left of them at each try. One
    with `line_seconds` has JSON lines for its result, with no longer silence between two; then `read` judges
    what is something else.
    """

    operation: Operation
    target: str
    read: Reader[ResultT]
    body: Callable[[int], bytes] | None = None
    wait_seconds: int = 0
    line_seconds: float | None = None


class Servers:
    """The servers of one service, the one that answered last first."""

    def __init__(
        self,
        urls: tuple[str, ...],
        channel: http.Channel,
        key: ApiKey | None,
        *,
        timeout_seconds: float,
        rng: Random,
    ) -> None:
        self._urls = urls
        self._channel = channel
        self._key = key
        self._timeout_seconds = timeout_seconds
        self._rng = rng
        self._first = 0

    async def ask(self, call: Call[ResultT]) -> ResultT:
        """The believed reply. Raises ApiError, Unreachable or OutcomeUnknown, within the deadline."""
        # A caller in more of a hurry than the client: each server still gets its share.
        started = trio.current_time()
        deadline = min(started + self._timeout_seconds, trio.current_effective_deadline()) + call.wait_seconds
        tries = Tries(call.operation)
        pauses = backoff_seconds(self._rng, first_seconds=FIRST_PAUSE_SECONDS, cap_seconds=PAUSE_MAX_SECONDS)
        for rounds_left in reversed(range(ROUNDS)):
            done = await self._round(call, tries, started, deadline)
            if done is not None:
                return done.value
            asked_seconds = min(tries.asked_pause_seconds(), RETRY_AFTER_MAX_SECONDS)
            pause_seconds = max(next(pauses), asked_seconds)
            if not rounds_left or trio.current_time() + pause_seconds >= deadline:
                break
            await trio.sleep(pause_seconds)
        raise tries.fault()

    async def _round(
        self, call: Call[ResultT], tries: Tries, started: float, deadline: float
    ) -> Done[ResultT] | None:
        """Asks each server once, until one does it; a silent one takes no more than its share of the time.

        What is left of a wait is no part of the time that is shared: whoever is asked gets all of it.
        """
        tries.begin_round()
        count = len(self._urls)
        order = [(self._first + offset) % count for offset in range(count)]
        for asked, place in enumerate(order):
            now = trio.current_time()
            wait_seconds = max(0, ceil(started + call.wait_seconds - now))
            until = now + wait_seconds + (deadline - now - wait_seconds) / (count - asked)
            answer = await self._try(call, self._urls[place], started, until, wait_seconds)
            if isinstance(answer, Done | Refused):
                self._first = place
            if isinstance(answer, Done):
                return answer
            tries.note(self._urls[place], answer)
        return None

    async def _try(
        self, call: Call[ResultT], url: str, started: float, until: float, wait_seconds: int
    ) -> Answer[ResultT]:
        """One server's answer. It is asked once more after a 401, if the key file has another key by now."""
        key = self._key.current() if self._key else None
        try:
            reply = await self._send(call, url, key, until, wait_seconds)
            if isinstance(reply, http.Reply) and reply.status == 401 and self._key:
                newest = self._key.read_again()
                if newest != key:
                    reply = await self._send(call, url, newest, until, wait_seconds)
        except http.HttpFault as fault:
            # The time since the call began is what people waited, not the last try's share of it.
            waited_seconds = round(trio.current_time() - started, 2)
            text = f"{url} did not answer within {waited_seconds:g} s" if fault.silent else str(fault)
            return NotDone(text) if isinstance(fault, http.NotSent) else Unclear(text)
        if isinstance(reply, http.Lines):
            return Done(cast("ResultT", reply))  # as `Call` has it
        return judged(reply, operation=call.operation, read=call.read, origin=url)

    async def _send(
        self, call: Call[ResultT], url: str, key: Secret | None, until: float, wait_seconds: int
    ) -> http.Reply | http.Lines:
        headers: dict[str, str] = {}
        if key is not None:
            headers["authorization"] = f"Bearer {key.reveal()}"
        if call.body is not None:
            headers["content-type"] = "application/json"
        left_seconds = max(0.0, until - trio.current_time())
        if call.line_seconds is not None:
            return await self._channel.lines(
                call.operation.method,
                url + call.target,
                headers=headers,
                timeout_seconds=left_seconds,
                media_type=LINES,
                line_seconds=call.line_seconds,
            )
        return await self._channel.request(
            call.operation.method,
            url + call.target,
            headers=headers,
            body=call.body and call.body(wait_seconds),
            timeout_seconds=max(float(wait_seconds), left_seconds),
            wait_seconds=wait_seconds,
        )
