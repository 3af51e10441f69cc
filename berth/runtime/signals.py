"""The process's signals, turned into three calls.

Owns TERM, INT and HUP from the moment it has started. Promises that the first TERM or INT asks for a drain
and the next for a stop at once; that HUP asks for a reload, one at a time, and never kills; that no signal
waits for a reload.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import trio


async def relay_signals(
    *,
    drain: Callable[[], None],
    stop: Callable[[int], None],
    reload: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs until cancelled. `stop` is told the number of the signal. `reload` must not raise."""
    # Set under the receiver, so that a HUP is harmless also once the receiver has closed again.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wanted, asked = trio.open_memory_channel[None](1)

    async def reload_when_asked() -> None:
        async for _ in asked:
            await reload()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reload_when_asked)
            task_status.started()
            await _dispatch(received, drain, stop, wanted)


async def _dispatch(
    received: AsyncIterator[int],
    drain: Callable[[], None],
    stop: Callable[[int], None],
    reload_wanted: trio.MemorySendChannel[None],
) -> None:
    draining = False
    async for number in received:
        if number == signal.SIGHUP:
            try:
                reload_wanted.send_nowait(None)
            except trio.WouldBlock:
                pass  # one is waiting already, and will see whatever this one would
        elif draining:
            stop(number)
        else:
            draining = True
            drain()


def not_ignored(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those that whoever started this process has not made it ignore: nohup, a shell's background job."""
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
