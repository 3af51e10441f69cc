"""Pressing: what must not wait for one request that nobody answers is asked once more beside it.

Owns when that is. Promises the first answer there is, and a fault only when nobody is left who could answer.
What is asked for must be the same when it is done twice.
"""

from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeVar

import trio

from berth.kube.faults import KubeFault, Unavailable

AnswerT = TypeVar("AnswerT")


async def pressed(ask: Callable[[], Awaitable[AnswerT]], *, late_seconds: float) -> AnswerT:
    """The answer to the first request, or to a second one, where the first is late. Raises KubeFault."""
    send, receive = trio.open_memory_channel[AnswerT | KubeFault](2)

    async def once() -> None:
        try:
            send.send_nowait(await ask())
        except KubeFault as fault:
            send.send_nowait(fault)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(once)
        asking, late = 1, late_seconds
        while True:
            answer: AnswerT | KubeFault | None = None
            with trio.move_on_after(late) as waiting:
                answer = await receive.receive()
                asking -= 1
            if waiting.cancelled_caught:
                nursery.start_soon(once)
                asking, late = asking + 1, inf
            elif not (isinstance(answer, Unavailable) and asking):
                nursery.cancel_scope.cancel()
                break
    if isinstance(answer, KubeFault):
        raise answer
    assert answer is not None
    return answer
