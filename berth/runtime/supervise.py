"""How a process runs its roles, and how a service outlives the tasks that use it.

Owns the contract between a role and the process entry (`Handle`), the feeding of signals to roles, and the
nurseries whose children are cancelled after their body. Does not choose roles, read options or print.
"""

import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from berth.runtime.health import Check
from berth.runtime.log import Logger
from berth.runtime.signals import relay_signals


@dataclass(frozen=True, slots=True)
class Handle:
    """What a role hands back once it serves.

    `drain` returns when everything in flight has ended or was cut; the role's task then returns by itself.
    `reload` keeps what runs when the new configuration is not valid, and says so in the log.
    """

    addresses: tuple[str, ...]
    drain: Callable[[], Awaitable[None]]
    reload: Callable[[], Awaitable[None]]
    checks: Mapping[str, Check] = field(default_factory=dict[str, Check])


# A role with its options bound: `async def role(*, task_status)`; it calls task_status.started(Handle(...)).
Role = Callable[..., Awaitable[None]]


async def run_roles(roles: Mapping[str, Role], *, logger: Logger) -> int:
    """Starts the roles in order, runs them until all have returned, and gives the process's exit status.

    0 after a drain or when every role ended by itself; 128 + n when a second signal n cut the drain short.
    What a role raises ends the others and is raised from here, out of its exception group when it is alone.
    """
    try:
        return await _Run(logger).run(roles)
    except BaseExceptionGroup as group:
        raise _only(group) from None


class _Run:
    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._handles: dict[str, Handle] = {}
        self._status = 0
        self._all = trio.CancelScope()
        self._drain_asked = trio.Event()
        self._started = False

    async def run(self, roles: Mapping[str, Role]) -> int:
        with self._all:
            async with trio.open_nursery() as control:
                await control.start(self._relay)
                control.start_soon(self._drain_when_asked)
                async with trio.open_nursery() as nursery:
                    for name, role in roles.items():
                        self._handles[name] = await nursery.start(role)
                        self._logger.info(
                            "role started", role=name, addresses=", ".join(self._handles[name].addresses)
                        )
                    self._started = True
                control.cancel_scope.cancel()
        return self._status

    async def _relay(self, *, task_status: trio.TaskStatus[None]) -> None:
        await relay_signals(
            drain=self._drain_asked.set, stop=self._stop, reload=self._reload, task_status=task_status
        )

    async def _drain_when_asked(self) -> None:
        await self._drain_asked.wait()
        self._logger.info("draining", roles=", ".join(self._handles))
        async with trio.open_nursery() as nursery:
            for handle in self._handles.values():
                nursery.start_soon(handle.drain)
        if not self._started:
            self._all.cancel()  # a role that has not started yet has nothing to drain

    def _stop(self, number: int) -> None:
        self._logger.warning("stopping at once", signal=signal.Signals(number).name)
        self._status = 128 + number
        self._all.cancel()

    async def _reload(self) -> None:
        for name, handle in self._handles.items():
            try:
                await handle.reload()
            except Exception:
                self._logger.error("reload failed, the old configuration stays", role=name, exc_info=True)


def _only(group: BaseExceptionGroup[Any]) -> BaseException:
    """The one exception in a group of one, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def open_service_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for what its body depends on: cancelled from outside, it unwinds first, then the children.

    Otherwise as any nursery: it waits for its children, a child's fault cancels the body, a body's fault
    the children.
    """
    opened: list[trio.Nursery] = []
    ready, body_done = trio.Event(), trio.Event()
    guard = trio.CancelScope(shield=True)

    async def host() -> None:
        with guard:
            async with trio.open_nursery() as children:
                opened.append(children)
                ready.set()
                await body_done.wait()

    async with trio.open_nursery() as outer:
        outer.start_soon(host)
        try:
            # Not by start(): whoever is cancelled already would wait for the shielded host, and it for him.
            with trio.CancelScope(shield=True):
                await ready.wait()
            yield opened[0]
        finally:
            guard.shield = False
            body_done.set()


@asynccontextmanager
async def alongside(*tasks: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Runs tasks that the body depends on, as long as it runs; what the body raises comes out as it is."""
    failure: BaseException | None = None
    async with open_service_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)
        try:
            yield
        except (Exception, SystemExit, KeyboardInterrupt) as raised:  # noqa: BLE001 - raised again below
            failure = raised
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
