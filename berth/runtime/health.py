"""Whether this process is ready, asked often and answered cheaply.

Owns the gate in front of one probe. Promises that a burst of questions costs one probe, that no question
waits longer than the probe's own limit, and that a question given up by its asker harms nobody else's. Does
not know what is probed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

FRESH_SECONDS = 1.0
PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Ready, or the reason why not, which is for the log and not for the wire. `degraded` is what is amiss
    though it is ready, for both.
    """

    ok: bool
    reason: str = ""
    degraded: str = ""


Check = Callable[[], Awaitable[Readiness]]


class ReadyGate:
    """A check over a probe: a coroutine function that returns when all is well and raises when it is not.

    The probe runs in `nursery`, not in the task that asks. Its result, either way, is kept for FRESH_SECONDS.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]], nursery: trio.Nursery) -> None:
        self._probe = probe
        self._nursery = nursery
        self._result = Readiness(False, "not probed yet")
        self._fresh_until = -float("inf")
        self._probing: trio.Event | None = None

    async def __call__(self) -> Readiness:
        if trio.current_time() < self._fresh_until:
            return self._result
        if self._probing is None:
            self._probing = trio.Event()
            self._nursery.start_soon(self._run, self._probing)
        await self._probing.wait()
        return self._result

    async def _run(self, done: trio.Event) -> None:
        self._result = Readiness(False, "stopping")
        try:
            self._result = await self._ask()
        finally:
            self._fresh_until = trio.current_time() + FRESH_SECONDS
            self._probing = None
            done.set()

    async def _ask(self) -> Readiness:
        try:
            with trio.fail_after(PROBE_SECONDS):
                await self._probe()
        except trio.TooSlowError:
            return Readiness(False, f"no answer within {PROBE_SECONDS:g} s")
        except Exception as fault:  # noqa: BLE001  whatever a probe raises means that it is not ready
            return Readiness(False, f"{type(fault).__name__}: {fault}")
        return Readiness(True)
