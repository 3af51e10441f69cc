"""One run of a command under leases that are held.

Owns the command from its start to the end of the last process it started: its environment, its limit, the
signals it gets, and how it is stopped when a lease is lost. Promises that the limit follows every renewal,
so that the guard ends the command in time also while this process is paused. Does not acquire or release.
"""

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from berth.cli.hold_state import StateFile, variables
from berth.cli.output import printable, talk
from berth.client import Held
from berth.runtime.child import Child, open_child
from berth.runtime.clock import MICROSECONDS, SystemClock
from berth.runtime.supervise import alongside

KILL_SECONDS = 0.5


def kill_seconds(ttl_seconds: float) -> float:
    """The time before a tenure's end that is kept for the killing itself."""
    return min(KILL_SECONDS, ttl_seconds / 16)


def stop_budget_seconds(ttl_seconds: float, grace_seconds: float) -> float:
    """How long before a tenure's end the command is told to stop: never over a quarter of the ttl."""
    return min(grace_seconds + kill_seconds(ttl_seconds), ttl_seconds / 4)


def grace_that_fits(ttl_seconds: float, grace_seconds: float) -> float:
    """How much of a grace is left when nothing is heard until the last."""
    return stop_budget_seconds(ttl_seconds, grace_seconds) - kill_seconds(ttl_seconds)


class Run:
    """One run. `started` is true from when the command is there to be signalled."""

    def __init__(self, command: Sequence[str], held: Sequence[Held], *, ttl: float, grace: float) -> None:
        self._command = command
        self._held = held
        self._kill_seconds = kill_seconds(ttl)
        self._grace_seconds = grace
        self._clock = SystemClock()
        self._child: Child | None = None
        self._told_to_end = trio.Event()

    @property
    def started(self) -> bool:
        return self._child is not None

    async def to_the_end(self) -> int:
        """The command's exit code, once nothing of it is left.

        Cancelled, it stops the command first. Raises LeaseLost when the command ended because, or after, the
        lease was lost; ChildRemains when something of it may still run; OSError and trio.TooSlowError when
        it could not be started.
        """
        with TemporaryDirectory(prefix="berth-hold-") as directory:
            state = StateFile(Path(directory) / "state.json", self._held, self._clock)
            state.write()
            env = {**os.environ, **variables(self._held, state)}
            async with open_child(self._command, env=env, until_us=self._until_us()) as child:
                self._child = child
                followers = [partial(self._follow, one, child, state) for one in self._held]
                async with alongside(*followers, partial(self._kill_after_grace, child)):
                    code = await self._attend(child, state)
        for one in self._held:
            one.check()  # what the guard has ended while this process was paused was lost
        return code

    def forward(self, number: int) -> None:
        """Pass a signal on to the command, which then has the grace to end; a second one kills it."""
        assert self._child is not None
        self._child.signal(signal.SIGKILL if self._told_to_end.is_set() else signal.Signals(number))
        self._child.signal(signal.SIGCONT)
        self._told_to_end.set()

    async def _attend(self, child: Child, state: StateFile) -> int:
        try:
            return await child.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                self._bring_up_to_date(child, state)
                await child.stop(grace_seconds=self._grace_seconds)  # or less: the guard keeps the limit
            raise

    async def _follow(self, held: Held, child: Child, state: StateFile) -> None:
        """Keep the command's limit and its file in step with what is heard of one lease."""
        while True:
            news = held.news
            self._bring_up_to_date(child, state)
            await news.wait()

    def _bring_up_to_date(self, child: Child, state: StateFile) -> None:
        until_us = self._until_us()
        if until_us is not None:
            child.run_until(until_us)
        try:
            state.write()
        except OSError as fault:
            # The old state stands, with an earlier end: a reader stops too soon, never too late.
            say(f"{state.path} cannot be written: {fault.strerror}")

    async def _kill_after_grace(self, child: Child) -> None:
        await self._told_to_end.wait()
        await trio.sleep(self._grace_seconds)
        child.signal(signal.SIGKILL)

    def _until_us(self) -> int | None:
        """When the guard is to kill everything, on the boot clock; None when only the server ends a lease."""
        ends = [one.over_in() for one in self._held if one.holding.deadline]
        if not ends:
            return None
        return self._clock.boot_us() + int((min(ends) - self._kill_seconds) * MICROSECONDS)


def say(text: str) -> None:
    """A line on stderr beside the command's own. That nobody reads it any more stops nothing."""
    try:
        talk(f"berth: {printable(text)}")
    except OSError:
        pass
